//! The gate: what every request of every listener goes through.

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::HeaderMap;
use tenure_domain::Refusal;
use tenure_service::{Sessions, Usage, Verified};

use crate::credential::Credential;
use crate::live::Live;
use crate::metrics::{Metrics, Outcome};
use crate::options::Options;
use crate::problem::{Problem, Refused};

/// The use cases and how they are enforced, shared by all connections.
pub struct Gate {
    sessions: Arc<Sessions>,
    options: ArcSwap<Options>,
    metrics: Metrics,
    live: Live,
}

impl Gate {
    /// A gate over these use cases.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>, options: Options) -> Arc<Self> {
        let live = Live::new(Arc::clone(&sessions), options.store_loss_grace);
        Arc::new(Self { sessions, options: ArcSwap::from_pointee(options), metrics: Metrics::new(), live })
    }

    /// The use cases.
    #[must_use]
    pub const fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// What is counted.
    #[must_use]
    pub const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The connections that last.
    #[must_use]
    pub const fn live(&self) -> &Live {
        &self.live
    }

    /// The options in force.
    #[must_use]
    pub fn options(&self) -> Arc<Options> {
        self.options.load_full()
    }

    /// Goes by other options from now on, as far as they can change while it runs.
    pub fn set_options(&self, options: Options) {
        self.live.set_grace(options.store_loss_grace);
        self.options.store(Arc::new(options));
    }

    /// The session that a request presents the token of; counts as its use.
    ///
    /// # Errors
    /// [`Problem`].
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<(Verified, Credential), Problem> {
        let start = Instant::now();
        let outcome = self.judge(headers).await;
        self.metrics.verified(start.elapsed());
        match &outcome {
            Ok(_) => self.metrics.passed(Outcome::Admitted),
            Err(problem) => self.metrics.answered(problem),
        }
        outcome
    }

    async fn judge(&self, headers: &HeaderMap) -> Result<(Verified, Credential), Problem> {
        let credential = Credential::of(headers).map_err(|error| Problem::BadRequest(error.to_string()))?;
        let credential = credential.ok_or(Problem::Unauthorized(Refused::Missing))?;
        let token = credential.token.as_ref().ok_or(Problem::from(Refusal::Malformed))?;
        let verified = self.sessions.verify(token, Usage::Counts).await?;
        Ok((verified, credential))
    }
}
