//! Enforcement: HTTP and WebSocket traffic held to the rules of sessions.
//!
//! ```text
//! client ──> server ──> router ──> api      what clients ask of Tenure itself, forward authentication included
//!                          └─────> proxy ──> upstream
//!                                    both ask enforcement: admission, then guards for as long as the traffic lasts
//! operator ──> server ──> admin: sessions, OAuth introspection and revocation, events, metrics, the page
//! ```
//! It names no adapter: the program that starts it brings the use cases ([`tenure_service::Sessions`]).

pub mod admin;
pub mod api;
mod endpoint;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod gateway;
mod metrics;
mod options;
mod proxy;
mod server;
mod shared_secret;

pub use admin::openapi;
pub use gateway::Gateway;
pub use metrics::Metrics;
pub use options::{EnrolmentOptions, Limits, Options, Profile, TlsFiles, Upstream, UpstreamAuth};
pub use server::tls::TlsError;
pub use server::{ServeError, Server, raise_descriptor_limit};
pub use shared_secret::SharedSecret;
