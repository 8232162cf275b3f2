//! Tests of the rules of sessions and tokens: as properties of random inputs, and with the examples of the documentation.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod commits;
mod decisions;
mod fuzzed;
mod ids;
mod import;
mod overlap;
mod owners;
mod policy;
mod session;
mod support;
mod texts;
mod time;
mod token;
mod trace;
