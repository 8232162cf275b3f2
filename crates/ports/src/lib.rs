//! The ports of Tenure: what it needs from the outside, and what each implementation promises.
//!
//! A [`SessionRepository`] keeps sessions, a [`Clock`] tells the time, and a [`RandomSource`] gives random bytes. A
//! repository stores and compares; the rules are in `tenure-domain`. `docs/adding-a-backend.md` in Tenure's repository
//! shows how to write one, and `tenure-conformance` tests it.
//!
//! In these pages, one call is *later* than another if it began after the other one had returned, in any process.
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

/// The traits of the repository without their names, for code that only calls their methods.
pub mod prelude {
    pub use crate::{
        Backend as _, SessionCache as _, SessionCommits as _, SessionQueries as _, SessionRepository as _,
        SessionUpkeep as _,
    };
}

/// A clock that tells the time by which sessions are judged.
///
/// A use case reads it once, after the record has arrived, so that a slow read cannot extend a session. All processes
/// that have a store open should agree on the time. So the JSON store's time is never behind what it has recorded, and
/// processes on Redis follow the server's clock.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Clock: Send + Sync {
    /// Returns the time now. It neither blocks nor fails. A store whose time cannot be trusted refuses its own calls
    /// instead.
    fn now(&self) -> Timestamp;

    /// Returns the time of this machine's own clock, which can differ from the store's time. It serves to compare the
    /// store's times with another clock. No rule depends on it.
    fn wall(&self) -> Timestamp {
        self.now()
    }
}

/// A source of random bytes for ids and secrets, such as the operating system's.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait RandomSource: Send + Sync {
    /// Fills `buffer` with cryptographically secure random bytes.
    ///
    /// # Errors
    /// [`RandomSourceError`] if the source fails. No session may then be issued or rotated.
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomSourceError>;
}
