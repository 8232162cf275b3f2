//! The upstream's response on its way to the client.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, SET_COOKIE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use super::headers::strip_hop_by_hop;
use super::upstream::UpstreamConnection;
use tenure_tower::Problem;
use tenure_tower::request::cookie::CookieName;
use tenure_tower::request::header_fields::TENURE_ROTATE;
use tenure_tower::request::presented_token::sets_token_cookie;
use tenure_tower::response_guard::Exchange;
use tenure_tower::response_guard::body::{GuardedBody, is_event_stream};

/// Returns the upstream's response in the form in which the client gets it.
///
/// # Errors
/// [`Problem::BadGateway`] if it is not clear where the response ends.
pub(super) fn pass_on(
    answer: http::Response<Incoming>,
    end: &CancellationToken,
    name: &CookieName,
    exchange: Arc<Exchange<UpstreamConnection>>,
) -> Result<Response, Problem> {
    let (mut parts, body) = answer.into_parts();
    check_framing(&parts.headers)?;
    parts.extensions.clear();
    parts.version = Version::HTTP_11;
    strip_hop_by_hop(&mut parts.headers);
    strip_own_fields(&mut parts.headers, name);
    let endless = is_event_stream(&parts.headers);
    if body.is_end_stream() {
        return Ok(Response::from_parts(parts, Body::new(body)));
    }
    Ok(Response::from_parts(parts, Body::new(GuardedBody::new(body, exchange, Some(end), endless))))
}

/// Checks that every server finds the end of the response in the same place (RFC 9112 section 6.3). The gateway frames
/// it anew.
fn check_framing(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let (coding, codings) = (codings.next(), codings.next().is_some());
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let (length, lengths) = (lengths.next(), lengths.next().is_some());
    let what = if codings || coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        "in a transfer coding other than one chunked"
    } else if lengths || length.is_some_and(|length| !length.as_bytes().iter().all(u8::is_ascii_digit)) {
        "with more than one Content-Length"
    } else if coding.is_some() && length.is_some() {
        "with a Content-Length and a Transfer-Encoding"
    } else {
        return Ok(());
    };
    tracing::warn!("the upstream answered {what}");
    Err(Problem::BadGateway(format!("the upstream answered {what}")))
}

/// Removes from a response what only the gateway may set: `Tenure-Rotate`, and its cookies.
pub(super) fn strip_own_fields(headers: &mut HeaderMap, name: &CookieName) {
    headers.remove(TENURE_ROTATE);
    let ours = |value: &HeaderValue| sets_token_cookie(value, name);
    if headers.get_all(SET_COOKIE).iter().any(ours) {
        let kept: Vec<HeaderValue> = headers.get_all(SET_COOKIE).iter().filter(|value| !ours(value)).cloned().collect();
        headers.remove(SET_COOKIE);
        for value in kept {
            headers.append(SET_COOKIE, value);
        }
    }
}
