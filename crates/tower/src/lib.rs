//! Tenure's sessions enforced on HTTP services.
//!
//! [`TenureLayer`] is a tower layer. It lets a request through to a service in Rust if the request's token is valid, and
//! ends whatever is left of the request and its response when the session ends. It works with axum, tonic, a bare hyper
//! server, and any other service of `http` requests:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::convert::Infallible;
//! use std::sync::Arc;
//!
//! use http::{Request, Response, StatusCode};
//! use tenure_adapter_memory::MemoryStore;
//! use tenure_domain::{ClientInfo, DeviceId, Policy, Subject};
//! use tenure_ports::{SystemClock, SystemRandom};
//! use tenure_service::{IssueRequest, Sessions, Target};
//! use tenure_tower::{CurrentSession, EnforcementConfig, Enforcer, RequestBody, TenureLayer};
//! use tower::{Layer as _, ServiceExt as _, service_fn};
//!
//! // The sessions: a store, a clock, a source of random bytes, and a policy. A real service opens the JSON or Redis store.
//! let clock = Arc::new(SystemClock);
//! let store = MemoryStore::new(clock.clone());
//! let sessions = Arc::new(Sessions::new(store, clock, Arc::new(SystemRandom), Policy::default()));
//!
//! // The service, behind the layer. It reads whose session a request has.
//! let enforcer = Enforcer::new(sessions.clone(), EnforcementConfig::default());
//! let hello = service_fn(|request: Request<RequestBody<String>>| async move {
//!     let session = request.extensions().get::<CurrentSession>().unwrap();
//!     Ok::<_, Infallible>(Response::new(format!("hello {}", session.session().subject)))
//! });
//! let service = TenureLayer::new(enforcer).layer(hello);
//!
//! // A device of Anna's gets a token.
//! let request = IssueRequest {
//!     device: DeviceId::new("laptop").unwrap(),
//!     subject: Subject::new("anna").unwrap(),
//!     client: ClientInfo::default(),
//!     ttl: None,
//! };
//! let issued = sessions.issue(request).await.unwrap();
//! let bearer = format!("Bearer {}", issued.token.to_text().expose());
//! let ask = || {
//!     let request = Request::get("/").header("authorization", &bearer).body(String::new()).unwrap();
//!     service.clone().oneshot(request)
//! };
//! assert_eq!(ask().await.unwrap().status(), StatusCode::OK);
//!
//! // An operator ends the session: the next request is refused.
//! let target = Target::Ids(vec![issued.session.id]);
//! sessions.revoke(&target, None, &Sessions::revocation(None, None)).await.unwrap();
//! assert_eq!(ask().await.unwrap().status(), StatusCode::UNAUTHORIZED);
//! # });
//! ```
//!
//! The folder `examples/` has a whole server for axum, tonic and hyper. A server also runs [`Enforcer::run_flush_loop`],
//! which writes recorded activity to the store.
//!
//! ```text
//! request ──> Admit ──> public | session | rejected with a Problem
//!               │  (request: peer, presented token, header fields; csrf; lockout)
//!               └──> inner service: a service of this process, or a proxy
//!                      ├──> response_guard: both bodies, held to the session
//!                      └──> connection_registry: WebSockets and long responses, held to the session
//! ```
//! [`TenureLayer`] is [`Admit`] around a service of this process. A proxy is another inner service of [`Admit`], which
//! gets the [`AdmittedRequest`]. Tenure's gateway is built so, of the modules of this crate.
//!
//! # Features
//! - `axum`: [`CurrentSession`] as an extractor, [`Problem`] as a response, and the client's address from `ConnectInfo`.
//! - `openapi`: the schema of [`problem::ProblemBody`], for utoipa.

mod client_recorder;
mod config;
mod enforcer;
mod layer;
mod observer;

pub mod admission;
pub mod connection_registry;
pub mod csrf;
pub mod lockout;
pub mod problem;
pub mod request;
pub mod response_guard;
#[cfg(test)]
mod test_support;

pub use admission::admit::{Admit, AdmittedRequest, IncomingRequest, Reject};
pub use client_recorder::client_info;
pub use config::{EnforcementConfig, PublicPath};
pub use connection_registry::{CloseReason, ConnectionCounts, ConnectionGuard, ConnectionRegistry};
pub use enforcer::Enforcer;
pub use layer::{CurrentSession, RequestBody, ResponseBody, Tenure, TenureLayer};
pub use observer::{Observer, Outcome};
pub use problem::{Problem, TokenRejection};
pub use request::cookie::CookieName;
pub use request::peer::{Connection, Peer};
pub use request::presented_token::{PresentedToken, PresentedTokenError};

/// An error of any type.
type BoxError = Box<dyn std::error::Error + Send + Sync>;
