//! Problems as gRPC clients read them.
//!
//! A gRPC client reads the status of a call from `grpc-status`, and takes a body in JSON for a broken message. So a
//! request for gRPC is answered with a response that has headers only (gRPC over HTTP/2, "Trailers-Only").

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body_util::Full;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::problem::Problem;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// What `grpc-message` cannot hold as it is, besides what is not ASCII.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// Whether a request calls a gRPC method.
pub(crate) fn is_grpc_request(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The response to a gRPC call that was rejected.
pub(crate) fn response(problem: &Problem) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    problem.mark_response(&mut response);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, HeaderValue::from(status_code(problem)));
    let message = utf8_percent_encode(&problem.detail(), ENCODED).to_string();
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

/// The status code of gRPC that comes nearest.
const fn status_code(problem: &Problem) -> u16 {
    match problem {
        Problem::Unauthorized(_) | Problem::Secret => 16,
        Problem::Forbidden(_) => 7,
        Problem::BadRequest(_) | Problem::MediaType(_) => 3,
        Problem::NotFound(_) => 5,
        Problem::MethodNotAllowed => 12,
        Problem::Conflict(_) => 10,
        Problem::TooLarge(_) | Problem::TooMany(_) => 8,
        Problem::GatewayTimeout(_) => 4,
        Problem::Store(_) | Problem::BadGateway(_) => 14,
        Problem::Uncertain(_) => 2,
        Problem::Internal(_) => 13,
    }
}

#[cfg(test)]
mod tests {
    use tenure_domain::Refusal;

    use super::*;

    #[test]
    fn a_refused_token_is_unauthenticated_in_headers_alone() {
        let response = response(&Refusal::Expired.into());
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
        assert_eq!(
            (&response.headers()[GRPC_STATUS], &response.headers()[GRPC_MESSAGE]),
            (&"16".parse().unwrap(), &"token expired".parse().unwrap())
        );
        let odd = super::response(&Problem::BadRequest("100 % größe\n".to_owned()));
        assert_eq!(odd.headers()[GRPC_MESSAGE], "100 %25 gr%C3%B6%C3%9Fe%0A");
    }

    #[test]
    fn only_grpc_calls_are_answered_so() {
        let asks = |text: &'static str| {
            is_grpc_request(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(text))]))
        };
        assert!(asks("application/grpc") && asks("application/grpc+proto"));
        assert!(!asks("application/json") && !is_grpc_request(&HeaderMap::new()));
    }
}
