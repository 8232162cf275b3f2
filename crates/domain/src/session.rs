//! Sessions, and their verdict on a token at a given instant.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::client::ClientInfo;
use crate::id::{Bucket, SessionId};
use crate::policy::{Policy, Terms};
use crate::refusal::{EndReason, Refusal};
use crate::text::{Actor, DeviceId, Note, Subject};
use crate::time::{Millis, Remaining, Timestamp};
use crate::token::{Digest, Token};

/// The digests that prove a session's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The digest of the whole current secret.
    pub current: Digest,
    /// The digest of the half that all secrets of the session share.
    pub family: Digest,
    /// The token that the last rotation replaced; `None` before the first rotation.
    pub replaced: Option<Replaced>,
}

/// The token that the last rotation replaced. Its times follow from the policy of the process that rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The digest of the directly previous secret. `None` if that token stopped being valid at the rotation.
    pub digest: Option<Digest>,
    /// The first instant at which the directly previous token is no longer valid.
    pub stops_at: Timestamp,
    /// How long a replaced token counts as a late request after it stopped being valid. If it is used later than that,
    /// it was copied.
    pub tolerance: Millis,
}

/// The end of a session before its expiry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The reason.
    pub reason: EndReason,
    /// The time of the end, on the store's clock.
    pub at: Timestamp,
    /// A note in the words of the person who ended the session.
    pub note: Option<Note>,
    /// Who ended the session. `None` if a rule did, or if that is not known.
    pub actor: Option<Actor>,
}

/// The parts of a session: everything that a store keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionParts {
    /// The session's id.
    pub id: SessionId,
    /// The device that the session belongs to.
    pub device: DeviceId,
    /// The subject that the session belongs to.
    pub subject: Subject,
    /// What is known about the client.
    pub client: Arc<ClientInfo>,
    /// When the session was issued.
    pub created_at: Timestamp,
    /// The session's position among the device's sessions with the same creation time.
    pub order: u64,
    /// The latest verified use. Before the first use it is the creation time.
    pub last_activity: Timestamp,
    /// The first instant at which the session is no longer valid.
    pub expires_at: Timestamp,
    /// How many tokens the session has had: 1 after it was issued, and one more after each rotation.
    pub generation: u32,
    /// When the last rotation was. `None` before the first one.
    pub rotated_at: Option<Timestamp>,
    /// The terms that were fixed at issue.
    pub terms: Terms,
    /// The digests that prove the session's token.
    pub credential: Credential,
    /// The session's end, if it was ended.
    pub end: Option<End>,
}

/// A session, whose parts agree with each other. Its fields are read through `Deref`. Only decisions change them.
#[derive(Clone, PartialEq, Eq)]
pub struct Session(SessionParts);

/// The reason why no session has these parts. The record is damaged or forged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("session {id}: {message}")]
pub struct SessionError {
    /// The id in the parts.
    pub id: SessionId,
    /// What is wrong with the parts.
    pub message: &'static str,
}

/// The state of a session at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The session is active.
    Active,
    /// The session has expired.
    Expired,
    /// The session was not used for its idle timeout, and its end is not recorded yet.
    Idle,
    /// The session was ended, durably.
    Ended(EndReason),
}

impl State {
    /// Returns the stable code: `active`, `expired`, `idle`, `revoked`, `evicted`, `replayed` or `logged_out`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Idle => EndReason::Idle.code(),
            Self::Ended(reason) => reason.code(),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

/// Which of the session's valid tokens was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMatch {
    /// The current token.
    Current,
    /// The directly previous token, within the overlap after the rotation. It is valid, but cannot be rotated.
    Overlap,
}

/// A session's verdict on a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The session is active.
    Valid(TokenMatch),
    /// The token is refused.
    Refused(Refusal),
    /// The session must be ended for this reason. The token may be refused with that reason only once the end is
    /// durable.
    EndRequired(EndReason),
}

/// Returns whether something that expires at `expires_at` has expired at `now`: from that very millisecond on, without
/// grace.
#[must_use]
pub fn is_expired(expires_at: Timestamp, now: Timestamp) -> bool {
    now >= expires_at
}

impl Deref for Session {
    type Target = SessionParts;

