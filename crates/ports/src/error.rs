//! The errors of the ports. Each kind asks its reader for something else: to wait and try again, to repair, to decide
//! again, or to look before trying again.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The cause of an error of a port: an error of the operating system or of a library. It may be absent.
///
/// The port's error returns it from [`Error::source`]. The message of the port's error already contains its text.
/// Errors of a port are compared without it.
#[derive(Clone, Default)]
pub struct ErrorSource(Option<Arc<dyn Error + Send + Sync>>);

impl ErrorSource {
    /// Makes the source of a port's error from the error that caused it.
    #[must_use]
    pub fn new(error: impl Error + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(error)))
    }

    /// Returns the error that caused the port's error, if there is one.
    #[must_use]
    pub fn get(&self) -> Option<&(dyn Error + 'static)> {
        self.0.as_deref().map(|error| error as _)
    }
}

impl fmt::Debug for ErrorSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A library's error may hold more than a log should. The message beside it was written with care.
        f.write_str(if self.0.is_some() { "Some(..)" } else { "None" })
    }
}

impl PartialEq for ErrorSource {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ErrorSource {}

/// The failure of a call to a store. It never means "no such session": absence is `Ok(None)`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreError {
    /// The store could not be reached, opened or locked in time, or must not be used in its state. Nothing was changed.
    Unavailable {
        /// The store: a path, or a server without its password.
        location: String,
        /// What happened, and what to do next.
        message: String,
        /// The error that caused this one, if there is one.
        source: ErrorSource,
    },
    /// The store has no space left. Nothing was changed, and reading still works.
    Full {
        /// The store.
        location: String,
        /// What happened, and what to do next.
        message: String,
        /// The error that caused this one, if there is one.
        source: ErrorSource,
    },
    /// The store holds something that Tenure did not write: it is damaged. Nothing was changed.
    Corrupt {
        /// The store, and the place in it: a line, a key.
        location: String,
        /// What is wrong there, and what to do next.
        message: String,
        /// The error that caused this one, if there is one.
        source: ErrorSource,
    },
}

impl StoreError {
    /// Makes a [`StoreError::Unavailable`] without a source.
    #[must_use]
    pub fn unavailable(location: impl Into<String>, message: impl Into<String>) -> Self {
        let (location, message) = (location.into(), message.into());
        Self::Unavailable { location, message, source: ErrorSource::default() }
    }

    /// Makes a [`StoreError::Full`] without a source.
    #[must_use]
    pub fn full(location: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Full { location: location.into(), message: message.into(), source: ErrorSource::default() }
    }

    /// Makes a [`StoreError::Corrupt`] without a source.
    #[must_use]
    pub fn corrupt(location: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Corrupt { location: location.into(), message: message.into(), source: ErrorSource::default() }
    }

    /// Sets the source of this error.
    #[must_use]
    pub fn with_source(mut self, new: ErrorSource) -> Self {
        let (Self::Unavailable { source, .. } | Self::Full { source, .. } | Self::Corrupt { source, .. }) = &mut self;
        *source = new;
        self
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unavailable { location, message, .. }
        | Self::Full { location, message, .. }
        | Self::Corrupt { location, message, .. }) = self;
        write!(f, "{location}: {message}")
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let (Self::Unavailable { source, .. } | Self::Full { source, .. } | Self::Corrupt { source, .. }) = self;
        source.get()
    }
}

/// The reason why a commit was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitError {
    /// The device changed since it was loaded, a guarded session was used, or the id of a new session is in use.
    /// Nothing was changed. Load the device and decide again.
    Conflict,
    /// The store's clock is past the commit's `not_after`. Nothing was changed. Load the device and decide again.
    TooLate,
    /// The commit was applied, but not as durably as the settings ask. It is lost if the server fails now.
    NotDurable {
        /// The store.
        location: String,
        /// What is missing, and what to do next.
        message: String,
    },
    /// The answer was lost. The commit may have been applied, or may still be applied. It is safe to submit the very
    /// same commit again: either it is applied then, or the answer is [`CommitError::Conflict`] and the records show
    /// what happened.
    OutcomeUnknown {
        /// The store.
        location: String,
        /// What happened.
        message: String,
        /// The error that caused this one, if there is one.
        source: ErrorSource,
    },
    /// The store failed, and the commit was certainly not applied.
    Store(StoreError),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => f.write_str("another process changed the device's sessions first"),
            Self::TooLate => f.write_str("the decision came too late to be applied"),
            Self::NotDurable { location, message } | Self::OutcomeUnknown { location, message, .. } => {
                write!(f, "{location}: {message}")
            }
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl Error for CommitError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::OutcomeUnknown { source, .. } => source.get(),
            Self::Store(error) => error.source(),
            Self::Conflict | Self::TooLate | Self::NotDurable { .. } => None,
        }
    }
}

impl From<StoreError> for CommitError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The failure of a random source. No session may then be issued or rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RandomSourceError {
    message: String,
    source: ErrorSource,
}

impl RandomSourceError {
    /// Makes an error that says what happened, without a source.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: ErrorSource::default() }
    }

    /// Sets the source of this error.
    #[must_use]
    pub fn with_source(self, source: ErrorSource) -> Self {
        Self { source, ..self }
    }
}

impl fmt::Display for RandomSourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the operating system's random source failed: {}", self.message)
    }
}

impl Error for RandomSourceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.get()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_source_is_kept_through_both_errors_and_not_printed() {
        let source = ErrorSource::new(io::Error::from(io::ErrorKind::PermissionDenied));
        let error = StoreError::unavailable("/store", "cannot open it").with_source(source);
        assert_eq!(error.to_string(), "/store: cannot open it");
        assert_eq!(error, StoreError::unavailable("/store", "cannot open it"));
        let commit = CommitError::from(error);
        let found = commit.source().and_then(|source| source.downcast_ref::<io::Error>()).unwrap();
        assert_eq!(found.kind(), io::ErrorKind::PermissionDenied);
        assert!(!format!("{commit:?}").contains("PermissionDenied"));
        assert!(CommitError::Conflict.source().is_none());
    }

    #[test]
    fn a_failure_of_the_random_source_keeps_its_own_source() {
        let source = ErrorSource::new(io::Error::from(io::ErrorKind::NotFound));
        let error = RandomSourceError::new("no entropy").with_source(source);
        assert_eq!(error.to_string(), "the operating system's random source failed: no entropy");
        assert!(error.source().is_some_and(|source| source.is::<io::Error>()));
        assert!(RandomSourceError::new("no entropy").source().is_none());
    }
}
