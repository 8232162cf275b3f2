//! The reasons why a session ended and why a token is refused, with their stable codes.

use std::fmt;
use std::str::FromStr;

/// The reason why a session was ended before its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    /// An operator, its owner or a script revoked the session.
    Revoked,
    /// The session was evicted: a new session on its device exceeded the cap.
    Evicted,
    /// A replaced token was used again, so it was copied.
    Replayed,
    /// The session's owner logged out.
    LoggedOut,
    /// The session went unused for its idle timeout.
    Idle,
}

impl EndReason {
    /// Every reason, in the order of the variants.
    pub const ALL: [Self; 5] = [Self::Revoked, Self::Evicted, Self::Replayed, Self::LoggedOut, Self::Idle];

    /// Returns the stable code: `revoked`, `evicted`, `replayed`, `logged_out` or `idle`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Evicted => "evicted",
            Self::Replayed => "replayed",
            Self::LoggedOut => "logged_out",
            Self::Idle => "idle",
        }
    }

    /// Whether this reason is explicit: a person asked for the end, or the token was copied. The other reasons follow
    /// from a rule about something else, which can be applied again.
    ///
    /// A store that could not write an explicit end must keep refusing the session.
    #[must_use]
    pub const fn is_explicit(self) -> bool {
        match self {
            Self::Revoked | Self::LoggedOut | Self::Replayed => true,
            Self::Evicted | Self::Idle => false,
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

impl FromStr for EndReason {
    type Err = ();

    fn from_str(code: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|reason| reason.code() == code).ok_or(())
    }
}

/// The reason why a token is refused. The codes are the same in the CLI, over HTTP and in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// The text is not a token: wrong prefix, length, alphabet or checksum.
    #[error("token malformed")]
    Malformed,
    /// No session has this token.
    #[error("token unknown")]
    Unknown,
    /// The session has expired.
    #[error("token expired")]
    Expired,
    /// A rotation replaced the token.
    #[error("token rotated")]
    Rotated,
    /// The session was ended before its expiry.
    #[error("token {}", match .0 {
        EndReason::LoggedOut => "logged out",
        other => other.code(),
    })]
    Ended(EndReason),
}

impl Refusal {
    /// Whether the token may have been guessed, because it proves no secret of a session. Every other refusal needs a
    /// secret that once belonged to the session, so it is no sign of guessing, however often it happens.
    #[must_use]
    pub const fn may_be_guess(self) -> bool {
        match self {
            Self::Malformed | Self::Unknown => true,
            Self::Expired | Self::Rotated | Self::Ended(_) => false,
        }
    }

    /// Whether the client may delete the token, because its session has ended or does not exist. A rotated token is not
    /// final, because its session continues with another token. Neither is a text that is not a token.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Unknown | Self::Expired | Self::Ended(_) => true,
            Self::Malformed | Self::Rotated => false,
        }
    }

    /// Returns the stable code: `malformed`, `unknown`, `expired`, `idle`, `revoked`, `evicted`, `rotated`, `replayed`
    /// or `logged_out`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::Rotated => "rotated",
            Self::Ended(reason) => reason.code(),
        }
    }
}

impl FromStr for Refusal {
    type Err = ();

    fn from_str(code: &str) -> Result<Self, ()> {
        let plain = [Self::Malformed, Self::Unknown, Self::Expired, Self::Rotated];
        let found = plain.into_iter().find(|refusal| refusal.code() == code);
        found.map_or_else(|| code.parse().map(Self::Ended), Ok)
    }
}
