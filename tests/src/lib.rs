//! What proves Tenure as a whole: the stores that the conformance suite runs on, and recorded histories of real
//! processes with what they are judged by.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

pub mod fixtures;
pub mod history;
