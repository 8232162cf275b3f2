//! The conformance suite over the store in memory.

use tenure_adapter_memory::MemoryStore;
use tenure_conformance::{StoreFixture, TestClock, conformance};

async fn memory() -> StoreFixture {
    let clock = TestClock::new();
    let store = MemoryStore::new(clock.clone());
    StoreFixture::new(store.clone(), store, clock.clone(), clock, ())
}

conformance!(in_memory, super::memory);
