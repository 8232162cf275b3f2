//! A session and what it says of a token at a given instant.

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

/// What proves a session: digests only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Of the whole current secret.
    pub current: Digest,
    /// Of the half that all secrets of the session share.
    pub family: Digest,
    /// What the last rotation replaced; `None` before the first.
    pub replaced: Option<Replaced>,
}

/// What the last rotation left behind, decided by the process that rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Of the directly previous secret, kept where it still verifies for a while.
    pub digest: Option<Digest>,
    /// When the directly previous token stops verifying.
    pub stops_at: Timestamp,
    /// How long after it stopped a replaced token is a straggler and no theft.
    pub tolerance: Millis,
}

/// How a session was ended before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub reason: EndReason,
    /// When.
    pub at: Timestamp,
    /// In somebody's words.
    pub note: Option<Note>,
    /// By whom.
    pub actor: Option<Actor>,
}

/// Everything that a store keeps of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionParts {
    /// Its name.
    pub id: SessionId,
    /// The device it counts on.
    pub device: DeviceId,
    /// Who it belongs to.
    pub subject: Subject,
    /// What is known of the client.
    pub client: Arc<ClientInfo>,
    /// When it was issued.
    pub created_at: Timestamp,
    /// Its place among the device's sessions with the same creation time.
    pub order: u64,
    /// The latest verified use, at first the creation.
    pub last_activity: Timestamp,
    /// The first instant at which it no longer holds.
    pub expires_at: Timestamp,
    /// How many tokens it has had; 1 after issue.
    pub generation: u32,
    /// When it got its present token, if not at issue.
    pub rotated_at: Option<Timestamp>,
    /// What was fixed at issue.
    pub terms: Terms,
    /// What proves it.
    pub credential: Credential,
    /// How it ended, if it did.
    pub end: Option<End>,
}

/// A session whose parts agree with each other. Read its fields through `Deref`; only decisions make new ones.
#[derive(Clone, PartialEq, Eq)]
pub struct Session(SessionParts);

/// Parts that no session can have: the record was damaged or made up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("session {id}: {message}")]
pub struct SessionError {
    /// Which session.
    pub id: SessionId,
    /// What does not fit.
    pub message: &'static str,
}

/// What a session is at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// It holds.
    Active,
    /// Its time is over.
    Expired,
    /// It was left unused too long; nobody has recorded that yet.
    Idle,
    /// It was ended, durably.
    Ended(EndReason),
}

impl State {
    /// The stable code: `active`, `expired`, `idle`, `revoked`, `evicted`, `replayed` or `logged_out`.
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

/// Which token was shown, of those that hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMatch {
    /// The current one.
    Current,
    /// The directly previous one, within its overlap. It verifies; it never rotates.
    Overlap,
}

/// What a session says of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Valid(TokenMatch),
    /// It does not.
    Refused(Refusal),
    /// The session must be ended, durably, for this reason; only then is the token refused with it.
    EndRequired(EndReason),
}

