//! What a decision asks a store to do, all of it or nothing.

use crate::id::SessionId;
use crate::session::Session;
use crate::text::DeviceId;
use crate::time::Timestamp;

/// The version of a device's sessions. Every commit gives the device one that no device had before, not even a
/// device of the same name that was purged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    /// Of a device that a store knows nothing of. No commit results in it.
    pub const NONE: Self = Self(0);

    /// The revision with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// One session's new record, and what happened to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new; no record of that id may exist.
    Issued(Session),
    /// It got a new token and a new expiry.
    Rotated(Session),
    /// It ended.
    Ended(Session),
    /// More is known of its client.
    ClientUpdated(Session),
    /// It came from another store. Whatever is left of that id is no longer retained, and counts for nothing: not
    /// its activity either.
    Imported(Session),
    /// It came from another store, and takes the place of the record here.
    Merged(Session),
}

impl Change {
    /// The record after the change. But for what is issued or imported, its last activity counts only where the
    /// store's own is not later.
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

    /// Whether a session that is now as `found` has what this change wanted for it.
    fn is_satisfied_by(&self, found: Option<&Session>) -> bool {
        let wanted = self.session();
        // The record of another session tells nothing.
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

/// A condition on activity, which moves without a new revision: the commit holds only if the session was not used
/// after this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Which session.
    pub session: SessionId,
    /// The latest activity that the decision knew of.
    pub last_activity: Timestamp,
}

/// What a device remembers of sessions that were ended before their time, longer than their records: that an older
/// export, which shows them active, may not bring them back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationWatermark {
    /// The latest creation of any of them.
    pub created_at: Timestamp,
    /// The latest expiry of any of them; from then on nothing is left to remember.
    pub until: Timestamp,
}

impl RevocationWatermark {
    /// The watermark that also covers `session`, which ended before its expiry.
    #[must_use]
    pub(crate) fn including(known: Option<Self>, session: &Session) -> Self {
        let own = Self { created_at: session.created_at, until: session.expires_at };
        known.map_or(own, |known| Self {
            created_at: known.created_at.max(own.created_at),
            until: known.until.max(own.until),
        })
    }
}

/// A decision about one device, ready for its store: applied whole if the device still has the expected revision,
/// the store's clock is not past `not_after`, and every guard holds; else not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Whose sessions change.
    pub device: DeviceId,
    /// The revision that the decision was made on.
    pub expected: Revision,
    /// The last instant, on the store's clock, at which the decision may be applied.
    pub not_after: Timestamp,
    /// Sessions that must not have been used since.
    pub guards: Vec<Guard>,
    /// The new records, at most one per session.
    pub changes: Vec<Change>,
    /// Sessions of the loaded state whose time is over. They leave the set that decisions load, and stay readable.
    pub expired: Vec<SessionId>,
    /// How many of the device's ended and lapsed sessions stay readable; beyond that the store drops those that
    /// were over first (by [`Session::ended_at`], then by id).
    pub retain: usize,
    /// What the device remembers from now on; to be kept until [`RevocationWatermark::until`].
    pub watermark: Option<RevocationWatermark>,
}

/// Whether a commit whose answer was lost took effect, as its sessions tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It did, or what it wanted is so by other means (the session is over).
    Yes,
    /// It did not.
    No,
}

impl Commit {
    /// Judges a lost answer by the sessions as they are now; `find` looks one up.
    ///
    /// A commit is whole, so a new credential, which nobody else can have drawn, speaks for all of it. Anything else
    /// could be so by other means, and has to be so of every session.
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

/// Verified use of a session at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Which session.
    pub session: SessionId,
    /// When.
    pub at: Timestamp,
}
