//! What a real browser makes of the gateway: Chromium, driven over its DevTools protocol, before a `tenure` that runs, with
//! and without nginx and Caddy between. The name that it asks by is one of a local network: on `localhost` browsers say
//! more of themselves (`Sec-Fetch-Site`), and tests there see nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chromium;
#[expect(dead_code, reason = "the other tests use the rest")]
#[path = "../it/support/home.rs"]
mod home;
mod house;
mod login;
mod pages;
mod proxies;
