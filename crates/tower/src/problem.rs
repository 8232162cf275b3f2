//! Problems: the responses to requests that are not done. One exhaustive match turns each error into a status, header
//! fields and a body (RFC 9457 problem details, RFC 6750 challenges).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::{Map, Value};
use tenure_domain::Refusal;
use tenure_service::{ResolveError, VerifyError, WriteError};

use super::request::cookie::ClearCookie;

/// The reason why a token was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenRejection {
    /// The request had no token.
    Missing,
    /// The token is not valid.
    Token(Refusal),
    /// The token is not valid, and a browser's cookie carries it.
    Cookie(Refusal),
}

/// The reason why a request is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// The token is missing or not valid: 401 with a challenge.
    Unauthorized(TokenRejection),
    /// The secret of an operator or of an enrolling client is missing or wrong: 401.
    Secret,
    /// The request is invalid: 400.
    BadRequest(String),
    /// The client may not do this: 403.
    Forbidden(String),
    /// There is no such resource: 404.
    NotFound(String),
    /// The resource does not support the method: 405.
    MethodNotAllowed,
    /// The request conflicts with the state of the resource: 409.
    Conflict(String),
    /// The body has a media type that is not supported: 415.
    MediaType(String),
    /// The body or the header is too large: 413.
    TooLarge(String),
    /// The client made too many failed attempts or too many calls: 429, with the seconds to wait.
    TooMany(u64),
    /// The sessions cannot be read or changed: 503, never 401.
    Store(String),
    /// The change may have been made, but that is not certain: 500, which says so.
    Uncertain(String),
    /// The upstream cannot be reached, or its response is invalid: 502.
    BadGateway(String),
    /// The upstream does not respond in time: 504.
    GatewayTimeout(String),
    /// The server itself failed: 500.
    Internal(String),
}

impl Problem {
    /// Makes a [`Problem::TooMany`] with this time to wait.
    pub fn too_many(remaining: Duration) -> Self {
        Self::TooMany(remaining.as_secs().max(1))
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized(_) | Self::Secret => StatusCode::UNAUTHORIZED,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Forbidden(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Uncertain(_) | Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::BadGateway(_) => StatusCode::BAD_GATEWAY,
            Self::GatewayTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// Returns the stable code; for a refused token it is the refusal's code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unauthorized(TokenRejection::Missing) => "token_required",
            Self::Unauthorized(TokenRejection::Token(refusal) | TokenRejection::Cookie(refusal)) => refusal.code(),
            Self::Secret => "secret_required",
            Self::BadRequest(_) => "bad_request",
            Self::Forbidden(_) => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict(_) => "conflict",
            Self::MediaType(_) => "unsupported_media_type",
            Self::TooLarge(_) => "too_large",
            Self::TooMany(_) => "too_many_requests",
            Self::Store(_) => "store_unavailable",
            Self::Uncertain(_) => "outcome_uncertain",
            Self::BadGateway(_) => "bad_gateway",
            Self::GatewayTimeout(_) => "gateway_timeout",
            Self::Internal(_) => "internal",
        }
    }

    /// Returns what happened and what to do, for a person.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Unauthorized(TokenRejection::Missing) => {
                "a token is needed: send it as Authorization: Bearer".to_owned()
            }
            Self::Unauthorized(TokenRejection::Token(refusal) | TokenRejection::Cookie(refusal)) => refusal.to_string(),
            Self::Secret => "the secret is missing or wrong: send it as Authorization: Bearer".to_owned(),
            Self::MethodNotAllowed => "this path does not support that method".to_owned(),
            Self::TooMany(seconds) => format!("too many requests or failed attempts: try again in {seconds} s"),
            Self::BadRequest(text)
            | Self::Forbidden(text)
            | Self::NotFound(text)
            | Self::Conflict(text)
            | Self::MediaType(text)
            | Self::TooLarge(text)
            | Self::Store(text)
            | Self::Uncertain(text)
            | Self::BadGateway(text)
            | Self::GatewayTimeout(text)
            | Self::Internal(text) => text.clone(),
        }
    }

    /// Returns the challenge of RFC 6750 section 3. It has no error code if the request had no token at all.
    fn challenge(&self) -> Option<String> {
        match self {
            Self::Unauthorized(TokenRejection::Missing) | Self::Secret => Some("Bearer realm=\"tenure\"".to_owned()),
            Self::Unauthorized(TokenRejection::Token(refusal) | TokenRejection::Cookie(refusal)) => {
                Some(format!("Bearer realm=\"tenure\", error=\"invalid_token\", error_description=\"{refusal}\""))
            }
            _ => None,
        }
    }

    const fn retry_after(&self) -> Option<u64> {
        match self {
            Self::TooMany(seconds) => Some(*seconds),
            Self::Store(_) => Some(1),
            _ => None,
        }
    }
}

