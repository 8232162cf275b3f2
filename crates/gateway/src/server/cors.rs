//! Pages of other origins (CORS, by the Fetch standard). Those that `gateway.cors_origins` names may send requests with
//! a token of their own and read the responses. Cookies are never included: `Access-Control-Allow-Credentials` is never
//! sent.

use axum::body::Body;
use axum::response::Response;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};

use crate::gateway::Gateway;

/// The header fields that a page may read in addition to the default ones: why it was refused, when to try again, and
/// that its token is due.
const EXPOSED: HeaderValue = HeaderValue::from_static("WWW-Authenticate, Retry-After, Tenure-Rotate, X-Request-Id");
/// How long a browser may cache the answer to a preflight request, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// Returns the origin of the page that sent the request, if it is allowed.
pub(crate) fn allowed(gateway: &Gateway, headers: &HeaderMap) -> Option<HeaderValue> {
    let mut named = headers.get_all(ORIGIN).iter();
    let (origin, None) = (named.next()?, named.next()) else { return None };
    let options = gateway.options();
    options.cors_origins.iter().any(|known| known.as_bytes() == origin.as_bytes()).then(|| origin.clone())
}

/// Whether this is a preflight request.
pub(crate) fn is_preflight<B>(request: &Request<B>) -> bool {
    *request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Answers a preflight request. It carries no token, so it does not reach the upstream, and the answer reveals nothing.
pub(crate) fn preflight<B>(request: &Request<B>) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let (asked, headers) = (request.headers(), response.headers_mut());
    if let Some(method) = asked.get(ACCESS_CONTROL_REQUEST_METHOD) {
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    }
    for names in asked.get_all(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.append(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    for name in [ACCESS_CONTROL_REQUEST_METHOD, ACCESS_CONTROL_REQUEST_HEADERS] {
        headers.append(VARY, name.into());
    }
    response
}

/// Lets a page of this origin read a response. The upstream's own fields are kept, except that no page may read
/// responses to requests with cookies.
pub(crate) fn permit(headers: &mut HeaderMap, origin: HeaderValue) {
    if !headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        headers.remove(ACCESS_CONTROL_ALLOW_CREDENTIALS);
    }
    headers.append(VARY, ORIGIN.into());
}

/// Tells caches that the response depends on the origin, if any origin is allowed.
pub(crate) fn vary(gateway: &Gateway, headers: &mut HeaderMap) {
    if !gateway.options().cors_origins.is_empty() {
        headers.append(VARY, ORIGIN.into());
    }
}
