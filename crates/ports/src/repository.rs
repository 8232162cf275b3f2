//! The session repository.

use async_trait::async_trait;
use tenure_domain::{
    Commit, Device, DeviceId, Filter, IdPrefix, Revision, Session, SessionId, SortKey, Timestamp, Touch,
};

use crate::{CommitError, EventStream, StoreError};

/// A place in a walk through sessions. Opaque: only the repository that gave it can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub u128);

/// Some of the sessions of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Those that matched. May be empty although more follow.
    pub sessions: Vec<Session>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Which records a purge removes: every session that is over at `now` ([`Session::inactive_since`]) and was so by
/// `inactive_by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purge {
    /// The time to judge by.
    pub now: Timestamp,
    /// Sessions that were over at this instant or before it.
    pub inactive_by: Timestamp,
    /// Count, and remove nothing.
    pub dry_run: bool,
}

/// Some of a purge's work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many retained records were removed, or would be. Those that are not retained any more go with them and do
    /// not count: nobody could see them, and a store may have dropped them before.
    pub removed: u64,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Keeps sessions. A device's sessions are the unit of consistency: they are loaded with a [`Revision`] and changed
/// only by a [`Commit`] that names it.
///
/// Every method may answer [`StoreError::Unavailable`] or [`StoreError::Corrupt`], and does so within the adapter's
/// stated deadlines. No method reads a damaged or unreachable store as an empty one. Records of sessions that are no
/// longer retained may be answered or not: use cases do not show them.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SessionRepository: Send + Sync {
    /// One session, in whatever state, with all activity that this process knows of.
    ///
    /// Sees every commit that was acknowledged, by any process, before the call began.
    async fn find(&self, id: SessionId) -> Result<Option<Session>, StoreError>;

    /// One session for somebody who uses it now: as [`SessionRepository::find`], but the last activity of a session
    /// that has no idle timeout may be an older one, since nothing depends on it and this use is later anyway.
    /// The hot path.
    async fn find_for_use(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        self.find(id).await
    }

    /// One session as this process remembers it, without asking the store; `None` where it does not. May be behind
    /// the store by no more than the adapter's stated bound, and its activity by more: good enough to accept by.
    /// Whoever would refuse or end because of it looks again with [`SessionRepository::find`].
    fn find_cached(&self, id: SessionId) -> Option<Session> {
        let _ = id;
        None
    }

    /// A device with every session that has neither ended nor been named lapsed; one that the store knows nothing of
    /// is [`Device::unknown`]. All of it is of one instant, later than the call's begin.
    async fn load(&self, device: &DeviceId) -> Result<Device, StoreError>;

    /// The same, by one of the device's sessions, which is among those loaded even where it has ended or lapsed.
    /// `None` where the session is unknown.
    async fn load_by_session(&self, session: SessionId) -> Result<Option<Device>, StoreError>;

    /// Applies a decision, all of it or nothing, and answers once it is durable.
    ///
    /// Checks, as one step with the writing: the device's revision is the expected one; the clock (the store's, or
    /// [`crate::Clock`]) is not past `not_after`; no guarded session was used after its guard; a session that is
    /// issued has no record yet, and one that is rotated, ended or described has one. A new record's activity is the
    /// later of its own and the stored one. The resulting revision was never used before and never will be, not even
    /// after the device was purged.
    ///
    /// # Errors
    /// [`CommitError`]; each kind says whether anything was changed.
    async fn commit(&self, commit: &Commit) -> Result<Revision, CommitError>;

    /// Moves sessions' last activity forward. Never backward, never of an ended or unknown session, without a new
    /// revision, and without waiting to be durable: a crash may lose it.
    async fn touch(&self, touches: &[Touch]) -> Result<(), StoreError>;

    /// The ids of sessions, in any state, that start so: at most `limit`, in order.
    async fn ids_with_prefix(&self, prefix: IdPrefix, limit: usize) -> Result<Vec<SessionId>, StoreError>;

    /// The matching sessions (at `now`) in the store's own order, about `limit` at a time. A session that matches
    /// throughout the walk is seen exactly once; one that changes meanwhile may be seen in either state.
    async fn page(
        &self,
        filter: &Filter,
        now: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// The first `limit` of the matching sessions (at `now`) in the order of `sort`.
    async fn list_sorted(
        &self,
        filter: &Filter,
        now: Timestamp,
        sort: SortKey,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError>;

    /// Removes records, some at a time; atomic per device, durable once answered. A device of which a session was
    /// removed that had not ended gets a new revision. A device's watermark stays until it has passed.
    async fn purge(&self, purge: &Purge, after: Option<Cursor>) -> Result<Purged, StoreError>;

    /// News of changes from now on, from any process: each device's in its order. News of what was just before may
    /// still come, and that of two devices in either order.
    async fn subscribe(&self) -> Result<EventStream, StoreError>;

    /// Whether the store answers and would take a commit, without making one.
    async fn check_writable(&self) -> Result<(), StoreError>;
}
