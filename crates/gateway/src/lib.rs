//! Enforcement: HTTP and WebSocket traffic held to the rules of sessions.
//!
//! ```text
//! client ──> server ──> enforce (credential, peer, limits) ──> service ──> verdict
//!                          │ admitted                             │ refused: problem
//!                          ├──> api      what clients ask of Tenure itself
//!                          ├──> auth     an answer for another proxy
//!                          └──> proxy ──> upstream;  relay + live: watched for as long as it lasts
//! operator ──> admin: sessions, OAuth introspection and revocation, events, metrics, the page
//! ```
//! Names no adapter: whoever starts it brings the use cases ([`tenure_service::Sessions`]).

pub mod admin;
pub mod api;
mod auth;
mod bodies;
mod cookie;
mod cors;
mod credential;
mod describe;
mod enforce;
mod exchange;
mod failures;
pub mod fields;
mod frames;
mod front;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod headers;
mod html;
mod layer;
mod live;
mod login;
mod messages;
mod metrics;
pub mod openapi;
mod openclaw;
mod options;
mod origin;
mod peer;
mod problem;
mod proxy;
mod ready;
mod relay;
mod request_id;
mod rotation;
mod secret;
mod server;
mod stall;
mod target;
#[cfg(test)]
mod testing;
mod tls;
mod upstream;
mod watch;

pub use cookie::CookieName;
pub use credential::{Credential, CredentialError};
pub use enforce::Gate;
pub use layer::{CurrentSession, Tenure, TenureLayer};
pub use live::{Counts, Cut, Guard, Live};
pub use metrics::{Metrics, Outcome};
pub use options::{Enrolment, Limits, Options, Profile, PublicPath, TlsFiles, Upstream, UpstreamAuth};
pub use peer::{Connection, Peer};
pub use problem::{Problem, Refused};
pub use secret::SharedSecret;
pub use server::{ServeError, Server, raise_descriptor_limit};
pub use tls::TlsError;
