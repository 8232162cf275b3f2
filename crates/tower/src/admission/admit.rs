//! Admission as a service: the outer half of every server that enforces sessions.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use tower_service::Service;

use crate::admission::{Admission, AdmissionRequest, RequestTarget};
use crate::config::EnforcementConfig;
use crate::enforcer::Enforcer;
use crate::problem::Problem;
use crate::request::header_fields::strip_claims;
use crate::request::headers::{HeaderValues, set_forwarding, strip_token};
use crate::request::peer::{Connection, Peer};
use crate::request::{cookie, is_websocket_request};

/// A request as a server received it.
#[derive(Debug)]
pub struct IncomingRequest<B> {
    /// The connection that it came by; `None` where the server does not tell. All such clients count as one where
    /// failed attempts are counted.
    pub connection: Option<Connection>,
    /// The request. Its host is valid ([`normalize_host`](crate::request::peer::normalize_host)).
    pub request: Request<B>,
}

/// A request that was let in, as the inner service of [`Admit`] gets it.
#[derive(Debug)]
pub struct AdmittedRequest<B> {
    /// The request, with all header fields that the client sent.
    pub request: Request<B>,
    /// How it got in.
    pub admission: Admission,
    /// The client.
    pub peer: Peer,
    /// The connection that it came by; `None` where the server does not tell.
    pub connection: Option<Connection>,
    /// The settings in force when it came.
    pub config: Arc<EnforcementConfig>,
}

impl<B> AdmittedRequest<B> {
    /// Replaces what a client may not say by what is known: the token and claims of identity or origin are removed, and
    /// `X-Forwarded-For`, `-Proto` and `-Host` are set where the connection is known. `values` makes the new values.
    pub fn sanitize_headers(&mut self, values: &mut HeaderValues) {
        let method = self.request.method().clone();
        let headers: &mut HeaderMap = self.request.headers_mut();
        strip_claims(headers, &method, &self.config);
        strip_token(headers, &self.config.cookie_name);
        if let Some(connection) = &self.connection {
            set_forwarding(headers, connection, &self.peer, &self.config, values);
        }
    }
}

/// Answers the requests that [`Admit`] does not let in.
pub trait Reject<B, ResBody> {
    /// Returns the response to a request that is rejected with a problem. `peer` is `None` where the request does not
    /// tell validly who sent it.
    fn reject(&self, request: &Request<B>, peer: Option<&Peer>, problem: &Problem) -> Response<ResBody>;
}

/// A service behind admission: the inner service gets the requests that are let in, and `R` answers the others.
///
/// Removes the token's cookie from the browser with each response that says that its session is over.
#[derive(Clone)]
pub struct Admit<S, R> {
    inner: S,
    enforcer: Arc<Enforcer>,
    rejections: R,
    may_defer: bool,
}

impl<S, R> Admit<S, R> {
    /// Puts a service behind admission.
    #[must_use]
    pub const fn new(enforcer: Arc<Enforcer>, inner: S, rejections: R) -> Self {
        Self { inner, enforcer, rejections, may_defer: false }
    }

    /// Sets whether a WebSocket without a token is let in as [`Admission::Deferred`]. The inner service then has to
    /// verify the token that the client sends in the WebSocket.
    #[must_use]
    pub const fn defer_websockets(mut self, may_defer: bool) -> Self {
        self.may_defer = may_defer;
        self
    }
}

impl<S, R, B, ResBody> Service<IncomingRequest<B>> for Admit<S, R>
where
    S: Service<AdmittedRequest<B>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    R: Reject<B, ResBody> + Clone + Send + Sync + 'static,
    B: Send + 'static,
{
    type Response = Response<ResBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResBody>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, incoming: IncomingRequest<B>) -> Self::Future {
        // The service that is ready is used up, and its clone is asked next time.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let (enforcer, rejections, may_defer) = (self.enforcer.clone(), self.rejections.clone(), self.may_defer);
        Box::pin(async move {
            let IncomingRequest { connection, request } = incoming;
            let config = enforcer.config();
            let known = connection.unwrap_or_else(unknown_connection);
            let peer = match Peer::of(&known, request.headers(), &config.trusted_proxies) {
                Ok(peer) => peer,
                Err(problem) => {
                    enforcer.record_problem(&problem);
                    return Ok(rejections.reject(&request, None, &problem));
                }
            };
            let secure = peer.secure;
            let admission = AdmissionRequest {
                config: &config,
                peer: Ok(&peer),
                method: request.method(),
                headers: request.headers(),
                target: RequestTarget::Own(request.uri()),
                may_defer: may_defer && is_websocket_request(&request),
            };
            let mut response = match enforcer.admit(admission).await {
                Ok(admission) => {
                    let config = config.clone();
                    inner.call(AdmittedRequest { request, admission, peer, connection, config }).await?
                }
                Err(problem) => rejections.reject(&request, Some(&peer), &problem),
            };
            cookie::clear_if_marked(&mut response, &config.cookie_name, secure);
            Ok(response)
        })
    }
}

/// The connection of a client whose server says nothing about it.
fn unknown_connection() -> Connection {
    Connection::new(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)), false)
}
