//! The enforcer: the state that all requests and connections share.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tenure_domain::Refusal;
use tenure_service::Sessions;
use tokio_util::task::TaskTracker;

use super::client_recorder::ClientRecorder;
use super::config::EnforcementConfig;
use super::connection_registry::ConnectionRegistry;
use super::lockout::{LockoutScope, Lockouts};
use super::observer::{Observer, Outcome, observe_problem};
use super::problem::Problem;
use super::request::peer::Peer;
use super::response_guard::ResponseGuards;

/// How often recorded activity is written to the store.
const FLUSH_INTERVAL: Duration = Duration::from_secs(1);

/// Enforces the rules of sessions on requests and connections. It holds the use cases, the settings in force, the
/// counts of failed attempts, and every open connection.
pub struct Enforcer {
    config: ArcSwap<EnforcementConfig>,
    observer: Arc<dyn Observer>,
    guards: Arc<ResponseGuards>,
    lockouts: Lockouts,
    client_recorder: ClientRecorder,
    tasks: TaskTracker,
    sessions: Arc<Sessions>,
}

impl Enforcer {
    /// Makes an enforcer of these sessions without an observer.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>, config: EnforcementConfig) -> Arc<Self> {
        Self::with_observer(sessions, config, Arc::new(()))
    }

    /// Makes an enforcer of these sessions that reports to an observer.
    #[must_use]
    pub fn with_observer(sessions: Arc<Sessions>, config: EnforcementConfig, observer: Arc<dyn Observer>) -> Arc<Self> {
        let connections = ConnectionRegistry::new(Arc::clone(&sessions), config.store_loss_grace);
        let tasks = TaskTracker::new();
        Arc::new(Self {
            config: ArcSwap::from_pointee(config),
            observer,
            guards: Arc::new(ResponseGuards::new(connections)),
            lockouts: Lockouts::new(),
            client_recorder: ClientRecorder::new(Arc::clone(&sessions), tasks.clone()),
            tasks,
            sessions,
        })
    }

    /// Returns the use cases that the enforcer was made with.
    #[must_use]
    pub const fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Reports the outcome of a request that this enforcer did not decide on.
    pub fn record_outcome(&self, outcome: Outcome) {
        self.observer.on_request(outcome);
    }

    /// Reports a request that is answered with a problem which this enforcer did not return.
    pub fn record_problem(&self, problem: &Problem) {
        observe_problem(&*self.observer, problem);
    }

    pub(crate) fn observer(&self) -> &dyn Observer {
        &*self.observer
    }

    /// Returns the registry of the connections that outlive a request.
    #[must_use]
    pub fn connections(&self) -> &ConnectionRegistry {
        self.guards.connections()
    }

    /// Returns the guards of request and response bodies.
    pub const fn guards(&self) -> &Arc<ResponseGuards> {
        &self.guards
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> Arc<EnforcementConfig> {
        self.config.load_full()
    }

    /// Replaces the settings. Requests that have begun keep the old ones.
    pub fn set_config(&self, config: EnforcementConfig) {
        self.connections().set_grace(config.store_loss_grace);
        self.config.store(Arc::new(config));
    }

    /// Returns the counts of failed attempts, by purpose and address.
    pub const fn lockouts(&self) -> &Lockouts {
        &self.lockouts
    }

    /// Returns the recorder of where sessions are used from.
    pub(crate) const fn client_recorder(&self) -> &ClientRecorder {
        &self.client_recorder
    }

    /// Returns the background tasks that a shutdown waits for.
    pub const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Writes recorded activity to the store every second until `end` is ready, and then the rest. If the store fails,
    /// no request is refused: the activity is kept and written later. Runs beside the server, once per enforcer.
    pub async fn run_flush_loop(&self, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        let (mut failing, mut last) = (false, false);
        while !last {
            last = tokio::time::timeout(FLUSH_INTERVAL, end.as_mut()).await.is_ok();
            match self.sessions.flush_activity().await {
                Ok(touches) => {
                    self.observer.on_flush(touches);
                    failing = false;
                }
                Err(error) => {
                    self.observer.on_store_failure();
                    if !failing || last {
                        tracing::warn!(%error, "the store does not accept activity now: it will be written later");
                    }
                    failing = true;
                }
            }
        }
    }

    /// Counts a refused token that may be a guess, and returns the problem that its client gets. A token with a
    /// `fingerprint` that was counted before does not count again.
    pub fn count_refusal(
        &self,
        scope: LockoutScope,
        peer: &Peer,
        refusal: Refusal,
        fingerprint: Option<u32>,
    ) -> Problem {
        let guesses = self.lockouts.of(scope);
        let remaining = if refusal.may_be_guess() { guesses.record(peer, fingerprint) } else { None };
        remaining.map_or(refusal.into(), Problem::too_many)
    }
}
