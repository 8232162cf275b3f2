//! Why a session ended and why a token is refused: the stable codes.

use std::fmt;
use std::str::FromStr;

/// Why a session was ended, durably, before its expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    /// An operator, an owner or a script revoked it.
    Revoked,
    /// One session too many was issued on its device.
    Evicted,
    /// A replaced token came back: somebody has a copy.
    Replayed,
    /// Its owner logged out.
    LoggedOut,
    /// It was left unused for its idle timeout.
    Idle,
}

impl EndReason {
    /// Every reason.
    pub const ALL: [Self; 5] = [Self::Revoked, Self::Evicted, Self::Replayed, Self::LoggedOut, Self::Idle];

    /// The stable code.
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

    /// Whether a session of this reason was ended on purpose: by a person who asked for it, or because its token was
    /// copied. The other reasons are consequences of a rule about something else, and the rule can be applied again.
    ///
    /// A store that could not write an explicit end must go on refusing the session.
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

/// Why a token is refused: the same codes in the CLI, over HTTP and in logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Refusal {
    /// Not a token: wrong prefix, length, alphabet or checksum.
    #[error("token malformed")]
    Malformed,
    /// No session knows this token.
    #[error("token unknown")]
    Unknown,
    /// The session's time is over.
    #[error("token expired")]
    Expired,
    /// A rotation replaced it.
    #[error("token rotated")]
    Rotated,
    /// The session ended before its time.
    #[error("token {}", match .0 {
        EndReason::LoggedOut => "logged out",
        other => other.code(),
    })]
    Ended(EndReason),
}

impl Refusal {
    /// Whether the token may have been guessed: it proves no secret of any session. Every other refusal is told only to
    /// whoever showed a secret that was the session's own, so it is no sign of guessing, however often it is shown.
    #[must_use]
    pub const fn may_be_guess(self) -> bool {
        match self {
            Self::Malformed | Self::Unknown => true,
            Self::Expired | Self::Rotated | Self::Ended(_) => false,
        }
    }

    /// Whether whoever shows the token may forget it: its session is over, or there is none. Not so of a token that was
    /// rotated, whose session lives on with another, nor of what is no token.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Unknown | Self::Expired | Self::Ended(_) => true,
            Self::Malformed | Self::Rotated => false,
        }
    }

    /// The stable code: `malformed`, `unknown`, `expired`, `idle`, `revoked`, `evicted`, `rotated`, `replayed` or
    /// `logged_out`.
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
