//! What a server tells its connections: the role of the listener, and when to end.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::router::ClientRouter;
use crate::gateway::Gateway;
use crate::options::Limits;

/// How long an idle connection stays open at shutdown, so that a request which is on its way is still answered.
pub(super) const LINGER: Duration = Duration::from_millis(100);
/// The signals that tell connections to end.
#[derive(Clone)]
pub(super) struct Shutdown {
    /// End after the request in progress.
    pub(super) graceful: CancellationToken,
    /// End now.
    pub(super) forced: CancellationToken,
    /// Every connection, also those that became WebSockets.
    pub(super) tasks: TaskTracker,
    pub(super) limits: Limits,
    /// The bytes of incomplete heads on all connections.
    pub(super) partial_heads: Arc<AtomicUsize>,
}

/// The role of a listener.
#[derive(Clone)]
pub(super) enum Role {
    Clients(Arc<ClientRouter>),
    Operators(Arc<Gateway>, Router),
}

impl Role {
    pub(super) fn gateway(&self) -> &Gateway {
        match self {
            Self::Clients(router) => router.gateway(),
            Self::Operators(gateway, _) => gateway,
        }
    }
}
