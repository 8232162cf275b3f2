//! The stores that the conformance suite runs on.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tenure_adapter_json::{Boot, JsonStore};
use tenure_adapter_memory::MemoryStore;
use tenure_adapter_redis::RedisStore;
use tenure_conformance::{StoreFixture, TestClock};
use tenure_domain::Millis;
use tenure_ports::Backend as _;
use tenure_redis_test_server::{BUSY, Server, patient};

/// How long a session in the client cache may be outdated, and what a busy machine may add.
pub const CACHE_LAG: Duration = Duration::from_millis(500).saturating_add(BUSY);

/// A machine whose run began an hour before the test's clock.
#[derive(Debug)]
pub struct TestBoot(pub Arc<TestClock>);

impl Boot for TestBoot {
    fn id(&self) -> String {
        "testboot".to_owned()
    }

    fn uptime(&self) -> Millis {
        Millis::new(Millis::hours(1).get() + self.0.elapsed().get())
    }
}

/// The store in memory.
pub async fn memory() -> StoreFixture {
    let time = TestClock::new();
    let store = MemoryStore::new(time.clone());
    StoreFixture::new(store.clone(), store, time.clone(), time, ())
}

/// The JSON store, in a directory of its own, opened twice.
pub async fn json() -> StoreFixture {
    let time = TestClock::new();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("sessions.jsonl");
    let options = tenure_adapter_json::Options {
        boot: Arc::new(TestBoot(time.clone())),
        // A busy machine must not be taken for a lock that is never let go of.
        lock_timeout: Millis::seconds(20),
        ..tenure_adapter_json::Options::default()
    };
    let open = || JsonStore::open(&path, time.clone(), options.clone()).unwrap();
    let store = open();
    StoreFixture::new(store.clone(), open(), store.clock(), time.clone(), folder)
}

/// Redis, with a server of its own and two connections.
pub async fn redis() -> StoreFixture {
    let server = Server::start();
    redis_at(patient(&server.url()), server).await
}

/// The same with sessions kept in memory, which may be behind.
pub async fn redis_near() -> StoreFixture {
    let server = Server::start();
    let options = tenure_adapter_redis::Options { near_cache: true, ..patient(&server.url()) };
    redis_at(options, server).await.with_lag(CACHE_LAG)
}

/// Redis as these options reach it, connected twice; `kept` is what answers there.
pub async fn redis_at(options: tenure_adapter_redis::Options, kept: impl Any + Send + Sync) -> StoreFixture {
    let time = TestClock::new();
    let connect = || RedisStore::connect_with_clock(options.clone(), time.clone());
    let (store, other) = (connect().await.unwrap(), connect().await.unwrap());
    StoreFixture::new(store, other, time.clone(), time.clone(), kept)
}
