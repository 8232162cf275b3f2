//! The errors of the use cases, one enum per operation.

use std::error::Error;
use std::fmt;

use tenure_domain::{IssueRefusal, PolicyError, Refusal, SessionId};
use tenure_ports::{ErrorSource, RandomSourceError, StoreError};

/// The reason why a change was not acknowledged.
///
/// Showing a session can fail with it too, because a session that is found idle is durably recorded as ended before it
/// is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WriteError {
    /// The store failed. Nothing was changed.
    Store(StoreError),
    /// Other processes kept changing the same device. Nothing was changed.
    Contended {
        /// How often the change was decided.
        attempts: u32,
    },
    /// The change was made, but not as durably as the settings ask.
    NotDurable {
        /// The store.
        location: String,
        /// What is missing, and what to do next.
        message: String,
    },
    /// It is not known whether the change was made.
    OutcomeUnknown {
        /// The store.
        location: String,
        /// What happened.
        message: String,
        /// The error that caused this one, if there is one.
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

/// A change that was not acknowledged. If it was or may have been made all the same ([`WriteError::NotDurable`],
/// [`WriteError::OutcomeUnknown`]), the result comes with the error.
#[derive(Debug)]
pub struct Unacknowledged<T> {
    /// The reason.
    pub error: WriteError,
    /// The result that the change has if it was made. It may contain a new token.
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

/// The reason why no session was issued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The TTL that was asked for is out of range.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The device belongs to other subjects, or they fill its cap. The message names no subject.
    #[error(transparent)]
    Refused(#[from] IssueRefusal),
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomSourceError),
    /// The change was not acknowledged.
    #[error(transparent)]
    Write(Unacknowledged<crate::change::Issued>),
}

/// The reason why a token is refused or cannot be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The token is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The token cannot be verified, or the end of its session is not durable yet.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl From<StoreError> for VerifyError {
    fn from(error: StoreError) -> Self {
        Self::Write(error.into())
    }
}

/// The reason why a token was not rotated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotateError {
    /// The token is refused, or is not the current one.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The random source failed.
    #[error(transparent)]
    Random(#[from] RandomSourceError),
    /// The change was not acknowledged.
    #[error(transparent)]
    Write(Unacknowledged<crate::change::Rotated>),
}

/// The reason why a prefix does not identify one session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// No session id starts with the prefix.
    #[error("no such session: {0}")]
    NoSuchSession(String),
    /// Several session ids start with the prefix.
    #[error("{start} is the start of several session ids ({}); give more of it", list(.ids))]
    Ambiguous {
        /// The prefix.
        start: String,
        /// Some of these ids.
        ids: Vec<SessionId>,
    },
    /// The text cannot be the beginning of an id.
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
    /// The sessions that had been ended before it stopped.
    pub done: crate::change::Revoked,
    /// The reason why it stopped.
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