/// Whether what expires at `expires_at` has expired at `now`: from that instant on, with no grace.
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
    /// Takes parts from a store or an import.
    ///
    /// That the id lies in the device's bucket costs a hash and is checked apart: [`Session::is_in_its_bucket`].
    ///
    /// # Errors
    /// [`SessionError`] for parts that contradict each other.
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

    /// The parts, for a decision that changes some.
    #[must_use]
    pub fn into_parts(self) -> SessionParts {
        self.0
    }

    /// For the decisions of this crate, which keep the parts in agreement.
    pub(crate) const fn new_unchecked(parts: SessionParts) -> Self {
        Self(parts)
    }

    /// Whether the id carries the bucket of the device.
    #[must_use]
    pub fn is_in_its_bucket(&self) -> bool {
        self.id.bucket() == Bucket::of(&self.device)
    }

    /// When it counts as idle if it is not used before; `None` where it has no idle timeout.
    #[must_use]
    pub fn idle_at(&self) -> Option<Timestamp> {
        self.terms.idle_timeout.map(|timeout| self.last_activity.plus(timeout))
    }

    /// What it is at `now`. Ended is ended whatever the time; expired is `now >= expires_at`, with no grace.
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

    /// What it says of `token` at `now`; the time must have been read after the record was.
    ///
    /// Constant-time comparison of digests; one hash where the token is current, two otherwise.
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
                // One without an overlap was refused from its rotation on, also by a clock that lags behind it.
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

    /// Which of the session's tokens this is; `None` for a secret that never was one.
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
        // A token older than the directly previous one stopped no later than the last rotation.
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

    /// The expiry of a token issued at `now`: its TTL from then, never past the maximum lifetime. A clock that lags
    /// behind the one that the session was issued by does not put it before the creation.
    #[must_use]
    pub(crate) fn expiry_from(&self, now: Timestamp) -> Timestamp {
        now.max(self.created_at).plus(self.terms.ttl).min(self.created_at.plus(self.terms.max_lifetime))
    }

    /// The time it has left, in words.
    #[must_use]
    pub fn remaining(&self, now: Timestamp) -> Remaining {
        Remaining::until(self.expires_at, now)
    }

    /// When it was or will be over, as far as is recorded: its end, or its expiry.
    #[must_use]
    pub fn ended_at(&self) -> Timestamp {
        self.end.as_ref().map_or(self.expires_at, |end| end.at)
    }

    /// Since when it is over at `now`; `None` while it is active.
    #[must_use]
    pub fn inactive_since(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state(now) {
            State::Active => None,
            State::Idle => self.idle_at(),
            State::Expired | State::Ended(_) => Some(self.ended_at()),
        }
    }

    /// The first instant at which nobody needs the record any more: retention after it was over.
    #[must_use]
    pub fn retained_until(&self) -> Timestamp {
        self.ended_at().plus(self.terms.retention)
    }

    /// Whether the record is still to be shown. Stores may keep it longer; use cases do not show it.
    #[must_use]
    pub fn is_retained(&self, now: Timestamp) -> bool {
        now < self.retained_until()
    }

    /// Whether a connection that was admitted with this session may stay open at `now`.
    ///
    /// # Errors
    /// [`Refusal`] with the reason where the session is not active any more.
    pub fn check_active(&self, now: Timestamp) -> Result<(), Refusal> {
        match self.state(now) {
            State::Active => Ok(()),
            State::Expired => Err(Refusal::Expired),
            State::Idle => Err(Refusal::Ended(EndReason::Idle)),
            State::Ended(reason) => Err(Refusal::Ended(reason)),
        }
    }

    /// The first instant at which the session is not active any more, if it is neither used nor rotated before: its
    /// expiry, or the end of its idle timeout.
    #[must_use]
    pub fn active_until(&self) -> Timestamp {
        self.idle_at().map_or(self.expires_at, |idle_at| idle_at.min(self.expires_at))
    }

    /// Whether it matters to anybody's access when it was last used.
    #[must_use]
    pub const fn depends_on_activity(&self) -> bool {
        self.0.terms.idle_timeout.is_some()
    }

    /// The session after verified use at `at`: activity only ever moves forward, and an ended session has none.
    #[must_use]
    pub fn touched(mut self, at: Timestamp) -> Self {
        if self.end.is_none() {
            self.0.last_activity = self.last_activity.max(at);
        }
        self
    }

    /// The session ended. An ended one stays as it is.
    #[must_use]
    pub(crate) fn ended(mut self, end: End) -> Self {
        if self.end.is_none() {
            self.0.end = Some(end);
        }
        self
    }

    /// The order in which sessions of one device were issued.
    #[must_use]
    pub(crate) fn cmp_issue_order(&self, other: &Self) -> Ordering {
        (self.created_at, self.order, self.id).cmp(&(other.created_at, other.order, other.id))
    }
}

enum RecognizedToken {
    Current,
    Replaced { overlaps: bool, stopped_at: Timestamp, tolerance: Millis },
}
