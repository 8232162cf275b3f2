//! The state that both listeners of a gateway share.

mod readiness;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tenure_ports::StoreError;
use tenure_service::Sessions;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::options::Options;
use tenure_tower::Enforcer;

use readiness::Readiness;

/// A gateway: the enforcer, the options of the server around it, and the signal to shut down.
pub struct Gateway {
    enforcer: Arc<Enforcer>,
    metrics: Arc<Metrics>,
    options: ArcSwap<Options>,
    readiness: Readiness,
    closing: CancellationToken,
}

impl Gateway {
    /// Makes a gateway of these sessions.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>, options: Options) -> Arc<Self> {
        let metrics = Arc::new(Metrics::new());
        Arc::new(Self {
            enforcer: Enforcer::with_observer(sessions, options.enforcement(), metrics.clone()),
            metrics,
            options: ArcSwap::from_pointee(options),
            readiness: Readiness::default(),
            closing: CancellationToken::new(),
        })
    }

    /// Returns the enforcer.
    #[must_use]
    pub const fn enforcer(&self) -> &Arc<Enforcer> {
        &self.enforcer
    }

    /// Returns the gateway's metrics.
    #[must_use]
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Returns the use cases that the gateway was made with.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        self.enforcer.sessions()
    }

    /// Returns the options in force.
    #[must_use]
    pub fn options(&self) -> Arc<Options> {
        self.options.load_full()
    }

    /// Replaces the options, as far as they can change while the gateway runs. Requests that have begun keep the old ones.
    pub fn set_options(&self, options: Options) {
        self.enforcer.set_config(options.enforcement());
        self.options.store(Arc::new(options));
    }

    /// Checks whether the store answers and would take a change.
    ///
    /// # Errors
    /// [`StoreError`] if it would not.
    pub(crate) async fn check_ready(&self) -> Result<(), StoreError> {
        self.readiness.check(self.sessions()).await
    }

    /// Returns the signal that is cancelled when the gateway shuts down, so that long connections end.
    pub(crate) const fn closing(&self) -> &CancellationToken {
        &self.closing
    }
}
