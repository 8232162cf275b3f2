//! The port that stores implement: the session repository. It has four parts, one for each kind of caller.

use async_trait::async_trait;
use tenure_domain::{
    Commit, Device, DeviceId, Filter, IdPrefix, Revision, Session, SessionId, SortKey, Timestamp, Touch,
};

use crate::{CommitError, EventStream, StoreError};

/// A position in a walk through sessions or devices. Only the repository that returned it knows what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub u128);

/// One page of a walk through sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The sessions that matched. A page can be empty although others follow.
    pub sessions: Vec<Session>,
    /// The position to continue from. `None` at the end.
    pub next: Option<Cursor>,
}

/// A request to remove records: those of every session that is inactive at `now` ([`Session::inactive_since`]) and has
/// been inactive since `inactive_by` or longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purge {
    /// The time at which sessions are judged.
    pub now: Timestamp,
    /// The latest instant at which a session must have become inactive to be removed.
    pub inactive_by: Timestamp,
    /// Whether to count only, and remove nothing.
    pub dry_run: bool,
}

/// The result of one part of a purge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many retained records were removed, or would be. Records that are no longer retained are removed too, but do
    /// not count: nobody could see them, and another store may have dropped them already.
    pub removed: u64,
    /// The position to continue from. `None` at the end.
    pub next: Option<Cursor>,
}

/// How exact the answer of [`SessionCommits::find`] has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FindOptions {
    /// Whether the last activity may be out of date if the session has no idle timeout. No rule depends on it then, and
    /// the store can save a read.
    pub stale_activity: bool,
}

impl FindOptions {
    /// Asks for the record with all activity that this process knows of.
    pub const EXACT: Self = Self { stale_activity: false };
    /// Asks for the record to verify a use of the session, which makes its last activity later anyway. The hot path.
    pub const FOR_USE: Self = Self { stale_activity: true };
}

/// The core of a repository: loading one device, and committing a decision about it.
///
/// The sessions of a device are the unit of consistency. They are loaded with a [`Revision`], and changed only by a
/// [`Commit`] that expects that revision.
#[async_trait]
pub trait SessionCommits: Send + Sync {
    /// Finds one session, in whatever state. `None` if it has no record.
    ///
    /// The result includes every commit of any process that was acknowledged before the call began.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    async fn find(&self, id: SessionId, options: FindOptions) -> Result<Option<Session>, StoreError>;

    /// Loads a device, with every session that has neither ended nor been named as expired by a commit. A device that
    /// the store does not know is [`Device::unknown`].
    ///
    /// The result is consistent: it shows the device at one instant, after the call began. What it shows is durable.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    async fn load(&self, device: &DeviceId) -> Result<Device, StoreError>;

    /// Loads the device of a session, like [`SessionCommits::load`]. That session is among those loaded, even if it has
    /// ended or expired. `None` if the session has no record.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    async fn load_by_session(&self, session: SessionId) -> Result<Option<Device>, StoreError>;

    /// Applies a decision, completely or not at all, and returns the device's new revision once the decision is
    /// durable.
    ///
    /// The store checks these conditions in one atomic step with the write:
    /// - The device has the expected revision.
    /// - The clock (the store's own, or [`crate::Clock`]) is not past `not_after`.
    /// - No guarded session was used after its guard.
    /// - A session that is issued has no record yet. One that is rotated, ended or updated has one.
    ///
    /// The activity of a new record is the later one of its own and the stored one. The new revision was never used
    /// before and is never used again, not even after the device was purged.
    ///
    /// # Errors
    /// [`CommitError`]. Each kind says whether anything was changed.
    async fn commit(&self, commit: &Commit) -> Result<Revision, CommitError>;

    /// Moves the last activity of sessions forward, never backward. Ended and unknown sessions are skipped.
    ///
    /// This makes no new revision, and does not wait until it is durable: a crash may lose it.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not accept it. Some of the activity may have been recorded then.
    async fn touch(&self, touches: &[Touch]) -> Result<(), StoreError>;
}

/// The part of a repository that looks at many sessions.
#[async_trait]
pub trait SessionQueries: Send + Sync {
    /// Lists the first `limit` ids that begin with `prefix`, in order. They include those of inactive sessions.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    async fn ids_with_prefix(&self, prefix: IdPrefix, limit: usize) -> Result<Vec<SessionId>, StoreError>;

    /// Reads one page of the sessions that match at `now`, in the store's own order. A page has about `limit` sessions.
    ///
    /// A walk begins without `after` and continues from [`Page::next`]. A session that matches throughout the walk is
    /// seen exactly once. One that changes meanwhile may be seen in either state.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    async fn page(
        &self,
        filter: &Filter,
        now: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError>;

    /// Lists the sessions that match at `now` in the order of `sort`, and returns the first `limit` of them.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    async fn list_sorted(
        &self,
        filter: &Filter,
        now: Timestamp,
        sort: SortKey,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError>;

    /// Subscribes to the changes that any process makes from now on. The changes of one device arrive in their order,
    /// those of two devices in any. Changes from shortly before the call may arrive too.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be subscribed to.
    async fn subscribe(&self) -> Result<EventStream, StoreError>;
}

/// The part of a repository for maintenance: removing old records, and checking that the store can be written.
#[async_trait]
pub trait SessionUpkeep: Send + Sync {
    /// Removes some of the records that `purge` selects, and returns where to continue.
    ///
    /// Each device is purged atomically, and durably once the call returns. If a removed session had not ended, its
    /// device gets a new revision. The revocation watermark of a device stays until its time has passed.
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read or written. Records that were removed before stay removed.
    async fn purge(&self, purge: &Purge, after: Option<Cursor>) -> Result<Purged, StoreError>;

    /// Checks that the store answers and would accept a commit. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError`] if it would not.
    async fn check_writable(&self) -> Result<(), StoreError>;
}

/// A cache of sessions in this process' memory.
pub trait SessionCache: Send + Sync {
    /// Returns the cached record of a session, without asking the store. `None` if it is not cached.
    ///
    /// The record is out of date by no more than the time that the adapter documents; its activity may be older. That
    /// is good enough to accept a token. A caller that would refuse a token or end a session because of it has to ask
    /// [`SessionCommits::find`] first.
    fn find_cached(&self, id: SessionId) -> Option<Session>;
}

/// A session repository: the port that every store implements.
///
/// Every method may return [`StoreError::Unavailable`] or [`StoreError::Corrupt`], within the time limits that the
/// adapter documents. No method treats a damaged or unreachable store as an empty one. Records of sessions that are no
/// longer retained may be returned or not; use cases do not show them.
///
/// No method has a default body, so that a decorator cannot forget one.
pub trait SessionRepository: SessionCommits + SessionQueries + SessionUpkeep {
    /// Returns the cache in this process' memory. `None` if every look-up asks the store.
    fn cache(&self) -> Option<&dyn SessionCache>;
}
