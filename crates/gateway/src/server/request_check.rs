//! The check of every request before anything else reads it.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderValue, Method, Request, Version};

use tenure_tower::Problem;
use tenure_tower::request::peer::normalize_host;

/// Refuses requests that two servers could read differently, or that make no sense here. Others do not get here: hyper
/// refuses two lengths that differ, a coding that does not end with chunked, invalid names, and too much of anything.
/// What hyper ignores is refused before (`server::smuggling_guard`).
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
    // A server answers TRACE with the request, including what the gateway set in it: the identity, and the upstream's
    // own secret.
    if matches!(request.method().as_str(), "TRACE" | "TRACK") {
        return Err(Problem::MethodNotAllowed);
    }
    if !request.uri().path().starts_with('/') {
        return bad("the path of a request must start with a slash");
    }
    normalize_host(request)
}
