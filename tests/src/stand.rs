//! What a store is tested on: the store as two processes have it, and the time that it keeps.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tenure_adapter_json::JsonStore;
use tenure_adapter_redis::RedisStore;
use tenure_adapter_redis::test_server::{BUSY, Server, patient};
use tenure_domain::{Millis, Policy};
use tenure_ports::{Backend as _, Clock, SessionRepository};
use tenure_service::Sessions;
use tokio::time::{Instant, sleep};

use crate::model::Model;
use crate::time::{SeededEntropy, TestTime};

/// How long a session kept near may be outdated, and what a busy machine may add.
pub const NEAR: Duration = Duration::from_millis(500).saturating_add(BUSY);

/// A store under test, and all that it needs to live.
pub struct Stand {
    /// The store, as one process has it.
    pub store: Arc<dyn SessionRepository>,
    /// The same store, as another process has it.
    pub other: Arc<dyn SessionRepository>,
    /// The store's time.
    pub clock: Arc<dyn Clock>,
    /// What moves it.
    pub time: Arc<TestTime>,
    /// How long `other` may go on answering `find` as before a change that `store` made.
    pub lag: Duration,
    /// The randomness of everything that is issued here.
    pub random: Arc<SeededEntropy>,
    /// Directories and servers, gone with the stand.
    _kept: Box<dyn Any + Send + Sync>,
}

impl Stand {
    /// A stand for a store that two handles were opened of; `kept` lives as long.
    #[must_use]
    pub fn new(
        store: Arc<dyn SessionRepository>,
        other: Arc<dyn SessionRepository>,
        clock: Arc<dyn Clock>,
        time: Arc<TestTime>,
        kept: impl Any + Send + Sync,
    ) -> Self {
        let random = Arc::new(SeededEntropy::new(1));
        Self { store, other, clock, time, lag: Duration::ZERO, random, _kept: Box::new(kept) }
    }

    /// The reference model.
    pub async fn model() -> Self {
        let time = TestTime::new();
        let model = Model::new(time.clone());
        Self::new(model.clone(), model, time.clone(), time, ())
    }

    /// The JSON store, in a directory of its own, opened twice.
    pub async fn json() -> Self {
        let time = TestTime::new();
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("sessions.jsonl");
        let options = tenure_adapter_json::Options {
            boot: time.clone(),
            // A busy machine must not be taken for a lock that is never let go of.
            lock_timeout: Millis::seconds(20),
            ..tenure_adapter_json::Options::default()
        };
        let open = || JsonStore::open(&path, time.clone(), options.clone()).unwrap();
        let store = open();
        Self::new(store.clone(), open(), store.clock(), time.clone(), folder)
    }

    /// Redis, with a server of its own and two connections.
    pub async fn redis() -> Self {
        let server = Server::start();
        Self::redis_at(patient(&server.url()), server).await
    }

    /// The same with sessions kept in memory, which may be behind.
    pub async fn redis_near() -> Self {
        let server = Server::start();
        let options = tenure_adapter_redis::Options { near_cache: true, ..patient(&server.url()) };
        Self::redis_at(options, server).await.with_lag(NEAR)
    }

    /// Redis as these options reach it, connected twice; `kept` is what answers there.
    pub async fn redis_at(options: tenure_adapter_redis::Options, kept: impl Any + Send + Sync) -> Self {
        let time = TestTime::new();
        let connect = || RedisStore::connect_keeping_time(options.clone(), time.clone());
        let (store, other) = (connect().await.unwrap(), connect().await.unwrap());
        Self::new(store, other, time.clone(), time.clone(), kept)
    }

    /// The same, where a change may reach the other process' `find` only after some time.
    #[must_use]
    pub fn with_lag(self, lag: Duration) -> Self {
        Self { lag, ..self }
    }

    /// The use cases over one of the two handles.
    #[must_use]
    pub fn sessions(&self, store: &Arc<dyn SessionRepository>, policy: Policy) -> Sessions {
        Sessions::new(Arc::clone(store), Arc::clone(&self.clock), self.random.clone(), policy)
    }

    /// Asserts what the other process reads: at once, or within the lag where the store has one.
    #[track_caller]
    pub fn seen<T: PartialEq + std::fmt::Debug>(
        &self,
        wanted: T,
        read: impl AsyncFn(&dyn SessionRepository) -> T,
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let deadline = Instant::now() + self.lag;
            loop {
                let got = read(&*self.other).await;
                if got == wanted {
                    return;
                }
                assert!(Instant::now() < deadline, "at {caller}: the other process reads {got:?}, not {wanted:?}");
                sleep(Duration::from_millis(2)).await;
            }
        }
    }
}
