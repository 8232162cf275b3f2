//! The reverse proxy: the inner service of admission that forwards requests to the upstream.

mod cookie_rotation;
pub(crate) mod headers;
pub(crate) mod openclaw;
pub(crate) mod request_id;
mod response;
pub(crate) mod upstream;
mod upstream_error;
pub(crate) mod websocket;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::CONNECTION;
use http::uri::PathAndQuery;
use http::{HeaderValue, Request, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::capture_connection;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use tenure_tower::admission::{Admission, Admitted};
use tenure_tower::request::header_fields::{TENURE_ROTATE, X_REQUEST_ID};
use tenure_tower::request::headers::{HeaderValues, set_identity};
use tenure_tower::request::is_websocket_request;
use tenure_tower::response_guard::body::GuardedUpload;
use tenure_tower::response_guard::{Exchange, Waiter};
use tenure_tower::{AdmittedRequest, ConnectionGuard, EnforcementConfig, Peer, Problem};
use tower::Service;

use crate::gateway::Gateway;
use crate::options::{Limits, Options, Upstream};

use headers::{set_host, set_upstream_auth, strip_hop_by_hop};
use response::{pass_on, strip_own_fields};
use upstream::{Connector, Pools, UpstreamConnection, UpstreamStream};
use upstream_error::{NoResponse, close_problem, connect_problem, timeout_problem};
use websocket::WebSocketOutcome;
use websocket::handshake::{HandshakeOutcome, handshake};
use websocket::tunnel::Tunnel;

/// The context of one request.
struct Context<'a> {
    /// Ends the client's stream or connection if the response may not go on and the client does not read.
    client_stream: &'a CancellationToken,
    peer: &'a Peer,
    options: &'a Options,
    config: &'a EnforcementConfig,
}

/// Forwards requests to the upstream.
pub(crate) struct Proxy {
    gateway: Arc<Gateway>,
    pools: Pools,
    connector: Connector,
    limits: Limits,
}

impl Proxy {
    pub(crate) fn new(gateway: Arc<Gateway>, connections: usize) -> Self {
        let limits = gateway.options().limits;
        let connector = Connector::new(limits.connect, connections);
        Self { gateway, pools: Pools::new(connector.clone(), connections), connector, limits }
    }

    /// Forwards an admitted request, and returns the upstream's response.
    async fn forward(&self, service: &ProxyService, mut admitted: AdmittedRequest<Incoming>) -> Response {
        let mut values = HeaderValues::default();
        let id = request_id::of(admitted.request.headers(), admitted.peer.trusted, &mut values);
        // Told by fields that belong to the client's connection, and so are removed.
        let upgrade = is_websocket_request(&admitted.request);
        let prepared = if upgrade && !admitted.request.body().is_end_stream() {
            Err(Problem::BadRequest("a request for a WebSocket has no body".to_owned()))
        } else {
            self.prepare(service, &mut admitted, &id, &mut values)
        };
        let mut response = match prepared {
            Ok(()) => self.send(service, admitted, upgrade).await,
            Err(problem) => self.failed(&problem),
        };
        response.headers_mut().insert(X_REQUEST_ID, id);
        response
    }

    /// Makes a request of a client one for the upstream.
    fn prepare(
        &self,
        service: &ProxyService,
        admitted: &mut AdmittedRequest<Incoming>,
        request_id: &HeaderValue,
        values: &mut HeaderValues,
    ) -> Result<(), Problem> {
        set_upstream_address(&mut admitted.request, &service.upstream)?;
        strip_hop_by_hop(admitted.request.headers_mut());
        admitted.sanitize_headers(values);
        let headers = admitted.request.headers_mut();
        set_host(headers, &service.upstream.authority);
        headers.insert(X_REQUEST_ID, request_id.clone());
        if let Admission::Session(session) = &admitted.admission {
            set_identity(headers, &session.verified.session, &admitted.config.user_header, values);
            // A public path must not give access to what the upstream's own secret protects.
            set_upstream_auth(headers, &service.options);
        }
        Ok(())
    }

