//! What a connection is told by its server: whom its listener is for, and when to end.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::router::ClientRouter;
use crate::gateway::Gateway;
use crate::options::Limits;

/// How long a connection on which nothing is asked stays open at shutdown: what its client sends in this moment is answered.
pub(super) const LINGER: Duration = Duration::from_millis(100);
/// How connections are told to end.
#[derive(Clone)]
pub(super) struct Shutdown {
    /// End after the request in progress.
    pub(super) graceful: CancellationToken,
    /// End now.
    pub(super) forced: CancellationToken,
    /// Every connection, also those that became WebSockets.
    pub(super) tasks: TaskTracker,
    pub(super) limits: Limits,
    /// Bytes of heads that have come in part, on all connections.
    pub(super) partial_heads: Arc<AtomicUsize>,
}

/// Whom a listener is for.
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
