//! The store against real servers, each test with one of its own.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod client_cache;
mod cluster;
mod connection;
mod contract;
mod damage;
mod durability;
mod events;
mod expiry;
mod rights;
mod role;
mod secrets;
mod sentinel;
mod support;
mod tls;
mod walks;
