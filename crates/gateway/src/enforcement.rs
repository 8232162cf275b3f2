//! The rules of sessions, enforced on HTTP requests and on everything that outlives a request.
//!
//! ```text
//! request ──> admission ──> public | session | problem
//!                │             └──> response_guard: the bodies, held to the session
//!                │             └──> connection_registry: WebSockets and long responses, held to the session
//!                └── request (peer, presented token, header fields), csrf, lockout
//! ```
//! Knows no server and no upstream, and imports nothing from the rest of the gateway: whoever uses it brings the use cases
//! ([`tenure_service::Sessions`]) and an [`EnforcementConfig`].

pub(crate) mod admission;
mod client_recorder;
mod config;
pub(crate) mod connection_registry;
pub(crate) mod csrf;
mod enforcer;
pub(crate) mod forward_auth;
mod layer;
pub(crate) mod lockout;
pub(crate) mod metrics;
pub(crate) mod problem;
pub(crate) mod request;
pub(crate) mod response_guard;
#[cfg(test)]
pub(crate) mod test_support;

pub(crate) use client_recorder::client_info;
pub use config::{EnforcementConfig, PublicPath};
pub use connection_registry::{CloseReason, ConnectionCounts, ConnectionGuard, ConnectionRegistry};
pub use enforcer::Enforcer;
pub use layer::{CurrentSession, Tenure, TenureLayer};
pub use metrics::{Metrics, Outcome};
pub use problem::{Problem, TokenRejection};
