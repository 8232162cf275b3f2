//! A session repository in one append-only JSON journal, which any number of processes on one machine share.
//!
//! ```text
//! find, load, page …   -> Journal (the table in memory)                  no lock between processes
//! commit, touch, purge -> StoreState (queue) -> writer thread: lock, catch up, check, append, sync, answer
//! ```
//! Before each read, one `fstat` shows whether another process has written. The file is the only source of truth: all
//! that is in memory comes from its lines, including those that this process wrote.

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
