//! Events of changes to sessions, for caches, watchers and open connections.

use std::pin::Pin;

use futures_core::Stream;
use tenure_domain::{Change, EndReason, SessionId, Timestamp};

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// The session was issued.
    Issued,
    /// The session got a new token.
    Rotated,
    /// The session ended.
    Ended(EndReason),
    /// More is known about the session's client.
    ClientUpdated,
    /// The session came from another store.
    Imported,
    /// The session's record was removed.
    Purged,
}

impl ChangeKind {
    /// Returns the kind of `change`.
    #[must_use]
    pub fn of(change: &Change) -> Self {
        match (change, &change.session().end) {
            (Change::Ended(_), Some(end)) => Self::Ended(end.reason),
            (Change::Ended(_) | Change::ClientUpdated(_), _) => Self::ClientUpdated,
            (Change::Issued(_), _) => Self::Issued,
            (Change::Rotated(_), _) => Self::Rotated,
            (Change::Imported(_) | Change::Merged(_), _) => Self::Imported,
        }
    }

    /// Returns the stable code: `issued`, `rotated`, `revoked`, `evicted`, `replayed`, `logged_out`, `idle`,
    /// `described`, `imported` or `purged`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Rotated => "rotated",
            Self::Ended(reason) => reason.code(),
            Self::ClientUpdated => "described",
            Self::Imported => "imported",
            Self::Purged => "purged",
        }
    }
}

/// An event of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// A session was changed by any process.
    Changed {
        /// The session.
        session: SessionId,
        /// The kind of change.
        kind: ChangeKind,
        /// The time of the change, on the store's clock.
        at: Timestamp,
    },
    /// Events may have been missed, because the connection broke or the reader was slow. Read all sessions again.
    Lagged,
}

/// The events of a store since the subscription, in the store's order.
///
/// Events are a hint and not a guarantee. They can be late, and some can be missing ([`StoreEvent::Lagged`]), so check
/// the session itself where it matters. Activity causes no event. The stream ends only with the repository.
pub type EventStream = Pin<Box<dyn Stream<Item = StoreEvent> + Send>>;
