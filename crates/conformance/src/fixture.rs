//! A store under test as two processes have it, and the time that it goes by.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tenure_domain::Policy;
use tenure_ports::{Clock, SessionRepository};
use tenure_service::Sessions;
use tokio::time::{Instant, sleep};

use crate::doubles::{SeededRandom, TestClock};

/// A store under test, and all that it needs to live.
pub struct StoreFixture {
    /// The store, as one process has it.
    pub store: Arc<dyn SessionRepository>,
    /// The same store, as another process has it.
    pub other: Arc<dyn SessionRepository>,
    /// The store's time.
    pub clock: Arc<dyn Clock>,
    /// What moves the store's time.
    pub time: Arc<TestClock>,
    /// How long `other` may keep answering `find` as before a change that `store` made.
    pub lag: Duration,
    /// The random source of everything that is issued here.
    pub random: Arc<SeededRandom>,
    /// Directories and servers, which are removed with the fixture.
    _resources: Box<dyn Any + Send + Sync>,
}

impl StoreFixture {
    /// Makes a fixture of two handles of one store. `resources` live as long as the fixture.
    #[must_use]
    pub fn new(
        store: Arc<dyn SessionRepository>,
        other: Arc<dyn SessionRepository>,
        clock: Arc<dyn Clock>,
        time: Arc<TestClock>,
        resources: impl Any + Send + Sync,
    ) -> Self {
        let random = Arc::new(SeededRandom::new(1));
        Self { store, other, clock, time, lag: Duration::ZERO, random, _resources: Box::new(resources) }
    }

    /// Sets how long a change may take to reach the other process' `find`.
    #[must_use]
    pub fn with_lag(self, lag: Duration) -> Self {
        Self { lag, ..self }
    }

    /// Returns use cases over one of the two handles.
    #[must_use]
    pub fn sessions(&self, store: &Arc<dyn SessionRepository>, policy: Policy) -> Sessions {
        Sessions::new(Arc::clone(store), Arc::clone(&self.clock), self.random.clone(), policy)
    }

    /// Asserts what the other process reads: at once, or within the store's lag.
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
