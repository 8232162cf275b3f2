//! The use cases in this process, on the store of a home; and exports of sessions that no store has issued.

use std::fmt::Write as _;
use std::sync::Arc;

use tenure_conformance::{FailingRandom, SystemClock};
use tenure_domain::{ClientInfo, Device, DeviceId, Family, Millis, NewSession, Policy, RotationSecret, Subject};
use tenure_ports::{Backend as _, Clock, SessionRepository};
use tenure_service::{SessionRecord, Sessions};

use crate::support::home::Home;

/// The use cases in this process, which stands for a long-lived one.
pub(crate) struct InProcess {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) sessions: Sessions,
}

/// Opens the store of `home` in this process.
pub(crate) fn open(home: &Home) -> InProcess {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sessions = runtime.block_on(async {
        let (repository, clock): (Arc<dyn SessionRepository>, Arc<dyn Clock>) = match home.redis_url() {
            Some(url) => {
                let options = tenure_redis_test_server::patient(&url);
                let store = tenure_adapter_redis::RedisStore::connect(options, Arc::new(SystemClock)).await.unwrap();
                (store.clone(), store.clock())
            }
            None => {
                let lock_timeout = Millis::minutes(1);
                let options = tenure_adapter_json::Options { lock_timeout, ..Default::default() };
                let store =
                    tenure_adapter_json::JsonStore::open(&home.store(), Arc::new(SystemClock), options).unwrap();
                (store.clone(), store.clock())
            }
        };
        Sessions::new(repository, clock, Arc::new(FailingRandom), Policy::default())
    });
    InProcess { runtime, sessions }
}

/// Returns an export of sessions, each on a device of its own.
pub(crate) fn export_of(count: u32) -> String {
    export_on((0..count).map(|number| format!("device-{number}")), Subject::default().as_str())
}

/// Returns an export with a session on each of these devices, whose names only have to be valid in earlier releases.
pub(crate) fn export_on(devices: impl IntoIterator<Item = String>, subject: &str) -> String {
    let policy = Policy::default();
    let now = SystemClock.now();
    (0_u32..).zip(devices).fold(String::new(), |mut text, (number, device)| {
        let mut random = [7; 16];
        random[..4].copy_from_slice(&number.to_be_bytes());
        let enrolment = NewSession {
            id: random[..12].try_into().unwrap(),
            family: Family::new(random),
            rotation_secret: RotationSecret::new(random),
            subject: Subject::recorded(subject).unwrap(),
            client: Arc::new(ClientInfo::default()),
            terms: policy.terms(None).unwrap(),
            expires_by: None,
        };
        let device = Device::unknown(DeviceId::recorded(&device).unwrap());
        let session = device.issue(enrolment, &policy, now).unwrap().session;
        let line = serde_json::to_string(&SessionRecord::new(&session, now)).unwrap();
        writeln!(text, "{line}").unwrap();
        text
    })
}
