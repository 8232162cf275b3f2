//! A store with a clock that tests move, and decisions to commit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tenure_adapter_json::{Boot, JsonStore, Options};
use tenure_domain::*;
use tenure_ports::*;

/// One time for wall and machine, moved by hand.
pub(crate) struct Time {
    pub(crate) wall: AtomicU64,
    pub(crate) up: AtomicU64,
    pub(crate) boot: std::sync::Mutex<String>,
}

pub(crate) const START: u64 = 1_764_000_000_000;

impl Time {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { wall: START.into(), up: 1_000_000.into(), boot: std::sync::Mutex::new("b1".into()) })
    }

    pub(crate) fn pass(&self, millis: u64) {
        self.wall.fetch_add(millis, Ordering::SeqCst);
        self.up.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for Time {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
    }
}

impl Boot for Time {
    fn id(&self) -> String {
        self.boot.lock().unwrap().clone()
    }

    fn uptime(&self) -> Millis {
        Millis::new(self.up.load(Ordering::SeqCst))
    }
}

pub(crate) fn options(time: &Arc<Time>) -> Options {
    // A busy machine must not be taken for a lock that is never let go of.
    Options { boot: time.clone(), lock_timeout: Millis::seconds(20), ..Options::default() }
}

pub(crate) fn policy() -> Policy {
    Policy::new(&PolicySettings { max_sessions_per_device: Some(3), ..PolicySettings::default() }).unwrap()
}

pub(crate) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

/// Random enough, and the same in every run.
pub(crate) fn bytes<const N: usize>(seed: u64) -> [u8; N] {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::array::from_fn(|_| {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (x >> 24) as u8
    })
}

pub(crate) fn new_session(seed: u64) -> NewSession {
    let client = ClientInfo::default().with(ClientField::DisplayName, "J\u{fc}rgen's \"phone\"").unwrap();
    NewSession {
        id: bytes(seed),
        family: Family::new(bytes(seed ^ 0xf0f0)),
        rotation_secret: RotationSecret::new(bytes(seed ^ 0x0f0f)),
        subject: Subject::default(),
        client: Arc::new(client),
        terms: policy().terms(None).unwrap(),
        expires_by: None,
    }
}

pub(crate) async fn issue(store: &JsonStore, name: &str, seed: u64) -> Issue {
    let loaded = store.load(&device(name)).await.unwrap();
    let issue = loaded.issue(new_session(seed), &policy(), store.clock().now()).unwrap();
    store.commit(&issue.commit).await.unwrap();
    issue
}

pub(crate) fn cause() -> EndCause {
    EndCause {
        reason: EndReason::Revoked,
        note: Some("lost \u{1f4f1}".parse().unwrap()),
        actor: Some("cli".parse().unwrap()),
    }
}
