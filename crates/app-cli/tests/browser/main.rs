//! The gateway with a real browser: Chromium, controlled over its DevTools protocol, directly and behind nginx and Caddy. The
//! browser uses a name of a local network. On `localhost` browsers send more headers (`Sec-Fetch-Site`), so tests there would
//! miss problems.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chromium;
#[expect(dead_code, reason = "the other tests use the rest")]
#[path = "../it/support/home.rs"]
mod home;
mod house;
mod login;
mod pages;
mod proxies;
