//! The layer: admission, and guarded bodies, around a service of this process.

mod bodies;
mod current_session;
mod grpc;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Extensions, HeaderMap, HeaderValue, Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use crate::BoxError;
use crate::admission::admit::{Admit, AdmittedRequest, IncomingRequest, Reject};
use crate::admission::{Admission, Admitted};
use crate::enforcer::Enforcer;
use crate::problem::Problem;
use crate::request::header_fields::TENURE_ROTATE;
use crate::request::headers::HeaderValues;
use crate::request::peer::{Connection, Peer, normalize_host};
use crate::response_guard::body::is_event_stream;
use crate::response_guard::{Exchange, ResponseGuards};

pub use bodies::{RequestBody, ResponseBody};
pub use current_session::CurrentSession;

type ReadConnection = fn(&Extensions) -> Option<Connection>;

/// A layer that lets requests through to a service of this process if their token is valid.
///
/// The service finds the session as [`CurrentSession`] and the client as [`Peer`] among the request's extensions. Other
/// requests are answered with a [`Problem`] in JSON (RFC 9457), or with the status `UNAUTHENTICATED` and its like where they
/// are gRPC calls. Public paths need no token.
///
/// Before the service gets a request, the token is removed, and so are all header fields that say who the client is or
/// where it came from ([`header_fields`](crate::request::header_fields) has the table). `X-Forwarded-For`, `-Proto` and
/// `-Host` are set; those of a client are believed only where it is a trusted proxy. A cookie alone allows no change
/// that another site may have requested. A response says `Tenure-Rotate: due` when the token should be rotated.
///
/// When the session ends, what is left of the request's and the response's body is dropped, and reading them fails. The
/// server then ends the client's connection or stream. A handler that upgrades a connection is not watched: it has to
/// register the connection itself ([`ConnectionRegistry::register`](crate::ConnectionRegistry::register)).
///
/// The client's address is read from the request's extensions: a [`Connection`], or axum's `ConnectInfo<SocketAddr>` with
/// the feature `axum`, or what [`TenureLayer::with_connection`] finds. Without an address, all clients count as one where
/// failed attempts are counted, and the forwarding header fields are removed instead of set. A server that speaks TLS
/// itself has to provide a [`Connection`]: otherwise the cookie for plain HTTP is accepted.
#[derive(Clone)]
pub struct TenureLayer {
    enforcer: Arc<Enforcer>,
    read_connection: ReadConnection,
}

impl TenureLayer {
    /// Makes a layer that enforces the rules of this enforcer.
    #[must_use]
    pub const fn new(enforcer: Arc<Enforcer>) -> Self {
        Self { enforcer, read_connection: default_connection }
    }

    /// Reads the connection of a request in this way, for servers that keep it in an extension of their own.
    #[must_use]
    pub const fn with_connection(mut self, read: fn(&Extensions) -> Option<Connection>) -> Self {
        self.read_connection = read;
        self
    }
}

impl<S> Layer<S> for TenureLayer {
    type Service = Tenure<S>;

    fn layer(&self, inner: S) -> Tenure<S> {
        let guarded = Guarded { inner, guards: self.enforcer.guards().clone() };
        Tenure {
            admit: Admit::new(self.enforcer.clone(), guarded, ProblemResponses),
            read_connection: self.read_connection,
        }
    }
}

/// The connection that a request came by, from the extensions that are known here.
fn default_connection(extensions: &Extensions) -> Option<Connection> {
    let connection = extensions.get::<Connection>().copied();
    #[cfg(feature = "axum")]
    let connection = connection.or_else(|| {
        let info = extensions.get::<axum::extract::ConnectInfo<std::net::SocketAddr>>()?;
        Some(Connection::new(info.0, false))
    });
    connection
}

/// A service behind [`TenureLayer`].
#[derive(Clone)]
pub struct Tenure<S> {
    admit: Admit<Guarded<S>, ProblemResponses>,
    read_connection: ReadConnection,
}

impl<S, B, ResBody> Service<Request<B>> for Tenure<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>> + Clone + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    ResBody: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.admit.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if let Err(problem) = normalize_host(&mut request) {
            let response = reject(request.headers(), &problem);
            return Box::pin(async move { Ok(response) });
        }
        let connection = (self.read_connection)(request.extensions());
        self.admit.call(IncomingRequest { connection, request })
    }
}

/// Answers a request that is rejected: in JSON, or in gRPC's way where it is a gRPC call.
fn reject<B>(headers: &HeaderMap, problem: &Problem) -> Response<ResponseBody<B>> {
    let response = if grpc::is_grpc_request(headers) { grpc::response(problem) } else { problem.to_response() };
    response.map(ResponseBody::problem)
}

/// Answers the requests that are not let in.
#[derive(Clone, Copy)]
struct ProblemResponses;

impl<B, ResBody> Reject<B, ResponseBody<ResBody>> for ProblemResponses {
    fn reject(&self, request: &Request<B>, _: Option<&Peer>, problem: &Problem) -> Response<ResponseBody<ResBody>> {
        reject(request.headers(), problem)
    }
}

/// A service whose request and response bodies are held to the session.
#[derive(Clone)]
struct Guarded<S> {
    inner: S,
    guards: Arc<ResponseGuards>,
}

impl<S, B, ResBody> Service<AdmittedRequest<B>> for Guarded<S>
where
    S: Service<Request<RequestBody<B>>, Response = Response<ResBody>>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    ResBody: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Response = Response<ResponseBody<ResBody>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut admitted: AdmittedRequest<B>) -> Self::Future {
        admitted.sanitize_headers(&mut HeaderValues::default());
        let AdmittedRequest { mut request, admission, peer, .. } = admitted;
        let extensions = request.extensions_mut();
        extensions.insert(peer);
        extensions.remove::<CurrentSession>();
        let Admission::Session(Admitted { verified, .. }) = admission else {
            let answer = self.inner.call(request.map(RequestBody::open));
            return Box::pin(async move { Ok(answer.await?.map(ResponseBody::open)) });
        };
        extensions.insert(CurrentSession::new(verified.session.clone()));
        let rotation_due = verified.rotation_due;
        let exchange = <Exchange>::new(&self.guards, Some(verified.session));
        let request = request.map(|body| RequestBody::guarded(body, &exchange));
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = answer.await?;
            response.headers_mut().remove(TENURE_ROTATE);
            if rotation_due {
                response.headers_mut().insert(TENURE_ROTATE, HeaderValue::from_static("due"));
            }
            let endless = is_event_stream(response.headers());
            Ok(response.map(|body| ResponseBody::guarded(body, exchange, endless)))
        })
    }
}
