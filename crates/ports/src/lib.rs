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
