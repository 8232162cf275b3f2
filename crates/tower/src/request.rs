//! What a request says: who sends it, which token it presents, what its target is, and which of its header fields may
//! pass.

pub mod cookie;
pub mod header_fields;
pub mod headers;
pub mod list;
pub mod peer;
pub mod presented_token;
pub mod target;

use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Method, Request, Version};

/// Whether a request asks for a WebSocket (RFC 6455 section 4.1). An HTTP/1.0 request cannot (RFC 9110 section 7.8), and
/// neither can an HTTP/2 request in this way.
#[must_use]
pub fn is_websocket_request<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && list::list_contains(headers, &CONNECTION, "upgrade")
        && list::list_contains(headers, &UPGRADE, "websocket")
        && headers.contains_key(SEC_WEBSOCKET_KEY)
        && headers.contains_key(SEC_WEBSOCKET_VERSION)
}

#[cfg(test)]
mod tests;
