//! The state of one connection that other parts of the server read.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use tokio_util::sync::CancellationToken;

use crate::admin::AuthenticatedFlag;
use tenure_tower::Problem;
use tenure_tower::request::peer::Connection;

/// A head that servers may read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AmbiguousRequest {
    /// The number of heads that came before it.
    pub(super) head: u64,
    /// The problem that its client gets.
    pub(super) text: &'static str,
}

/// How much a connection matters. Those that matter least are closed first, the oldest of them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Usage {
    /// It has never sent a request.
    Unused,
    /// It waits for its next request.
    Idle,
    /// Its request is in progress, and it has not authenticated.
    Unauthenticated,
    /// It is not closed.
    Busy,
}

/// A connection and its state.
pub(super) struct ConnectionState {
    pub(super) connection: Connection,
    /// Whether clients of this listener have to authenticate.
    needs_authentication: bool,
    /// Whether a client of this connection has authenticated.
    pub(super) authenticated: AuthenticatedFlag,
    /// The number of requests in progress.
    pub(super) in_progress: AtomicU32,
    /// The number of requests so far.
    pub(super) begun: AtomicU64,
    /// The head that is refused, and every one after it.
    ambiguous: OnceLock<AmbiguousRequest>,
    /// Whether the connection has switched to another protocol.
    pub(super) switched: AtomicBool,
    /// Ends the connection at once, whatever it waits for.
    pub(super) end: CancellationToken,
}

impl ConnectionState {
    pub(super) fn new(connection: Connection, needs_authentication: bool) -> Arc<Self> {
        Arc::new(Self {
            connection,
            needs_authentication,
            authenticated: AuthenticatedFlag::default(),
            in_progress: AtomicU32::new(0),
            begun: AtomicU64::new(0),
            ambiguous: OnceLock::new(),
            switched: AtomicBool::new(false),
            end: CancellationToken::new(),
        })
    }

    /// The address at its other end.
    pub(super) const fn remote(&self) -> IpAddr {
        self.connection.remote()
    }

    /// Returns how much the connection matters.
    pub(super) fn usage(&self) -> Usage {
        if self.switched.load(Ordering::Relaxed) {
            Usage::Busy
        } else if self.in_progress.load(Ordering::Relaxed) > 0 {
            if self.needs_authentication && !self.authenticated.is_set() { Usage::Unauthenticated } else { Usage::Busy }
        } else if self.begun.load(Ordering::Relaxed) > 0 {
            Usage::Idle
        } else {
            Usage::Unused
        }
    }

    /// Ends the connection at once.
    pub(super) fn close(&self) {
        self.end.cancel();
    }

    /// Whether the connection is to end.
    pub(super) fn is_closing(&self) -> bool {
        self.end.is_cancelled()
    }

    #[cfg(test)]
    pub(super) fn begin_for_test(self: &Arc<Self>) -> impl Drop + use<> {
        RequestInProgress::begin(self).0
    }

    /// Whether received bytes are checked for heads of requests.
    pub(super) fn is_scanned(&self) -> bool {
        !self.switched.load(Ordering::Relaxed) && self.ambiguous.get().is_none()
    }

    /// Whether the connection has switched to another protocol.
    pub(super) fn has_switched(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
    }

    /// Refuses this head, and every one after it.
    pub(super) fn refuse(&self, ambiguous: AmbiguousRequest) {
        let _ = self.ambiguous.set(ambiguous);
    }

    /// Returns the problem if the `nth` request is refused.
    pub(super) fn refusal(&self, nth: u64) -> Option<Problem> {
        let ambiguous = self.ambiguous.get().filter(|ambiguous| ambiguous.head <= nth)?;
        Some(Problem::BadRequest(ambiguous.text.to_owned()))
    }

    /// Ready if a request is in progress, or if more than `seen` have begun. It does not wake its task: it is polled
    /// whenever the connection makes progress.
    pub(super) async fn has_request(&self, begun: u64) {
        poll_fn(|_| {
            let busy = self.in_progress.load(Ordering::Relaxed) > 0 || self.begun.load(Ordering::Relaxed) > begun;
            if busy { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// A request in progress, until the last byte of its response.
pub(super) struct RequestInProgress(Arc<ConnectionState>);

impl RequestInProgress {
    /// Begins a request. Also returns how many came before it.
    pub(super) fn begin(state: &Arc<ConnectionState>) -> (Self, u64) {
        state.in_progress.fetch_add(1, Ordering::Relaxed);
        let before = state.begun.fetch_add(1, Ordering::Relaxed);
        (Self(state.clone()), before)
    }
}

impl Drop for RequestInProgress {
    fn drop(&mut self) {
        self.0.in_progress.fetch_sub(1, Ordering::Relaxed);
    }
}