    async fn send(&self, service: &ProxyService, admitted: AdmittedRequest<Incoming>, upgrade: bool) -> Response {
        let AdmittedRequest { request, admission, peer, config, .. } = admitted;
        let ProxyService { client_stream, options, .. } = service;
        let context = Context { client_stream, peer: &peer, options, config: &config };
        let enforcer = self.gateway.enforcer();
        let mut in_cookie = false;
        let mut due = None;
        let outcome = match admission {
            Admission::Deferred => self.open_deferred(&peer, request).await,
            admission => {
                let session = match admission {
                    Admission::Session(Admitted { verified, presented }) => {
                        in_cookie = presented.in_cookie;
                        due = verified.rotation_due.then_some((verified.session.id, presented));
                        Some(verified.session)
                    }
                    Admission::Public | Admission::Deferred => None,
                };
                if upgrade {
                    let guard = session.map(|session| enforcer.connections().register(&session));
                    self.upgrade(request, &context, guard).await
                } else {
                    self.send_request(request, &context, Exchange::new(enforcer.guards(), session)).await
                }
            }
        };
        let mut response = outcome.unwrap_or_else(|problem| self.failed(&problem.with_cookie(in_cookie)));
        if let Some((session, presented)) = due {
            response.headers_mut().insert(TENURE_ROTATE, HeaderValue::from_static("due"));
            if context.options.auto_rotate_cookies && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                let headers = response.headers_mut();
                cookie_rotation::rotate_due_cookie(&self.gateway, session, &presented, context.peer.secure, headers)
                    .await;
            }
        }
        response
    }

    fn failed(&self, problem: &Problem) -> Response {
        self.gateway.enforcer().record_problem(problem);
        let mut response = problem.clone().into_response();
        // The rest of the request's body is not read.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        response
    }

    async fn send_request(
        &self,
        request: Request<Incoming>,
        context: &Context<'_>,
        exchange: Arc<Exchange<UpstreamConnection>>,
    ) -> Result<Response, Problem> {
        let (mut parts, body) = request.into_parts();
        parts.extensions.clear();
        // A request without a body whose method is idempotent (RFC 9110 section 9.2.2) can be sent again.
        let has_body = !body.is_end_stream();
        let again = (!has_body && parts.method.is_idempotent()).then(|| parts.clone());
        let is_safe = !has_body && parts.method.is_safe();
        let mut request = Request::from_parts(parts, Either::Left(GuardedUpload::new(body, exchange.clone())));
        if has_body {
            exchange.set_upstream(UpstreamConnection(capture_connection(&mut request)));
        }
        let pool = self.pools.pool_for(is_safe);
        let mut answer = self.wait(pool.request(request), &exchange).await;
        if let (Err(NoResponse::Failed(error)), Some(parts)) = (&answer, again)
            && let Some(pool) = self.pools.retry_pool(pool, error)
        {
            let request = Request::from_parts(parts, Either::Right(Empty::new()));
            answer = self.wait(pool.request(request), &exchange).await;
        }
        let answer = answer.map_err(Problem::from)?;
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Problem::BadGateway("the upstream switched protocols without being asked".to_owned()));
        }
        pass_on(answer, context.client_stream, &context.config.cookie_name, exchange)
    }

    /// Waits for the header of the response while the request's body makes progress, until the deadline, and while the
    /// session is active.
    async fn wait(
        &self,
        answer: impl Future<Output = Result<http::Response<Incoming>, hyper_util::client::legacy::Error>>,
        exchange: &Exchange<UpstreamConnection>,
    ) -> Result<http::Response<Incoming>, NoResponse> {
        let mut answer = pin!(answer);
        let mut deadline: Option<Pin<Box<Sleep>>> = None;
        let mut seen = exchange.pieces();
        poll_fn(|cx| {
            // Checked first, because the end of the session makes the request fail too.
            if let Poll::Ready(reason) = exchange.poll_closed(Waiter::ResponseHead, cx)
                && let Some(problem) = close_problem(reason)
            {
                return Poll::Ready(Err(problem.into()));
            }
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer.map_err(NoResponse::Failed));
            }
            // Most responses come before a deadline is needed.
            if !exchange.is_long() {
                return Poll::Pending;
            }
            let deadline = deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limits.response)));
            while deadline.as_mut().poll(cx).is_ready() {
                let now = exchange.pieces();
                if now == seen {
                    return Poll::Ready(Err(timeout_problem(now).into()));
                }
                seen = now;
                deadline.as_mut().reset(Instant::now() + self.limits.response);
            }
            Poll::Pending
        })
        .await
    }

    async fn upgrade(
        &self,
        request: Request<Incoming>,
        context: &Context<'_>,
        guard: Option<ConnectionGuard>,
    ) -> Result<Response, Problem> {
        let io = self.connector.connect(request.uri()).await.map_err(|error| connect_problem(&error))?;
        let request = request.map(Body::new);
        let Some(guard) = guard else { return self.upgrade_unguarded(request, context, io).await };
        match websocket::open(&self.gateway, request, io, guard).await? {
            WebSocketOutcome::Switched(mut response) => {
                strip_own_fields(response.headers_mut(), &context.config.cookie_name);
                Ok(response)
            }
            WebSocketOutcome::Declined(answer, guard) => {
                let exchange = Exchange::with_guard(self.gateway.enforcer().guards(), guard);
                pass_on(answer, context.client_stream, &context.config.cookie_name, exchange)
            }
        }
    }

    /// Opens a WebSocket whose client presents its token in the first frame.
    async fn open_deferred(&self, peer: &Peer, request: Request<Incoming>) -> Result<Response, Problem> {
        let io = self.connector.connect(request.uri()).await.map_err(|error| connect_problem(&error))?;
        openclaw::open(&self.gateway, peer, request.map(Body::new), io).await
    }

    /// Opens a WebSocket on a public path, which has no session.
    async fn upgrade_unguarded(
        &self,
        request: Request<Body>,
        context: &Context<'_>,
        io: UpstreamStream,
    ) -> Result<Response, Problem> {
        let (switching, mut response) = match handshake(request, io).await? {
            HandshakeOutcome::Declined(answer) => {
                let exchange = Exchange::with_guard(self.gateway.enforcer().guards(), None);
                return pass_on(answer, context.client_stream, &context.config.cookie_name, exchange);
            }
            HandshakeOutcome::Switching(switching, response) => (switching, response),
        };
        let closing = self.gateway.closing().clone();
        self.gateway.enforcer().tasks().spawn(async move {
            let Ok((client, upstream)) = switching.finish().await else { return };
            websocket::run_unguarded(Tunnel::new(client, upstream), &closing).await;
        });
        strip_own_fields(response.headers_mut(), &context.config.cookie_name);
        Ok(response)
    }
}

/// The proxy as the inner service of admission, for the requests of one stream or connection of a client.
#[derive(Clone)]
pub(crate) struct ProxyService {
    proxy: Arc<Proxy>,
    upstream: Upstream,
    options: Arc<Options>,
    /// Ends the client's stream or connection if the response may not go on and the client does not read.
    client_stream: CancellationToken,
}

impl ProxyService {
    pub(crate) const fn new(
        proxy: Arc<Proxy>,
        upstream: Upstream,
        options: Arc<Options>,
        client_stream: CancellationToken,
    ) -> Self {
        Self { proxy, upstream, options, client_stream }
    }
}

impl Service<AdmittedRequest<Incoming>> for ProxyService {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, admitted: AdmittedRequest<Incoming>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.proxy.forward(&service, admitted).await) })
    }
}

/// Sets the address of a request to the upstream's, and keeps its path as it is.
fn set_upstream_address(request: &mut Request<Incoming>, upstream: &Upstream) -> Result<(), Problem> {
    let path = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let builder = Uri::builder().scheme(upstream.scheme.clone()).authority(upstream.authority.clone());
    *request.uri_mut() =
        builder.path_and_query(path).build().map_err(|_| Problem::BadRequest("the path is invalid".to_owned()))?;
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}
