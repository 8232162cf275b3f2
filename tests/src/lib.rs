//! One conformance suite, stamped for every adapter, and the CLI end to end.

pub mod host;
