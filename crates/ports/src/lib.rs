//! The ports of Tenure: what it needs from the outside, and what each implementation promises.
//!
//! A [`SessionRepository`] keeps sessions, a [`Clock`] tells the time, and a [`RandomSource`] gives random bytes. A
//! repository compares and keeps; it knows no rule. `docs/adding-a-backend.md` in Tenure's repository shows how to write
//! one, and `tenure-conformance` tests it.
//!
//! "Later" in these pages means: begun after the other call's answer was received, in any process.
//!
//! ```
//! use tenure_domain::Timestamp;
//! use tenure_ports::Clock;
//!
//! /// A clock that always shows the same time.
//! struct Stopped(Timestamp);
//!
//! impl Clock for Stopped {
//!     fn now(&self) -> Timestamp {
//!         self.0
//!     }
//! }
//!
//! let clock: &dyn Clock = &Stopped(Timestamp::from_millis(1_000));
//! assert_eq!(clock.now(), clock.now());
//! ```
//!
//! # Features
//! - `system`: `SystemClock` and `SystemRandom`, the clock and the random source of the operating system.
//! - `mock`: mockall doubles of all ports.

mod backend;
mod error;
mod event;
#[cfg(feature = "mock")]
mod mock;
mod repository;
#[cfg(feature = "system")]
mod system;

pub use backend::{Backend, Diagnosis, Severity};
pub use error::{CommitError, ErrorSource, RandomSourceError, StoreError};
pub use event::{ChangeKind, EventStream, StoreEvent};
#[cfg(feature = "mock")]
pub use mock::MockSessionRepository;
pub use repository::{
    Cursor, FindOptions, Page, Purge, Purged, SessionCache, SessionCommits, SessionQueries, SessionRepository,
    SessionUpkeep,
};
#[cfg(feature = "system")]
pub use system::{SystemClock, SystemRandom};
use tenure_domain::Timestamp;

/// The traits of the repository, imported without their names, for code that only calls their methods.
pub mod prelude {
    pub use crate::{
        Backend as _, SessionCache as _, SessionCommits as _, SessionQueries as _, SessionRepository as _,
        SessionUpkeep as _,
    };
}

/// The time of day of a store.
///
/// A use case reads it once, after the record has arrived, so that a slow read cannot extend a session. All processes
/// on one store should agree: the JSON store's time is never behind what it has recorded, and processes on Redis follow
/// the server's clock.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Clock: Send + Sync {
    /// Returns the time now. It never blocks and never fails: a store whose time cannot be trusted refuses its own
    /// calls instead.
    fn now(&self) -> Timestamp;

    /// Returns the time of this machine's clock, which can differ from the store's time. It is for comparing the
    /// store's times with another clock; no rule depends on it.
    fn wall(&self) -> Timestamp {
        self.now()
    }
}

/// A source of random bytes: the operating system's.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait RandomSource: Send + Sync {
    /// Fills `buffer` with bytes that nobody can predict.
    ///
    /// # Errors
    /// [`RandomSourceError`] if the source fails. No session may then be issued or rotated.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomSourceError>;
}
