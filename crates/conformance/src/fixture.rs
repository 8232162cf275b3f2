//! A store under test as two processes have it open, and its clock.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use tenure_domain::Policy;
use tenure_ports::{Clock, SessionRepository};
use tenure_service::Sessions;
use tokio::time::{Instant, sleep};

use crate::doubles::{SeededRandom, TestClock};

/// A store under test, with its clock and the directories or servers that it needs.
pub struct StoreFixture {
    /// The store, as one process has it open.
    pub store: Arc<dyn SessionRepository>,
    /// The same store, as another process has it open.
    pub other: Arc<dyn SessionRepository>,
    /// The store's clock.
    pub clock: Arc<dyn Clock>,
    /// The clock beneath the store's clock, which a test moves.
    pub time: Arc<TestClock>,
    /// The longest time for which `other` may still answer `find` without a change that `store` made.
    pub lag: Duration,
    /// The random source of the sessions that are issued with this fixture.
    pub random: Arc<SeededRandom>,
    /// The directories and servers, which are removed with the fixture.
    _resources: Box<dyn Any + Send + Sync>,
}

impl StoreFixture {
    /// Makes a fixture of two handles of one store, with no lag. `resources` live as long as the fixture.
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

    /// Sets the longest time that a change may take to reach the other process' `find`.
    #[must_use]
    pub fn with_lag(self, lag: Duration) -> Self {
        Self { lag, ..self }
    }

    /// Returns use cases over one of the two handles.
    #[must_use]
    pub fn sessions(&self, store: &Arc<dyn SessionRepository>, policy: Policy) -> Sessions {
        Sessions::new(Arc::clone(store), Arc::clone(&self.clock), self.random.clone(), policy)
    }

    /// Asserts that the other process reads `wanted`: at once, or within the lag.
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
