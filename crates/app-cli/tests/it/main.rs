//! The `tenure` command end to end: real processes, each test with its own directories, both backends.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod commands;
mod gateway;
mod pages;
mod sessions;
mod support;
