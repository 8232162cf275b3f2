//! The filter and the order of a listing.

use std::cmp::Ordering;

use crate::session::{Session, State};
use crate::text::{DeviceId, Subject};
use crate::time::Timestamp;

/// How much of the past a listing shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Active sessions.
    #[default]
    Active,
    /// Active sessions, and the ended and expired ones that are retained.
    Retained,
}

/// A filter of sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only sessions of this device.
    pub device: Option<DeviceId>,
    /// Only sessions of this subject.
    pub subject: Option<Subject>,
    /// Whether inactive sessions are included.
    pub scope: Scope,
}

impl Filter {
    /// Whether the filter includes `session` at `now`.
    #[must_use]
    pub fn matches(&self, session: &Session, now: Timestamp) -> bool {
        self.device.as_ref().is_none_or(|device| *device == session.device)
            && self.subject.as_ref().is_none_or(|subject| *subject == session.subject)
            && match self.scope {
                Scope::Active => session.state(now) == State::Active,
                Scope::Retained => session.is_retained(now),
            }
    }
}

/// The sort order of a listing. Ties are sorted by id, so that every store lists alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SortKey {
    /// Newest activity first.
    #[default]
    LastActivity,
    /// Newest session first.
    Created,
    /// Soonest expiry first.
    Expires,
}

impl SortKey {
    /// Compares two sessions: the smaller is listed first.
    #[must_use]
    pub fn compare(self, a: &Session, b: &Session) -> Ordering {
        let by_key = match self {
            Self::LastActivity => b.last_activity.cmp(&a.last_activity),
            Self::Created => b.created_at.cmp(&a.created_at),
            Self::Expires => a.expires_at.cmp(&b.expires_at),
        };
        by_key.then_with(|| a.id.cmp(&b.id))
    }
}
