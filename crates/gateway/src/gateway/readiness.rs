//! The readiness check: the store is asked seldom, however often clients ask.

use std::time::{Duration, Instant};

use tenure_ports::StoreError;
use tenure_service::Sessions;
use tokio::sync::Mutex;

/// How long an answer of the store is reused. Clients need no secret to ask, so asking more often must not burden the
/// store.
const CACHE_TIME: Duration = Duration::from_millis(500);

/// The latest answer of the store, and when it came.
#[derive(Default)]
pub(crate) struct Readiness(Mutex<Option<(Instant, Result<(), StoreError>)>>);

impl Readiness {
    /// Whether the store answers and would take a change.
    ///
    /// # Errors
    /// [`StoreError`] if it would not.
    pub(crate) async fn check(&self, sessions: &Sessions) -> Result<(), StoreError> {
        let mut latest = self.0.lock().await;
        match &*latest {
            Some((at, answer)) if at.elapsed() < CACHE_TIME => answer.clone(),
            _ => {
                let answer = sessions.check_writable().await;
                *latest = Some((Instant::now(), answer.clone()));
                answer
            }
        }
    }
}