/// The body of a problem (RFC 9457, `application/problem+json`).
#[derive(Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProblemBody {
    /// Always `about:blank`: the status and the code say what kind it is.
    r#type: &'static str,
    /// The status in words.
    title: &'static str,
    /// The status.
    status: u16,
    /// The stable code, for programs: for a refused token `malformed`, `unknown`, `expired`, `idle`, `revoked`,
    /// `evicted`, `rotated`, `replayed` or `logged_out`.
    code: &'static str,
    /// What happened and what to do, for people.
    detail: String,
    /// More that a program can use: a `token` that may be valid, sessions that had ended before a failure.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, serde_json::Value>))]
    extension: Map<String, Value>,
}

#[cfg(feature = "axum")]
impl axum::response::IntoResponse for Problem {
    fn into_response(self) -> axum::response::Response {
        self.to_response().map(axum::body::Body::new)
    }
}

impl Problem {
    /// Returns the reason why a token was refused, if one was.
    pub const fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Unauthorized(TokenRejection::Token(refusal) | TokenRejection::Cookie(refusal)) => Some(*refusal),
            _ => None,
        }
    }

    /// Returns the same problem, for a token that a browser's cookie carries if `in_cookie`.
    pub fn with_cookie(self, in_cookie: bool) -> Self {
        match self {
            Self::Unauthorized(TokenRejection::Token(refusal)) if in_cookie => {
                Self::Unauthorized(TokenRejection::Cookie(refusal))
            }
            other => other,
        }
    }

    /// Marks a response if it answers a request whose cookie is of a session that has ended.
    pub fn mark_response<B>(&self, response: &mut Response<B>) {
        if matches!(self, Self::Unauthorized(TokenRejection::Cookie(refusal)) if refusal.is_final()) {
            response.extensions_mut().insert(ClearCookie);
        }
    }

    /// Returns the response.
    #[must_use]
    pub fn to_response(&self) -> Response<Full<Bytes>> {
        self.with_extension(Map::new())
    }

    /// Returns the response, with more members in its body that a program can use.
    #[must_use]
    pub fn with_extension(&self, extension: Map<String, Value>) -> Response<Full<Bytes>> {
        let status = self.status();
        let body = ProblemBody {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            code: self.code(),
            detail: self.detail(),
            extension,
        };
        let body = serde_json::to_string(&body).unwrap_or_default();
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge().and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(WWW_AUTHENTICATE, challenge);
        }
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        self.mark_response(&mut response);
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Unauthorized(TokenRejection::Token(refusal))
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        match error {
            // Clients are not told where the store is; the log is.
            WriteError::Store(error) => {
                tracing::error!(%error, "the store failed");
                Self::Store("the sessions cannot be read at the moment: try again".to_owned())
            }
            WriteError::Contended { .. } => Self::Store(error.to_string()),
            other => {
                tracing::error!(error = %other, "the outcome of a change is uncertain");
                Self::Uncertain("it may have been done, but that is uncertain: check before you try again".to_owned())
            }
        }
    }
}

impl From<tenure_ports::StoreError> for Problem {
    fn from(error: tenure_ports::StoreError) -> Self {
        WriteError::Store(error).into()
    }
}

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Self {
        match error {
            ResolveError::NoSuchSession(_) => Self::NotFound(error.to_string()),
            ResolveError::Ambiguous { .. } => Self::Conflict(error.to_string()),
            ResolveError::Malformed(_) => Self::BadRequest(error.to_string()),
            ResolveError::Store(error) => error.into(),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<VerifyError> for Problem {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Refused(refusal) => refusal.into(),
            VerifyError::Write(error) => error.into(),
            other => Self::Internal(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_challenged_as_rfc_6750_says() {
        let response = Problem::from(Refusal::Expired).to_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(
            response.headers()[WWW_AUTHENTICATE],
            "Bearer realm=\"tenure\", error=\"invalid_token\", error_description=\"token expired\""
        );
        let response = Problem::Unauthorized(TokenRejection::Missing).to_response();
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer realm=\"tenure\"");
    }

    #[test]
    fn a_store_that_is_down_is_never_a_401() {
        let error = tenure_ports::StoreError::unavailable("here", "gone");
        let response = Problem::from(error).to_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}
