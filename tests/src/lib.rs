//! What proves Tenure as a whole: a reference model of the store, one conformance suite that is stamped for every
//! adapter, and recorded histories of real processes with what they are judged by.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

pub mod conformance;
pub mod history;
pub mod host;
pub mod model;
pub mod stand;
pub mod time;
