//! The router of the client listener: Tenure's own paths, or the upstream.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::CONNECTION;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use tower::{Service as _, ServiceExt as _};

use super::cors;
use crate::api::{forward_auth, login_redirect};
use crate::gateway::Gateway;
use crate::proxy::{Proxy, ProxyService, request_id};
use tenure_tower::request::header_fields::X_REQUEST_ID;
use tenure_tower::request::headers::HeaderValues;
use tenure_tower::{Admit, Connection, IncomingRequest, Peer, Problem, Reject};

/// The prefix of Tenure's own paths, which never reach an upstream.
const OWN_PREFIX: &str = "/_tenure";

/// The router of the client listener.
pub(crate) struct ClientRouter {
    gateway: Arc<Gateway>,
    api: Router,
    proxy: Arc<Proxy>,
    /// How long a request to Tenure itself may take, its body included.
    timeout: Duration,
}

impl ClientRouter {
    /// Makes a router that opens at most `connections` connections to the upstream.
    pub(crate) fn new(gateway: Arc<Gateway>, connections: usize) -> Arc<Self> {
        let no_such_page = async || Problem::NotFound("Tenure has no such page".to_owned());
        let api = crate::api::router(gateway.clone()).fallback(no_such_page);
        let proxy = Arc::new(Proxy::new(gateway.clone(), connections));
        let timeout = gateway.options().limits.stall;
        Arc::new(Self { gateway, api, proxy, timeout })
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Answers a request that passed the check of requests. `end` ends the stream or connection on which it came.
    pub(crate) async fn answer(
        &self,
        connection: &Connection,
        end: &CancellationToken,
        request: Request<Incoming>,
    ) -> Response {
        let path = own_path(request.uri().path());
        let origin = cors::allowed(&self.gateway, request.headers());
        // A proxy that asks on behalf of its client is not a browser.
        if origin.is_some() && cors::is_preflight(&request) && !path.is_some_and(forward_auth::is_endpoint) {
            let mut response = cors::preflight(&request);
            origin.into_iter().for_each(|origin| cors::permit(response.headers_mut(), origin));
            return response;
        }
        let of_upstream = path.is_none();
        let mut response = self.route(connection, end, request).await;
        match origin {
            Some(origin) => cors::permit(response.headers_mut(), origin),
            // Tenure's own responses are not cached.
            None if of_upstream => cors::vary(&self.gateway, response.headers_mut()),
            None => {}
        }
        response
    }

    async fn route(&self, connection: &Connection, end: &CancellationToken, request: Request<Incoming>) -> Response {
        match own_path(request.uri().path()) {
            Some(path) if forward_auth::is_endpoint(path) => {
                forward_auth::answer(self.gateway.enforcer(), connection, &request).await
            }
            // Boxed, so that forward authentication, the most frequent path, moves no memory for the others.
            Some(_) => {
                let answer = Box::pin(call_router(self.api.clone(), connection, &self.gateway, request));
                let late = |_| Problem::BadRequest("the request did not arrive in time".to_owned()).into_response();
                tokio::time::timeout(self.timeout, answer).await.unwrap_or_else(late)
            }
            None => {
                let options = self.gateway.options();
                match &options.upstream {
                    Some(upstream) => {
                        let (proxy, upstream) = (self.proxy.clone(), upstream.clone());
                        let defer_websockets = options.profile.is_some();
                        let service = ProxyService::new(proxy, upstream, options.clone(), end.clone());
                        let mut admit = Admit::new(self.gateway.enforcer().clone(), service, ProxyRejections)
                            .defer_websockets(defer_websockets);
                        let incoming = IncomingRequest { connection: Some(*connection), request };
                        admit.call(incoming).await.unwrap_or_else(|never| match never {})
                    }
                    None => Problem::NotFound(
                        "no upstream is set: this gateway only answers paths below /_tenure/".to_owned(),
                    )
                    .into_response(),
                }
            }
        }
    }
}

/// Answers the requests for the upstream that are not let in.
#[derive(Clone, Copy)]
struct ProxyRejections;

impl Reject<Incoming, Body> for ProxyRejections {
    fn reject(&self, request: &Request<Incoming>, peer: Option<&Peer>, problem: &Problem) -> Response {
        let Some(peer) = peer else {
            let mut response = problem.clone().into_response();
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            return response;
        };
        let id = request_id::of(request.headers(), peer.trusted, &mut HeaderValues::default());
        let redirect = login_redirect::redirect(request, problem);
        let mut response = redirect.unwrap_or_else(|| problem.clone().into_response());
        response.headers_mut().insert(X_REQUEST_ID, id);
        response
    }
}

/// Returns what follows `/_tenure` if the path is Tenure's own.
fn own_path(path: &str) -> Option<&str> {
    path.strip_prefix(OWN_PREFIX).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Hands a request to a router, with [`Peer`] among its extensions.
pub(crate) async fn call_router(
    router: Router,
    connection: &Connection,
    gateway: &Gateway,
    request: Request<Incoming>,
) -> Response {
    let peer = match Peer::of(connection, request.headers(), &gateway.enforcer().config().trusted_proxies) {
        Ok(peer) => peer,
        Err(problem) => return problem.into_response(),
    };
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(peer);
    router.oneshot(request).await.unwrap_or_else(|never| match never {})
}
