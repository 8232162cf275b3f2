//! A simulated storage with faults and a simulated machine for tests of the JSON store, and the functions that its
//! fuzzers call.
//!
//! [`SimulatedStorage`] implements the [`Storage`] of the JSON store, and is passed to a store in its options. It
//! counts operations, makes any of them fail, and shows what would be left after a power loss at any moment.
//!
//! [`SimulatedMachine`] is the clock, the uptime and the boot id of a machine. It is passed as a store's clock and in its
//! options.
//!
//! [`Storage`]: tenure_adapter_json::Storage

pub mod fuzz;
mod machine;
mod simulated;

pub use machine::SimulatedMachine;
pub use simulated::{Fault, SimulatedStorage};
