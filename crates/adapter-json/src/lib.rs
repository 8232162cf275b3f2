//! The session repository in one append-only JSON journal, shared by any number of processes.
//!
//! ```text
//! find, load, page …  ->  Journal (the table, fresh by one fstat)        no lock between processes
//! commit, touch, purge -> Shared (queue) -> writer thread: lock, catch up, check, append, sync, answer
//! ```
//! The file is the one truth: everything in memory comes from its lines, this process' own ones included.

// The helpers of the tests name it from outside.
#[cfg(test)]
extern crate self as tenure_adapter_json;

mod apply;
mod boot;
mod examine;
#[cfg(test)]
mod faults;
mod feed;
mod format;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod guard;
mod index;
mod intern;
mod journal;
mod lock;
mod purge;
mod query;
mod repair;
mod snapshot;
mod store;
mod table;
mod time;
mod vfs;
mod writer;

pub use boot::{Boot, SystemBoot};
pub use examine::examine;
pub use repair::{Behind, Loss, Plan, plan, repair};
pub use store::{JsonStore, Options};
