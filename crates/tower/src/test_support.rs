//! The use cases that the tests of this crate enforce.

use tenure_adapter_memory::MemoryStore;
use tenure_conformance::{RuntimeClock, SessionsFixture};
use tenure_domain::{Millis, Policy, PolicySettings};

/// Use cases whose clock goes with the runtime's paused time.
pub(crate) fn sessions_fixture() -> SessionsFixture {
    fixture_with(Policy::default())
}

/// The same, where a session ends when it is not used for this time.
pub(crate) fn idling_fixture(timeout: Millis) -> SessionsFixture {
    let settings = PolicySettings { idle_timeout: Some(timeout), ..PolicySettings::default() };
    fixture_with(Policy::new(&settings).unwrap())
}

fn fixture_with(policy: Policy) -> SessionsFixture {
    let clock = RuntimeClock::new();
    SessionsFixture::new(MemoryStore::new(clock.clone()), clock, policy)
}
