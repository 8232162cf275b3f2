//! Helpers for tests of the store: a simulated machine, and decisions to commit.

use std::sync::Arc;

use tenure_adapter_json::{JsonStore, Options};
use tenure_conformance::SeededRandom;
use tenure_domain::*;
use tenure_json_test_storage::SimulatedMachine;
use tenure_ports::*;

/// The wall clock of a new machine, in Unix milliseconds.
pub(crate) const START: u64 = 1_764_000_000_000;

/// Makes a machine that has been up for 1,000 seconds.
pub(crate) fn machine() -> Arc<SimulatedMachine> {
    SimulatedMachine::new("b1", Millis::seconds(1_000), Timestamp::from_millis(START))
}

pub(crate) fn options(time: &Arc<SimulatedMachine>) -> Options {
    // The timeout is long, so that a lock on a busy machine does not time out.
    Options { boot: time.clone(), lock_timeout: Millis::seconds(20), ..Options::default() }
}

pub(crate) fn policy() -> Policy {
    Policy::new(&PolicySettings { max_sessions_per_device: Some(3), ..PolicySettings::default() }).unwrap()
}

pub(crate) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

/// Makes bytes that look random, and are the same for the same seed.
pub(crate) fn bytes<const N: usize>(seed: u64) -> [u8; N] {
    SeededRandom::new(seed).bytes()
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
