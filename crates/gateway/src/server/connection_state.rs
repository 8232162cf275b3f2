//! The state of one connection, as far as others than the connection itself need it.

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
    /// How many heads came before it.
    pub(super) head: u64,
    /// What its client is told.
    pub(super) text: &'static str,
}

/// How much a connection would be missed; the least is asked to leave first, and of those the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Usage {
    /// It never asked anything.
    Unused,
    /// It waits for its next request.
    Idle,
    /// It asks without having proved that it may.
    Unauthenticated,
    /// It stays.
    Busy,
}

/// A connection and what goes on there.
pub(super) struct ConnectionState {
    pub(super) connection: Connection,
    /// Whoever asks here has to prove that he may.
    needs_authentication: bool,
    /// Somebody has.
    pub(super) authenticated: AuthenticatedFlag,
    /// Requests that are being answered.
    pub(super) in_progress: AtomicU32,
    /// Requests that there ever were.
    pub(super) begun: AtomicU64,
    /// The head that is refused, and all after it.
    ambiguous: OnceLock<AmbiguousRequest>,
    /// It speaks another protocol than HTTP by now.
    pub(super) switched: AtomicBool,
    /// It ends at once, whatever it waits for.
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

    /// How much it would be missed.
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

    /// Has it end at once.
    pub(super) fn close(&self) {
        self.end.cancel();
    }

    /// Whether it ends.
    pub(super) fn is_closing(&self) -> bool {
        self.end.is_cancelled()
    }

    #[cfg(test)]
    pub(super) fn begin_for_test(self: &Arc<Self>) -> impl Drop + use<> {
        RequestInProgress::begin(self).0
    }

    /// Whether heads of requests are looked for in what comes in.
    pub(super) fn is_scanned(&self) -> bool {
        !self.switched.load(Ordering::Relaxed) && self.ambiguous.get().is_none()
    }

    /// Whether it speaks another protocol than HTTP by now.
    pub(super) fn has_switched(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
    }

    /// Has this head refused, and whatever would come after it.
    pub(super) fn refuse(&self, ambiguous: AmbiguousRequest) {
        let _ = self.ambiguous.set(ambiguous);
    }

    /// Why the request that began as the `nth` is refused.
    pub(super) fn refusal(&self, nth: u64) -> Option<Problem> {
        let ambiguous = self.ambiguous.get().filter(|ambiguous| ambiguous.head <= nth)?;
        Some(Problem::BadRequest(ambiguous.text.to_owned()))
    }

    /// Ready where a request is in progress, or more have begun than so many. Asked whenever the connection moved: it wakes
    /// nobody by itself.
    pub(super) async fn has_request(&self, begun: u64) {
        poll_fn(|_| {
            let busy = self.in_progress.load(Ordering::Relaxed) > 0 || self.begun.load(Ordering::Relaxed) > begun;
            if busy { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// A request in progress, to the last byte of its answer.
pub(super) struct RequestInProgress(Arc<ConnectionState>);

impl RequestInProgress {
    /// Begins one; also how many there were before it.
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
