//! Commits: the changes that a decision asks a store to apply, completely or not at all.

use crate::id::SessionId;
use crate::session::Session;
use crate::text::DeviceId;
use crate::time::Timestamp;

/// The version of a device's sessions. Every commit gives the device one that no device had before, not even a
/// device of the same name that was purged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// The revision of a device that a store does not know. No commit results in it.
    pub const NONE: Self = Self(0);

    /// Makes the revision with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the revision's number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// One session's new record, and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The session is new. No record with its id may exist.
    Issued(Session),
    /// The session got a new token and a new expiry.
    Rotated(Session),
    /// The session ended.
    Ended(Session),
    /// More is known about the session's client.
    ClientUpdated(Session),
    /// The session came from another store. A record with its id that is no longer retained here is ignored, and so is
    /// its activity.
    Imported(Session),
    /// The session came from another store, and replaces the record here.
    Merged(Session),
}

impl Change {
    /// Returns the record after the change. Its last activity counts only if the store's own is not later, except for a
    /// session that is issued or imported.
    #[must_use]
    pub const fn session(&self) -> &Session {
        match self {
            Self::Issued(session)
            | Self::Rotated(session)
            | Self::Ended(session)
            | Self::ClientUpdated(session)
            | Self::Imported(session)
            | Self::Merged(session) => session,
        }
    }

    /// Whether `found`, the session as it is now, shows that this change was made.
    fn is_satisfied_by(&self, found: Option<&Session>) -> bool {
        let wanted = self.session();
        // The record of another session shows nothing.
        if found.is_some_and(|found| found.id != wanted.id) {
            return false;
        }
        let same_credential = |found: &Session| found.credential.current == wanted.credential.current;
        match self {
            Self::Issued(_) | Self::Rotated(_) => found.is_some_and(same_credential),
            Self::Ended(_) => found.is_none_or(|found| found.end.is_some()),
            Self::ClientUpdated(_) => found.is_none_or(|found| found.client == wanted.client),
            Self::Imported(_) | Self::Merged(_) => {
                found.is_some_and(|found| same_credential(found) && found.end == wanted.end)
            }
        }
    }
}

/// A condition of a commit on a session's activity, which changes without a new revision: the session must not have
/// been used later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The session.
    pub session: SessionId,
    /// The latest activity that the decision was based on.
    pub last_activity: Timestamp,
}

/// What a device remembers about its sessions that were ended before their expiry. It is kept longer than their
/// records, so that an older export, which shows them as active, cannot bring them back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationWatermark {
    /// The latest creation time of these sessions.
    pub created_at: Timestamp,
    /// The latest expiry of these sessions. From then on the watermark is not needed.
    pub until: Timestamp,
}

impl RevocationWatermark {
    /// Returns the watermark that also covers `session`, which ended before its expiry.
    #[must_use]
    pub(crate) fn including(known: Option<Self>, session: &Session) -> Self {
        let own = Self { created_at: session.created_at, until: session.expires_at };
        known.map_or(own, |known| Self {
            created_at: known.created_at.max(own.created_at),
            until: known.until.max(own.until),
        })
    }
}

/// A decision about one device, for its store. The store applies it completely if the device still has the expected
/// revision, the store's clock is not past `not_after`, and every guard is satisfied; otherwise not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The device whose sessions change.
    pub device: DeviceId,
    /// The revision that the decision was made on.
    pub expected: Revision,
    /// The last instant, on the store's clock, at which the decision may be applied.
    pub not_after: Timestamp,
    /// Sessions that must not have been used since.
    pub guards: Vec<Guard>,
    /// The new records, at most one per session.
    pub changes: Vec<Change>,
    /// Loaded sessions that have expired. Decisions no longer load them; they stay readable.
    pub expired: Vec<SessionId>,
    /// How many of the device's ended and expired sessions stay readable. Beyond that, the store drops those that ended
    /// first (by [`Session::ended_at`], then by id).
    pub retain: usize,
    /// The device's watermark from now on, which is kept until [`RevocationWatermark::until`].
    pub watermark: Option<RevocationWatermark>,
}

/// Whether a commit whose answer was lost was applied, judged by its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The commit was applied, or its aim is reached for another reason: the session has ended.
    Yes,
    /// The commit was not applied.
    No,
}

impl Commit {
    /// Decides whether this commit, whose answer was lost, was applied. It judges by the sessions as they are now,
    /// which `find` looks up.
    ///
    /// A commit is applied completely, and no other process can have drawn the same credential, so a new credential
    /// shows that all of it was applied. Other changes could have another cause, so every session has to show them.
    #[must_use]
    pub fn applied(&self, mut find: impl FnMut(SessionId) -> Option<Session>) -> Applied {
        let own = self.changes.iter().find(|change| matches!(change, Change::Issued(_) | Change::Rotated(_)));
        let mut is_satisfied = |change: &Change| change.is_satisfied_by(find(change.session().id).as_ref());
        let applied = match own {
            Some(change) => is_satisfied(change),
            None => self.changes.iter().all(is_satisfied),
        };
        if applied { Applied::Yes } else { Applied::No }
    }
}

/// One verified use of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// The session.
    pub session: SessionId,
    /// The time of the use, on the store's clock.
    pub at: Timestamp,
}
