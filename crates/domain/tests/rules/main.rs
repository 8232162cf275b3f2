//! The rules of sessions and tokens, as laws over random inputs and as the examples that users read.

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
