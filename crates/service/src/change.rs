//! What changes answer once they are made.

use tenure_domain::{Session, SessionId, Token};

/// A session that was issued.
#[derive(Debug)]
pub struct Issued {
    /// The session.
    pub session: Session,
    /// Its token: the only time that it is told.
    pub token: Token,
    /// The sessions of its own subject that it displaced, oldest first.
    pub evicted: Vec<SessionId>,
    /// The sessions of other subjects that it ended by taking the device over.
    pub revoked: Vec<Session>,
}

/// A rotation that was made.
#[derive(Debug)]
pub struct Rotated {
    /// The session with its new expiry.
    pub session: Session,
    /// Its new token: the only time that it is told.
    pub token: Token,
}

/// What a revocation came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// Ended by it, durably.
    pub ended: Vec<Session>,
    /// Over already.
    pub already_ended: Vec<Session>,
    /// Unknown.
    pub unknown: Vec<SessionId>,
}
