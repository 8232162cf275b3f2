//! The layer from outside, and the examples as programs.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod examples;
mod layer;
mod support;
