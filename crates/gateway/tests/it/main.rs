//! The gateway from outside: requests in, answers out.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod admin;
mod api;
mod browsers;
mod forwarding;
mod proxy;
mod server;
mod support;