    fn deref(&self) -> &SessionParts {
        &self.0
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Session {
    /// Makes a session from the parts that a store or an import has.
    ///
    /// It does not check that the id is in the device's bucket, which costs a hash: see [`Session::is_in_its_bucket`].
    ///
    /// # Errors
    /// [`SessionError`] if the parts contradict each other.
    pub fn from_parts(parts: SessionParts) -> Result<Self, SessionError> {
        let message = match &parts {
            p if p.generation == 0 => "the token generation is 0",
            p if (p.generation > 1) != p.rotated_at.is_some() => "generation and rotation time contradict each other",
            p if (p.generation > 1) != p.credential.replaced.is_some() => {
                "generation and replaced token contradict each other"
            }
            p if p.terms.ttl.is_zero() => "the TTL is zero",
            p if p.expires_at < p.created_at => "it expires before it was created",
            p if p.expires_at > p.created_at.plus(p.terms.max_lifetime) => "it expires past its maximum lifetime",
            p if p.last_activity < p.created_at => "its last activity is before its creation",
            _ => return Ok(Self(parts)),
        };
        Err(SessionError { id: parts.id, message })
    }

    /// Returns the parts, for a decision that changes some of them.
    #[must_use]
    pub fn into_parts(self) -> SessionParts {
        self.0
    }

    /// Makes a session of parts that a decision of this crate has kept consistent.
    pub(crate) const fn new_unchecked(parts: SessionParts) -> Self {
        Self(parts)
    }

    /// Whether the id carries the bucket of the device.
    #[must_use]
    pub fn is_in_its_bucket(&self) -> bool {
        self.id.bucket() == Bucket::of(&self.device)
    }

    /// Returns when the session becomes idle if it is not used before. `None` if it has no idle timeout.
    #[must_use]
    pub fn idle_at(&self) -> Option<Timestamp> {
        self.terms.idle_timeout.map(|timeout| self.last_activity.plus(timeout))
    }

    /// Returns the session's state at `now`. A session that was ended is ended at any time. Otherwise it is expired
    /// from `expires_at` on, without grace.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> State {
        if let Some(end) = &self.end {
            State::Ended(end.reason)
        } else if is_expired(self.expires_at, now) {
            State::Expired
        } else if self.idle_at().is_some_and(|idle_at| now >= idle_at) {
            State::Idle
        } else {
            State::Active
        }
    }

    /// Returns the session's verdict on `token` at `now`. The time must have been read after the record.
    ///
    /// Digests are compared in constant time. A current token costs one SHA-256, any other token at most two.
    #[must_use]
    pub fn verdict(&self, token: &Token, now: Timestamp) -> Verdict {
        let Some(shown) = self.recognise(token) else {
            return Verdict::Refused(Refusal::Unknown);
        };
        match self.state(now) {
            State::Ended(reason) => Verdict::Refused(Refusal::Ended(reason)),
            State::Expired => Verdict::Refused(Refusal::Expired),
            State::Idle => Verdict::EndRequired(EndReason::Idle),
            State::Active => match shown {
                RecognizedToken::Current => Verdict::Valid(TokenMatch::Current),
                // A token without an overlap is refused from its rotation on, even by a clock that is behind.
                RecognizedToken::Replaced { overlaps: true, stopped_at, .. } if now < stopped_at => {
                    Verdict::Valid(TokenMatch::Overlap)
                }
                RecognizedToken::Replaced { stopped_at, tolerance, .. } if now.since(stopped_at) > tolerance => {
                    Verdict::EndRequired(EndReason::Replayed)
                }
                RecognizedToken::Replaced { .. } => Verdict::Refused(Refusal::Rotated),
            },
        }
    }

    /// Returns which of the session's tokens this is. `None` for a secret that never belonged to the session.
    fn recognise(&self, token: &Token) -> Option<RecognizedToken> {
        if token.session() != self.id {
            return None;
        }
        let digest = token.secret().digest();
        if digest == self.credential.current {
            return Some(RecognizedToken::Current);
        }
        let replaced = self.credential.replaced.as_ref()?;
        if token.secret().family().digest() != self.credential.family {
            return None;
        }
        // A token older than the directly previous one stopped being valid no later than the last rotation.
        let overlaps = replaced.digest == Some(digest);
        let stopped_at = if overlaps { replaced.stops_at } else { self.rotated_at? };
        Some(RecognizedToken::Replaced { overlaps, stopped_at, tolerance: replaced.tolerance })
    }

    /// Whether a rotation is due at `now`: some time is left, no more than the window, and rotating would extend
    /// the expiry.
    #[must_use]
    pub fn is_rotation_due(&self, policy: &Policy, now: Timestamp) -> bool {
        let left = self.expires_at.since(now);
        self.state(now) == State::Active
            && left <= policy.rotation_window(self.terms.ttl)
            && self.expiry_from(now) > self.expires_at
    }

    /// Returns the expiry of a token that is issued at `now`: after its TTL, but never past the maximum lifetime. If
    /// the clock is behind the one that issued the session, the expiry is still not before the creation.
    #[must_use]
    pub(crate) fn expiry_from(&self, now: Timestamp) -> Timestamp {
        now.max(self.created_at).plus(self.terms.ttl).min(self.created_at.plus(self.terms.max_lifetime))
    }

    /// Returns the time that the session has left at `now`, for people.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Remaining {
        Remaining::until(self.expires_at, now)
    }

