//! The rules as a tower layer, for services in Rust that need no proxy in front of them.
//!
//! ```no_run
//! # async fn serve(enforcer: std::sync::Arc<tenure_gateway::Enforcer>) -> std::io::Result<()> {
//! use axum::{Router, routing::get};
//! use tenure_gateway::{CurrentSession, TenureLayer};
//!
//! async fn hello(session: CurrentSession) -> String {
//!     format!("hello {}", session.session().subject)
//! }
//!
//! let app = Router::new().route("/", get(hello)).layer(TenureLayer::new(enforcer.clone()));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! // Activity is written in the background, and failures are counted by the client's address.
//! tokio::spawn(async move { enforcer.run_flush_loop(std::future::pending()).await });
//! axum::serve(listener, app.into_make_service_with_connect_info::<std::net::SocketAddr>()).await
//! # }
//! ```

use std::convert::Infallible;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::BoxError;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{HeaderValue, Request};
use http_body::Body as _;
use tenure_domain::Session;
use tower::{Layer, Service};

use super::admission::{Admission, AdmissionRequest, RequestTarget};
use super::config::EnforcementConfig;
use super::enforcer::Enforcer;
use super::problem::{Problem, TokenRejection};
use super::request::cookie;
use super::request::header_fields::{TENURE_ROTATE, strip_claims};
use super::request::headers::{HeaderValues, set_forwarding, strip_token};
use super::request::peer::{Connection, Peer, normalize_host};
use super::response_guard::Exchange;
use super::response_guard::body::{GuardedBody, GuardedUpload, RevocableBody, is_event_stream};

/// Lets requests through to a service whose token holds, with their session as [`CurrentSession`]; answers the others
/// with a [`Problem`]. As in front of an upstream: public paths need no token, the token and what only the gateway may
/// say are removed from the headers (docs/gateway.md has the table), `X-Forwarded-For`, `-Proto` and `-Host` are set and
/// believed of trusted proxies only, a cookie allows no change for another site, `Tenure-Rotate: due` is set, and what
/// lasts of request and response is cut when the session ends: the bodies are dropped, and whoever reads them gets an
/// error. The client's connection is the server's, and ends when it reads so. No header says whose session it is: [`CurrentSession`] does.
///
/// The client's address comes from axum's `ConnectInfo<SocketAddr>`; without it all clients count as one where
/// failures are counted, and the three forwarding headers are removed instead of set. A server that speaks TLS itself
/// puts a [`Connection`] into each request's extensions instead, or the cookie that counts in clear is believed. Does not
/// watch WebSockets: a handler that upgrades has to end with its session itself
/// ([`ConnectionRegistry::register`](super::ConnectionRegistry::register)).
#[derive(Clone)]
pub struct TenureLayer {
    enforcer: Arc<Enforcer>,
}

impl TenureLayer {
    /// The layer of this gate.
    #[must_use]
    pub const fn new(enforcer: Arc<Enforcer>) -> Self {
        Self { enforcer }
    }
}

impl<S> Layer<S> for TenureLayer {
    type Service = Tenure<S>;

    fn layer(&self, inner: S) -> Tenure<S> {
        Tenure { inner, enforcer: self.enforcer.clone() }
    }
}

/// A service behind the gate: what [`TenureLayer`] makes.
#[derive(Clone)]
pub struct Tenure<S> {
    inner: S,
    enforcer: Arc<Enforcer>,
}

/// The session of a request that [`TenureLayer`] let through. As `Option<CurrentSession>` it is `None` on public paths.
#[derive(Clone, Debug)]
pub struct CurrentSession(Arc<Session>);

impl CurrentSession {
    /// The session, as it was when the request began.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for CurrentSession {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or(Problem::Unauthorized(TokenRejection::Missing))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for CurrentSession {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned())
    }
}

impl<S, B> Service<Request<B>> for Tenure<S>
where
    S: Service<Request<Body>, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The one that is ready is used up, and the copy is asked next time.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let enforcer = self.enforcer.clone();
        Box::pin(async move {
            let config = enforcer.config();
            let admitted = match admit(&enforcer, &mut request, &config).await {
                Ok(admitted) => admitted,
                Err(problem) => {
                    let mut response = problem.into_response();
                    cookie::clear_if_marked(&mut response, &config.cookie_name, is_secure(&request, &config));
                    return Ok(response);
                }
            };
            let (exchange, due) = match admitted {
                Some((session, due)) => {
                    (Some(<Exchange>::new(enforcer.guards(), Some(Arc::unwrap_or_clone(session)))), due)
                }
                None => (None, false),
            };
            let request = request.map(Body::new);
            let request = match &exchange {
                Some(exchange) if !request.body().is_end_stream() => request.map(|body| {
                    let body = RevocableBody::new(body, exchange);
                    Body::new(GuardedUpload::new(body, exchange.clone()))
                }),
                _ => request,
            };
            let mut response = inner.call(request).await?;
            response.headers_mut().remove(TENURE_ROTATE);
            let Some(exchange) = exchange else { return Ok(response) };
            if due {
                response.headers_mut().insert(TENURE_ROTATE, HeaderValue::from_static("due"));
            }
            if response.body().is_end_stream() {
                return Ok(response);
            }
            let endless = is_event_stream(response.headers());
            Ok(response.map(|body| {
                let body = RevocableBody::new(body, &exchange);
                Body::new(GuardedBody::new(body, exchange, None, endless))
            }))
        })
    }
}

/// The connection that a request came by, as its server says.
fn connection_of<B>(request: &Request<B>) -> Option<Connection> {
    let extensions = request.extensions();
    let plain = || extensions.get::<ConnectInfo<SocketAddr>>().map(|info| Connection::new(info.0, false));
    extensions.get::<Connection>().copied().or_else(plain)
}

/// Whether the client came over TLS.
fn is_secure<B>(request: &Request<B>, config: &EnforcementConfig) -> bool {
    let connection = connection_of(request).unwrap_or_else(unknown_connection);
    Peer::of(&connection, request.headers(), &config.trusted_proxies).is_ok_and(|peer| peer.secure)
}

/// The connection of a client whose server says nothing about it.
fn unknown_connection() -> Connection {
    Connection::new(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), false)
}

/// The session, and whether its token is due for rotation; `None` on a public path.
async fn admit<B>(
    enforcer: &Arc<Enforcer>,
    request: &mut Request<B>,
    config: &EnforcementConfig,
) -> Result<Option<(Arc<Session>, bool)>, Problem> {
    normalize_host(request)?;
    let known = connection_of(request);
    let connection = known.unwrap_or_else(unknown_connection);
    let peer = Peer::of(&connection, request.headers(), &config.trusted_proxies)?;
    let admission = AdmissionRequest {
        config,
        peer: Ok(&peer),
        method: request.method(),
        headers: request.headers(),
        target: RequestTarget::Own(request.uri()),
        may_defer: false,
    };
    let found = match enforcer.admit(admission).await? {
        Admission::Public | Admission::Deferred => None,
        Admission::Session(admitted) => Some((Arc::new(admitted.verified.session), admitted.verified.rotation_due)),
    };
    let method = request.method().clone();
    strip_claims(request.headers_mut(), &method, config);
    strip_token(request.headers_mut(), &config.cookie_name);
    if known.is_some() {
        set_forwarding(request.headers_mut(), &connection, &peer, config, &mut HeaderValues::new());
    }
    request.extensions_mut().remove::<CurrentSession>();
    if let Some((session, _)) = &found {
        request.extensions_mut().insert(CurrentSession(session.clone()));
    }
    request.extensions_mut().insert(peer);
    Ok(found)
}
