//! The errors of commands, and the exit code of each.

use tenure_domain::{PolicyError, Refusal, TextError};
use tenure_ports::{RandomSourceError, StoreError};
use tenure_service::{ExportError, IssueError, ReplaceError, ResolveError, RotateError, VerifyError, WriteError};

use crate::settings::SettingsError;

/// The reason why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The command was called with wrong arguments.
    #[error("{0}")]
    Usage(String),
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// There is no session with this id.
    #[error("no such session: {0}")]
    NoSuchSession(String),
    /// The device or the subject with this name has no sessions.
    #[error("{0} has no sessions (tenure sessions list --all shows all sessions)")]
    NoneOf(String),
    /// The token is refused.
    #[error("{0}")]
    Refused(Refusal),
    /// The token is refused, and standard output already says so.
    #[error("{0}")]
    RefusedAsAnswered(Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not acknowledge a change.
    #[error(transparent)]
    Write(WriteError),
    /// Any other failure.
    #[error("{0}")]
    Failed(String),
    /// Some of the work could not be done, and the output already says so.
    #[error("some of it was not done")]
    Partly,
    /// There is no store, and the output already says so.
    #[error("there is no store")]
    NoStore,
    /// Something was not found, with the store that was searched.
    #[error("{failure}")]
    LookedIn {
        /// The path or the server of the store.
        place: String,
        /// The error that says what was not found.
        failure: Box<CliError>,
    },
    /// The process was asked to end.
    #[error("interrupted: {0}")]
    Interrupted(String),
    /// The reader of standard output has closed it.
    #[error("standard output was closed")]
    OutputClosed,
}

impl CliError {
    /// Returns the exit code. No other place chooses one.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::OutputClosed => 0,
            Self::Failed(_) | Self::Partly => 1,
            Self::Usage(_) | Self::Settings(_) => 2,
            Self::NoSuchSession(_) | Self::NoneOf(_) => 3,
            Self::Refused(_) | Self::RefusedAsAnswered(_) => 4,
            Self::NoStore => 5,
            Self::LookedIn { failure, .. } => failure.code(),
            Self::Store(error) | Self::Write(WriteError::Store(error)) => match error {
                StoreError::Unavailable { .. } | StoreError::Full { .. } => 5,
                StoreError::Corrupt { .. } => 6,
                _ => 1,
            },
            // A conflict, a change that is not durable, or an unknown outcome.
            Self::Write(_) => 1,
            Self::Interrupted(_) => 130,
        }
    }

    /// Returns whether the output already says what failed.
    pub(crate) fn is_said_already(&self) -> bool {
        match self {
            Self::OutputClosed | Self::RefusedAsAnswered(_) | Self::Partly | Self::NoStore => true,
            Self::LookedIn { failure, .. } => failure.is_said_already(),
            _ => false,
        }
    }

    /// Adds the store that was searched, if the error says that something was not found.
    pub(crate) fn looked_in(self, place: String) -> Self {
        match self {
            Self::NoSuchSession(_)
            | Self::NoneOf(_)
            | Self::Refused(Refusal::Unknown)
            | Self::RefusedAsAnswered(Refusal::Unknown) => Self::LookedIn { place, failure: Box::new(self) },
            other => other,
        }
    }
}

impl From<VerifyError> for CliError {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Refused(refusal) => Self::Refused(refusal),
            VerifyError::Write(error) => Self::Write(error),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<IssueError> for CliError {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Policy(error) => error.into(),
            IssueError::Random(error) => error.into(),
            IssueError::Write(unacknowledged) => Self::Write(unacknowledged.error),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<RotateError> for CliError {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Refused(refusal) => Self::Refused(refusal),
            RotateError::Random(error) => error.into(),
            RotateError::Write(unacknowledged) => Self::Write(unacknowledged.error),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<WriteError> for CliError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<ResolveError> for CliError {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::NoSuchSession(start) => {
                Self::NoSuchSession(format!("{start} (tenure sessions list --all shows all sessions)"))
            }
            ResolveError::Store(error) => Self::Store(error),
            ResolveError::Ambiguous { .. } | ResolveError::Malformed(_) => Self::Usage(error.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<ReplaceError> for CliError {
    fn from(error: ReplaceError) -> Self {
        match error {
            ReplaceError::Store(error) => Self::Store(error),
            ReplaceError::Issue(error) => error.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<ExportError> for CliError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Store(error) => Self::Store(error),
            ExportError::Io(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Self::OutputClosed,
            other => Self::Failed(other.to_string()),
        }
    }
}

impl From<PolicyError> for CliError {
    fn from(error: PolicyError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<TextError> for CliError {
    fn from(error: TextError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<RandomSourceError> for CliError {
    fn from(error: RandomSourceError) -> Self {
        Self::Failed(error.to_string())
    }
}
