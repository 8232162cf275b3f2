//! The stores against the promises of their port, against each other, and under what real processes do to them.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod fixtures;
mod histories;
mod lost;
mod processes;
mod promises;
mod round_trips;
mod topologies;
mod trace;
