//! News of changes, for caches, watchers and live connections.

use std::pin::Pin;

use futures_core::Stream;
use tenure_domain::{Change, EndReason, SessionId, Timestamp};

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It was issued.
    Issued,
    /// It got a new token.
    Rotated,
    /// It ended.
    Ended(EndReason),
    /// More is known of its client.
    ClientUpdated,
    /// It came from another store.
    Imported,
    /// Its record was removed.
    Purged,
}

impl ChangeKind {
    /// What `change` does to its session.
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

    /// The stable code: `issued`, `rotated`, `revoked`, `evicted`, `replayed`, `logged_out`, `idle`, `described`,
    /// `imported` or `purged`.
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

/// One piece of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// A session changed, by whatever process.
    Changed {
        /// Which one.
        session: SessionId,
        /// How.
        kind: ChangeKind,
        /// When, on the store's clock.
        at: Timestamp,
    },
    /// Changes may have been missed (the connection broke, or the reader was slow): look at everything again.
    Lagged,
}

/// The news since a subscription, in the store's order. A hint and no guarantee: it can be late and say
/// [`StoreEvent::Lagged`], so whoever must know re-verifies. Activity is no news. Ends only with the repository.
pub type EventStream = Pin<Box<dyn Stream<Item = StoreEvent> + Send>>;
