//! The Redis store against real servers. Each test starts its own.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod access;
mod sessions;
mod support;
mod topologies;
