//! The `tenure` command end to end: real processes, each test with its own directories, both backends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod arguments;
mod config;
mod docs;
mod doctor;
mod exit_codes;
mod gateway;
mod gateway_settings;
mod home;
mod http_docs;
#[cfg(target_os = "linux")]
mod leftovers;
mod lost;
mod model;
mod moving;
mod oauth;
mod operators;
mod processes;
mod restart;
mod secrets;
mod snapshots;
mod sockets;
mod stores;
mod terminals;
mod tokens;
mod watch;
mod wrong_store;
