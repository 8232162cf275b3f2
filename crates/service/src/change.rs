//! The results of use cases that change sessions.

use tenure_domain::{Session, SessionId, Token};

/// A session that was issued.
#[derive(Debug)]
pub struct Issued {
    /// The session.
    pub session: Session,
    /// The session's token. No later call returns it.
    pub token: Token,
    /// The evicted sessions of the same subject, oldest first.
    pub evicted: Vec<SessionId>,
    /// The sessions of other subjects that the take-over of the device ended.
    pub revoked: Vec<Session>,
}

/// A session whose token was rotated.
#[derive(Debug)]
pub struct Rotated {
    /// The session with its new expiry.
    pub session: Session,
    /// The session's new token. No later call returns it.
    pub token: Token,
}

/// The result of a revocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// The sessions that the revocation ended, durably.
    pub ended: Vec<Session>,
    /// The sessions that had already ended.
    pub already_ended: Vec<Session>,
    /// The ids that no session has.
    pub unknown: Vec<SessionId>,
}
