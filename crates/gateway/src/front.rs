//! What clients ask for: Tenure's own paths, or the upstream.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Version};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::auth;
use crate::cors;
use crate::enforce::Gate;
use crate::peer::{Connection, Peer};
use crate::problem::Problem;
use crate::proxy::Proxy;

/// Everything below this is Tenure's own and never reaches an upstream.
const OWN: &str = "/_tenure";

/// The client listener's site.
pub(crate) struct Front {
    gate: Arc<Gate>,
    api: Router,
    proxy: Proxy,
    /// How long a request to Tenure itself may take, its body included.
    patience: Duration,
}

impl Front {
    /// `connections`: so many there may be to the upstream.
    pub(crate) fn new(gate: Arc<Gate>, connections: usize) -> Arc<Self> {
        let nothing = async || Problem::NotFound("Tenure has no such page".to_owned());
        let api = crate::api::router(gate.clone()).fallback(nothing);
        let proxy = Proxy::new(gate.clone(), connections);
        let patience = gate.options().limits.stall;
        Arc::new(Self { gate, api, proxy, patience })
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Answers a request that is sound. `end` ends the stream or connection on which it came.
    pub(crate) async fn answer(
        &self,
        connection: &Connection,
        end: &CancellationToken,
        request: Request<Incoming>,
    ) -> Response {
        let path = own(request.uri().path());
        let origin = cors::allowed(&self.gate, request.headers());
        // Another proxy that asks does not ask for itself.
        if origin.is_some() && cors::is_preflight(&request) && !path.is_some_and(auth::is_asked) {
            let mut response = cors::preflight(&request);
            origin.into_iter().for_each(|origin| cors::permit(response.headers_mut(), origin));
            return response;
        }
        let of_upstream = path.is_none();
        let mut response = self.route(connection, end, request).await;
        match origin {
            Some(origin) => cors::permit(response.headers_mut(), origin),
            // Tenure's own answers are kept by nobody.
            None if of_upstream => cors::vary(&self.gate, response.headers_mut()),
            None => {}
        }
        response
    }

    async fn route(&self, connection: &Connection, end: &CancellationToken, request: Request<Incoming>) -> Response {
        match own(request.uri().path()) {
            Some(path) if auth::is_asked(path) => auth::answer(&self.gate, connection, &request).await,
            // Boxed, so that the path that is asked most moves no memory for the others.
            Some(_) => {
                let answer = Box::pin(ask_router(self.api.clone(), connection, &self.gate, request));
                let late = |_| Problem::BadRequest("the request did not arrive in time".to_owned()).into_response();
                tokio::time::timeout(self.patience, answer).await.unwrap_or_else(late)
            }
            None => {
                let options = self.gate.options();
                match &options.upstream {
                    Some(upstream) => Box::pin(self.proxy.answer(connection, end, request, upstream, &options)).await,
                    None => Problem::NotFound(
                        "no upstream is set: this gateway only answers paths below /_tenure/".to_owned(),
                    )
                    .into_response(),
                }
            }
        }
    }
}

/// What follows `/_tenure` where the path is Tenure's own.
fn own(path: &str) -> Option<&str> {
    path.strip_prefix(OWN).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Shapes that two servers could read differently, or that make no sense here. Others do not get here: hyper refuses
/// two lengths that differ, a coding that does not end with chunked, bad names, too much of anything, and what it would
/// pass over is refused before (`server::heads`).
///
/// # Errors
/// [`Problem::BadRequest`].
pub(crate) fn check<B>(request: &mut Request<B>) -> Result<(), Problem> {
    let bad = |text: &str| Err(Problem::BadRequest(text.to_owned()));
    let headers = request.headers();
    if request.version() == Version::HTTP_11 && !headers.contains_key(HOST) && request.uri().authority().is_none() {
        return bad("a request must have exactly one Host");
    }
    if headers.get_all(CONTENT_LENGTH).iter().count() > 1 {
        return bad("a request must have only one Content-Length");
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if codings.next().is_some_and(|first| !chunked(first) || codings.next().is_some()) {
        return bad("the only supported Transfer-Encoding is chunked");
    }
    if *request.method() == Method::CONNECT {
        return bad("this is not a forward proxy: CONNECT is not supported");
    }
    // What answers it sends the request back, with what the gateway set in it: identity, and the upstream's own secret.
    if matches!(request.method().as_str(), "TRACE" | "TRACK") {
        return Err(Problem::MethodNotAllowed);
    }
    if !request.uri().path().starts_with('/') {
        return bad("the path of a request must start with a slash");
    }
    settle_host(request)
}

/// Has `Host` say what the client asked for. Where the request line names a host (HTTP/2, absolute form), that one
/// counts: RFC 9112 section 3.2.2. In HTTP/2 the two must not differ: RFC 9113 section 8.3.1.
///
/// # Errors
/// [`Problem::BadRequest`]. Whether it is a host is looked at by [`Peer::of`].
pub(crate) fn settle_host<B>(request: &mut Request<B>) -> Result<(), Problem> {
    let bad = |text: &str| Err(Problem::BadRequest(text.to_owned()));
    let mut hosts = request.headers().get_all(HOST).iter();
    let (host, None) = (hosts.next(), hosts.next()) else { return bad("a request must have exactly one Host") };
    let Some(authority) = request.uri().authority() else { return Ok(()) };
    let differs = |host: &HeaderValue| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
    if request.version() == Version::HTTP_2 && host.is_some_and(differs) {
        return bad("Host and :authority differ");
    }
    let Ok(host) = HeaderValue::try_from(authority.as_str()) else { return bad("the host is invalid") };
    request.headers_mut().insert(HOST, host);
    Ok(())
}

/// Hands a request to a router, with [`Peer`] among its extensions.
pub(crate) async fn ask_router(
    router: Router,
    connection: &Connection,
    gate: &Gate,
    request: Request<Incoming>,
) -> Response {
    let peer = match Peer::of(connection, request.headers(), &gate.options()) {
        Ok(peer) => peer,
        Err(problem) => return problem.into_response(),
    };
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}
