//! A simulated storage with faults for tests of the JSON store, and the functions that its fuzzers call.
//!
//! [`SimulatedStorage`] implements the [`Storage`] of the JSON store, and is passed to a store in its options. It
//! counts operations, makes any of them fail, and shows what would be left after a power loss at any moment.
//!
//! [`Storage`]: tenure_adapter_json::Storage

pub mod fuzz;
mod simulated;

pub use simulated::{Fault, SimulatedStorage};
