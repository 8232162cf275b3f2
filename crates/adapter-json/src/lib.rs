//! The session repository in one append-only JSON journal, shared by any number of processes.
//!
//! ```text
//! find, load, page …   -> Journal (the table, current by one fstat)      no lock between processes
//! commit, touch, purge -> StoreState (queue) -> writer thread: lock, catch up, check, append, sync, answer
//! ```
//! The file is the one truth: everything in memory comes from its lines, this process' own ones included.

mod clock;
mod diagnose;
mod error;
mod event;
mod format;
mod index;
mod journal;
mod query;
mod repair;
mod state;
pub mod storage;
mod store;
mod table;
mod writer;

pub use clock::boot::{Boot, SystemBoot};
pub use diagnose::diagnose;
#[cfg(feature = "fuzz")]
#[doc(hidden)]
pub use format::is_valid_line;
pub use repair::{ClockSkew, Loss, RepairPlan, Repairer};
pub use storage::{OsStorage, Storage};
pub use store::{JsonStore, Options};
