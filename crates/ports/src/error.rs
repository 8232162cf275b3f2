//! What can go wrong at a port. The kinds are kept apart because each asks for something else: wait and try again,
//! repair, decide anew, or look before trying again.

/// A store that did not do as asked. Never means "no such session": absence is `Ok(None)`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It could not be reached, opened or locked in time, or may not be used as it stands. Nothing was changed.
    #[error("{location}: {message}")]
    Unavailable {
        /// Which store: a path or a server, without its password.
        location: String,
        /// What happened, and what to do next.
        message: String,
    },
    /// It has no room for more; nothing was changed, and what it holds is still served.
    #[error("{location}: {message}")]
    Full {
        /// Which store.
        location: String,
        /// What happened, and what to do next.
        message: String,
    },
    /// What it holds cannot be what was written. Nothing was changed.
    #[error("{location}: {message}")]
    Corrupt {
        /// Which store, and where in it: a line, a key.
        location: String,
        /// What does not check out, and what to do next.
        message: String,
    },
}

/// Why a commit was not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The device changed since it was loaded, a guarded session was used, or a record that must be new exists.
    /// Nothing was changed: load and decide again.
    #[error("another process changed the device's sessions first")]
    Conflict,
    /// The store's clock is past the commit's not-after time. Nothing was changed: load and decide again.
    #[error("the decision came too late to be applied")]
    TooLate,
    /// Applied, but not as safe as the settings ask: it can be lost if the server fails now.
    #[error("{location}: {message}")]
    NotDurable {
        /// Which store.
        location: String,
        /// What is missing, and what to do next.
        message: String,
    },
    /// The answer was lost: it may have been applied, or may yet be. Committing the very same again is safe: it is
    /// applied once or answered [`CommitError::Conflict`], and then the records tell.
    #[error("{location}: {message}")]
    OutcomeUnknown {
        /// Which store.
        location: String,
        /// What happened.
        message: String,
    },
    /// It certainly was not applied.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The source of randomness failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system's random source failed: {0}")]
pub struct RandomSourceError(pub String);
