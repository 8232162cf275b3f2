//! What Tenure asks of the outside, and what each answer promises.
//!
//! Three ports: a [`SessionRepository`] keeps sessions, a [`Clock`] tells the time, an [`RandomSource`] gives randomness.
//! A store compares and keeps; it knows no rule. The feature `mock` adds mockall doubles of all three.
//!
//! "Later" in these pages means: begun after the other call's answer was received, in any process.

mod backend;
mod error;
mod event;
#[cfg(feature = "mock")]
mod mock;
mod repository;

pub use backend::{Backend, Diagnosis, Severity};
pub use error::{CommitError, RandomSourceError, StoreError};
pub use event::{ChangeKind, EventStream, StoreEvent};
#[cfg(feature = "mock")]
pub use mock::MockSessionRepository;
pub use repository::{
    Cursor, FindOptions, Page, Purge, Purged, SessionCache, SessionCommits, SessionQueries, SessionRepository,
    SessionUpkeep,
};
use tenure_domain::Timestamp;

/// The traits of the repository, for whoever only calls their methods.
pub mod prelude {
    pub use crate::{
        Backend as _, SessionCache as _, SessionCommits as _, SessionQueries as _, SessionRepository as _,
        SessionUpkeep as _,
    };
}

/// The time of day, as the store counts it.
///
/// A use case reads it once, after the record it decides on has arrived, so that no slow read stretches a life.
/// All processes on one store should agree: the JSON store never runs behind what it has recorded, and a fleet on
/// Redis follows the server's clock.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Clock: Send + Sync {
    /// Now. Never blocks and never fails: a store whose time cannot be trusted refuses its own calls instead.
    fn now(&self) -> Timestamp;

    /// What this machine's clock says, where the store's time is carried on apart from it: for whoever compares times
    /// of the store with another clock. No rule goes by it.
    fn wall(&self) -> Timestamp {
        self.now()
    }
}

/// The operating system's source of randomness.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait RandomSource: Send + Sync {
    /// Fills `buffer` with bytes that nobody can predict.
    ///
    /// # Errors
    /// [`RandomSourceError`] where the source fails; no session may then be issued or rotated.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomSourceError>;
}
