//! What a use case can answer instead of doing its work, one enum per operation.

use std::error::Error;
use std::fmt;

use tenure_domain::{IssueRefusal, PolicyError, Refusal, SessionId};
use tenure_ports::{ErrorSource, RandomSourceError, StoreError};

/// The reason why a change was not acknowledged. To show a session can fail with it too: a session that is found idle is
/// recorded as ended, durably, before it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The store refused or could not be reached; nothing was changed.
    Store(StoreError),
    /// Other processes kept changing the same device; nothing was changed.
    Contended {
        /// How often the change was decided anew.
        attempts: u32,
    },
    /// The change was made, but is not as safe as the settings ask.
    NotDurable {
        /// The store.
        location: String,
        /// What is missing, and what to do next.
        message: String,
    },
    /// Nobody can tell whether the change was made.
    OutcomeUnknown {
        /// The store.
        location: String,
        /// What happened.
        message: String,
        /// The error beneath.
        source: ErrorSource,
    },
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Contended { attempts } => write!(
                f,
                "gave up after {attempts} attempts, since other processes kept changing the same device; try again"
            ),
            Self::NotDurable { location, message } => write!(f, "{location}: {message}"),
            Self::OutcomeUnknown { location, message, .. } => write!(
                f,
                "outcome unknown: {location}: {message}; look at the session (sessions show) before trying again"
            ),
        }
    }
}

impl Error for WriteError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Store(error) => error.source(),
            Self::OutcomeUnknown { source, .. } => source.get(),
            Self::Contended { .. } | Self::NotDurable { .. } => None,
        }
    }
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A change that was not acknowledged, with what it would have answered, where it may have been made all the same
/// ([`WriteError::OutcomeUnknown`], [`WriteError::NotDurable`]).
#[derive(Debug)]
pub struct Unacknowledged<T> {
    /// Why there is no acknowledgement.
    pub error: WriteError,
    /// The answer, if the change was made. A new token stands in it.
    pub intended: Option<Box<T>>,
}

impl<T> fmt::Display for Unacknowledged<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: fmt::Debug> Error for Unacknowledged<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

impl<T> From<StoreError> for Unacknowledged<T> {
    fn from(error: StoreError) -> Self {
        WriteError::Store(error).into()
    }
}

impl<T> From<WriteError> for Unacknowledged<T> {
    fn from(error: WriteError) -> Self {
        Self { error, intended: None }
    }
}

/// Why no session was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The TTL that was asked for is out of range.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The device is another subject's. Its words name nobody.
    #[error(transparent)]
    Refused(#[from] IssueRefusal),
    /// No randomness was to be had.
    #[error(transparent)]
    Random(#[from] RandomSourceError),
    /// It was not acknowledged.
    #[error(transparent)]
    Write(Unacknowledged<crate::change::Issued>),
}

/// Why a token does not hold, or cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It does not hold.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be judged, or an end that must be durable before it is told is not.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for VerifyError {
    fn from(error: StoreError) -> Self {
        Self::Write(error.into())
    }
}

/// Why a token was not rotated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// The token does not hold, or is not the current one.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No randomness was to be had.
    #[error(transparent)]
    Random(#[from] RandomSourceError),
    /// It was not acknowledged.
    #[error(transparent)]
    Write(Unacknowledged<crate::change::Rotated>),
}

/// Why a name stands for no one session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// None starts so.
    #[error("no such session: {0}")]
    NoSuchSession(String),
    /// Several start so.
    #[error("{start} is the start of several session ids ({}); give more of it", list(.ids))]
    Ambiguous {
        /// What was given.
        start: String,
        /// Some of them.
        ids: Vec<SessionId>,
    },
    /// It is not the start of an id at all.
    #[error(transparent)]
    Malformed(#[from] tenure_domain::IdError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn list(ids: &[SessionId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A revocation that stopped. What it ended before stays ended.
#[derive(Debug)]
pub struct RevokeError {
    /// What had been done.
    pub done: crate::change::Revoked,
    /// The reason why it went no further.
    pub error: WriteError,
}

impl fmt::Display for RevokeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for RevokeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}
