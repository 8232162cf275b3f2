//! The session repository: one port in four parts, one for each kind of caller.

use async_trait::async_trait;
use tenure_domain::{
    Commit, Device, DeviceId, Filter, IdPrefix, Revision, Session, SessionId, SortKey, Timestamp, Touch,
};

use crate::{CommitError, EventStream, StoreError};

/// A position in a walk through sessions. Opaque: only the repository that returned it can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub u128);

/// One part of a walk through sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The sessions that matched. May be empty although more follow.
    pub sessions: Vec<Session>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// Which records a purge removes: every session that is inactive at `now` ([`Session::inactive_since`]) and was so by
/// `inactive_by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purge {
    /// The time to judge by.
    pub now: Timestamp,
    /// The latest instant since when a session must have been inactive.
    pub inactive_by: Timestamp,
    /// Count, and remove nothing.
    pub dry_run: bool,
}

/// The result of one part of a purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many retained records were removed, or would be. Records that are not retained any more are removed too and
    /// do not count: nobody could see them, and a store may have dropped them before.
    pub removed: u64,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// How exact the answer of [`SessionCommits::find`] has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FindOptions {
    /// Whether the last activity of a session without an idle timeout may be an older one. Nothing depends on it then,
    /// and a store can save a read.
    pub stale_activity: bool,
}

impl FindOptions {
    /// The record with all activity that this process knows of.
    pub const EXACT: Self = Self { stale_activity: false };
    /// The record for a caller that uses the session now, and so makes its last activity later anyway. The hot path.
    pub const FOR_USE: Self = Self { stale_activity: true };
}

/// The core of a repository: what a use case needs to decide about one device and to make the decision durable.
///
/// A device's sessions are the unit of consistency: they are loaded with a [`Revision`] and changed only by a
/// [`Commit`] that names it.
#[async_trait]
pub trait SessionCommits: Send + Sync {
    /// Finds one session, in whatever state.
    ///
    /// Sees every commit that was acknowledged, by any process, before the call began.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn find(&self, id: SessionId, options: FindOptions) -> Result<Option<Session>, StoreError>;

    /// Loads a device with every session that has neither ended nor been named expired by a commit. A device that the
    /// store does not know is [`Device::unknown`]. All of it is of one instant, later than the call's begin.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn load(&self, device: &DeviceId) -> Result<Device, StoreError>;

    /// Loads the device of a session. That session is among those loaded, even where it has ended or expired. `None`
    /// where the session is unknown.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn load_by_session(&self, session: SessionId) -> Result<Option<Device>, StoreError>;

    /// Applies a decision, all of it or nothing, and returns once it is durable.
    ///
    /// Checks, as one step with the writing: the device's revision is the expected one; the clock (the store's, or
    /// [`crate::Clock`]) is not past `not_after`; no guarded session was used after its guard; a session that is
    /// issued has no record yet, and one that is rotated, ended or updated has one. A new record's activity is the
    /// later of its own and the stored one. The resulting revision was never used before and never will be, not even
    /// after the device was purged.
    ///
    /// # Errors
    /// [`CommitError`]; each kind says whether anything was changed.
    async fn commit(&self, commit: &Commit) -> Result<Revision, CommitError>;

    /// Moves sessions' last activity forward. Never backward, never of an ended or unknown session, without a new
    /// revision, and without waiting to be durable: a crash may lose it.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn touch(&self, touches: &[Touch]) -> Result<(), StoreError>;
}

/// The part of a repository that looks at many sessions.
#[async_trait]
pub trait SessionQueries: Send + Sync {
    /// Lists the ids of sessions, in any state, that begin with `prefix`: at most `limit`, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn ids_with_prefix(&self, prefix: IdPrefix, limit: usize) -> Result<Vec<SessionId>, StoreError>;

    /// Reads the sessions that match at `now` in the store's own order, about `limit` at a time. A session that
    /// matches throughout the walk is seen exactly once; one that changes meanwhile may be seen in either state.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn page(
        &self,
        filter: &Filter,
        now: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// Lists the first `limit` of the sessions that match at `now` in the order of `sort`.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn list_sorted(
        &self,
        filter: &Filter,
        now: Timestamp,
        sort: SortKey,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError>;

    /// Subscribes to the changes that any process makes from now on, each device's in its order. A change of just
    /// before may still be told, and those of two devices in either order.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be subscribed to.
    async fn subscribe(&self) -> Result<EventStream, StoreError>;
}

/// The part of a repository that keeps the store in order.
#[async_trait]
pub trait SessionUpkeep: Send + Sync {
    /// Removes records, some at a time; atomic per device, durable once answered. A device of which a session was
    /// removed that had not ended gets a new revision. A device's revocation watermark stays until it has passed.
    ///
    /// # Errors
    /// [`StoreError`]; what was removed before stays removed.
    async fn purge(&self, purge: &Purge, after: Option<Cursor>) -> Result<Purged, StoreError>;

    /// Checks that the store answers and would take a commit, without making one.
    ///
    /// # Errors
    /// [`StoreError`] where it would not.
    async fn check_writable(&self) -> Result<(), StoreError>;
}

/// A copy of sessions in this process' memory, where a repository has one.
pub trait SessionCache: Send + Sync {
    /// The session as this process remembers it, without asking the store; `None` where it does not.
    ///
    /// May be behind the store by no more than the adapter's stated bound, and its activity by more: good enough to
    /// accept a token by. A caller that would refuse or end because of it asks [`SessionCommits::find`] first.
    fn find_cached(&self, id: SessionId) -> Option<Session>;
}

/// Keeps sessions: the port that every store implements.
///
/// Every method may return [`StoreError::Unavailable`] or [`StoreError::Corrupt`], and does so within the adapter's
/// stated deadlines. No method reads a damaged or unreachable store as an empty one. Records of sessions that are no
/// longer retained may be returned or not: use cases do not show them.
///
/// No method has a default, so that a decorator cannot lose one by leaving it out.
pub trait SessionRepository: SessionCommits + SessionQueries + SessionUpkeep {
    /// The cache in this process' memory; `None` where every look-up asks the store.
    fn cache(&self) -> Option<&dyn SessionCache>;
}
