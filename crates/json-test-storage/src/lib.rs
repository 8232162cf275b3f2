//! A storage in memory that fails on request, for tests of the JSON store; and what its fuzzers call.
//!
//! [`SimulatedStorage`] implements the store's public [`Storage`] and is passed to it in its options. It counts
//! operations, lets any of them fail, and shows what a power loss at any moment would leave.
//!
//! [`Storage`]: tenure_adapter_json::Storage

pub mod fuzz;
mod simulated;

pub use simulated::{Fault, SimulatedStorage};