    /// Returns the time of the session's end, or else its expiry.
    #[must_use]
    pub fn ended_at(&self) -> Timestamp {
        self.end.as_ref().map_or(self.expires_at, |end| end.at)
    }

    /// Returns since when the session has been inactive at `now`. `None` while it is active.
    #[must_use]
    pub fn inactive_since(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state(now) {
            State::Active => None,
            State::Idle => self.idle_at(),
            State::Expired | State::Ended(_) => Some(self.ended_at()),
        }
    }

    /// Returns the first instant at which the record is no longer retained: its end or expiry plus the retention time.
    #[must_use]
    pub fn retained_until(&self) -> Timestamp {
        self.ended_at().plus(self.terms.retention)
    }

    /// Whether the record is retained at `now`. Stores may keep it longer, but use cases do not show it.
    #[must_use]
    pub fn is_retained(&self, now: Timestamp) -> bool {
        now < self.retained_until()
    }

    /// Checks that a connection which was admitted with this session may stay open at `now`.
    ///
    /// # Errors
    /// [`Refusal`] with the reason if the session is no longer active.
    pub fn check_active(&self, now: Timestamp) -> Result<(), Refusal> {
        match self.state(now) {
            State::Active => Ok(()),
            State::Expired => Err(Refusal::Expired),
            State::Idle => Err(Refusal::Ended(EndReason::Idle)),
            State::Ended(reason) => Err(Refusal::Ended(reason)),
        }
    }

    /// Returns the first instant at which the session is no longer active, if it is neither used nor rotated before:
    /// its expiry, or the end of its idle timeout.
    #[must_use]
    pub fn active_until(&self) -> Timestamp {
        self.idle_at().map_or(self.expires_at, |idle_at| idle_at.min(self.expires_at))
    }

    /// Whether the session has an idle timeout, so that its validity depends on when it was last used.
    #[must_use]
    pub const fn depends_on_activity(&self) -> bool {
        self.0.terms.idle_timeout.is_some()
    }

    /// Returns the session after verified use at `at`. Activity only moves forward, and an ended session stays as it
    /// is.
    #[must_use]
    pub fn touched(mut self, at: Timestamp) -> Self {
        if self.end.is_none() {
            self.0.last_activity = self.last_activity.max(at);
        }
        self
    }

    /// Returns the session after this end. A session that was ended before stays as it is.
    #[must_use]
    pub(crate) fn ended(mut self, end: End) -> Self {
        if self.end.is_none() {
            self.0.end = Some(end);
        }
        self
    }

    /// Returns the sort key of the order in which a device's sessions were issued.
    #[must_use]
    pub(crate) fn cmp_issue_order(&self, other: &Self) -> Ordering {
        (self.created_at, self.order, self.id).cmp(&(other.created_at, other.order, other.id))
    }
}

enum RecognizedToken {
    Current,
    Replaced { overlaps: bool, stopped_at: Timestamp, tolerance: Millis },
}
