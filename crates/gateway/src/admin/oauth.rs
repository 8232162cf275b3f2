//! OAuth 2.0 token introspection (RFC 7662) and revocation (RFC 7009), so that any OAuth library can ask.
//!
//! The client authenticates with the admin secret: as its bearer token, or as a client secret by HTTP Basic or in the
//! form (RFC 6749 section 2.3.1). The client id is the client's own name for itself and allows nothing.

mod client;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tenure_domain::{Actor, ClientField, Millis, Timestamp, TokenMatch};
use tenure_service::{ActivityMode, Sessions, Target, Verified, VerifyError};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::{Admin, AuthenticatedFlag};
use crate::endpoint::extract::{Form, peer};
use crate::endpoint::respond;
use tenure_tower::problem::{Problem, ProblemBody};

/// The prefix of every token.
const PREFIX: &str = "tnr_";

/// The form of both endpoints (`application/x-www-form-urlencoded`).
#[derive(Deserialize, ToSchema)]
#[expect(dead_code, reason = "describes the form, which is read field by field so that none comes twice")]
pub(crate) struct TokenForm {
    /// The token in question.
    token: String,
    /// Which kind of token it is. Introspection ignores it.
    token_type_hint: Option<String>,
    /// The client's name for itself, where it authenticates in the form.
    client_id: Option<String>,
    /// The admin secret, where the client authenticates in the form.
    client_secret: Option<String>,
}

/// The response of introspection (RFC 7662 section 2.2). For an invalid token it has only `active`.
#[derive(Serialize, ToSchema)]
pub(crate) struct Introspection {
    /// Whether the token is valid.
    active: bool,
    /// The client program, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// The subject of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    /// `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    /// When it expires, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    exp: Option<u64>,
    /// When it was issued, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    iat: Option<u64>,
    /// The subject of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    sub: Option<String>,
    /// The session's id: the same for all its tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    jti: Option<String>,
    /// The device that the session belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    device_id: Option<String>,
}

/// Why an OAuth request is not done (RFC 6749 section 5.2).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OauthError {
    /// `invalid_request`, `invalid_client` or `unsupported_token_type`.
    error: &'static str,
    /// For people.
    error_description: String,
}

/// An unsuccessful response.
pub(crate) enum OauthFailure {
    /// An error of OAuth.
    Oauth(OauthError),
    /// A problem that OAuth has no error for, such as a store that failed.
    Other(Problem),
}

impl OauthFailure {
    fn invalid_request(text: impl Into<String>) -> Self {
        Self::Oauth(OauthError { error: "invalid_request", error_description: text.into() })
    }

    fn invalid_client() -> Self {
        let text = "authenticate with the admin secret: as Bearer, by HTTP Basic, or as client_secret";
        Self::Oauth(OauthError { error: "invalid_client", error_description: text.to_owned() })
    }
}

impl From<Problem> for OauthFailure {
    fn from(problem: Problem) -> Self {
        match problem {
            Problem::BadRequest(text) | Problem::MediaType(text) | Problem::TooLarge(text) => {
                Self::invalid_request(text)
            }
            Problem::Secret => Self::invalid_client(),
            other => Self::Other(other),
        }
    }
}

impl IntoResponse for OauthFailure {
    fn into_response(self) -> Response {
        let error = match self {
            Self::Other(problem) => return problem.into_response(),
            Self::Oauth(error) => error,
        };
        let unauthenticated = error.error == "invalid_client";
        let status = if unauthenticated { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        let mut response = answer(status, &error);
        if unauthenticated {
            let headers = response.headers_mut();
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"tenure\", charset=\"UTF-8\""));
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tenure\""));
        }
        response
    }
}

fn answer<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let mut response = respond::json(status, value);
    response.headers_mut().insert(PRAGMA, HeaderValue::from_static("no-cache"));
    response
}

/// Token introspection (RFC 7662). Does not count as activity.
#[utoipa::path(
    post,
    path = "/oauth2/introspect",
    operation_id = "introspectToken",
    tag = "oauth",
    security(("admin_secret" = []), ("client_secret_basic" = []), ()),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "What is known about the token.", body = Introspection),
        (status = 400, description = "`invalid_request`.", body = OauthError),
        (status = 401, description = "`invalid_client`.", body = OauthError),
        (status = 503, description = "The store cannot be read. The token may be valid.", body = ProblemBody),
    )
)]
pub(super) async fn introspect(State(admin): State<Arc<Admin>>, request: Request) -> Result<Response, OauthFailure> {
    let (form, _) = authenticated(&admin, request).await?;
    let token = form.get("token").ok_or_else(|| OauthFailure::invalid_request("token is missing"))?;
    let body = match admin.gateway.sessions().verify_text(token, ActivityMode::Ignore).await {
        Ok(verified) => active(&verified, admin.gateway.sessions().clock_lead()),
        Err(VerifyError::Refused(_)) => Introspection::INACTIVE,
        Err(error) => return Err(OauthFailure::Other(error.into())),
    };
    Ok(answer(StatusCode::OK, &body))
}

impl Introspection {
    const INACTIVE: Self = Self {
        active: false,
        client_id: None,
        username: None,
        token_type: None,
        exp: None,
        iat: None,
        sub: None,
        jti: None,
        device_id: None,
    };
}

/// Clients compare the times with their own clock (RFC 7662 section 2.2). So `exp` is the expiry by that clock, even if
/// the store's time is `ahead` of it, and `iat` is never later than the time by that clock.
fn active(verified: &Verified, ahead: Millis) -> Introspection {
    let session = &verified.session;
    let by_the_wall = |at: Timestamp| at.minus(ahead);
    let seconds = |at: Timestamp| at.as_millis() / 1_000;
    let issued = |at: Timestamp| if at > by_the_wall(verified.at) { by_the_wall(at) } else { at };
    let overlap_ends = session.credential.replaced.as_ref().map(|replaced| replaced.stops_at);
    let (issued_at, stops_at) = match verified.token_match {
        TokenMatch::Current => (session.rotated_at, Some(session.expires_at)),
        // The time at which the previous token was issued is not recorded.
        TokenMatch::Overlap => (None, overlap_ends),
    };
    Introspection {
        active: true,
        client_id: session.client.get(ClientField::Id).map(str::to_owned),
        username: Some(session.subject.as_str().to_owned()),
        token_type: Some("Bearer"),
        exp: stops_at.map(by_the_wall).map(seconds),
        iat: Some(seconds(issued(issued_at.unwrap_or(session.created_at)))),
        sub: Some(session.subject.as_str().to_owned()),
        jti: Some(session.id.to_string()),
        device_id: Some(session.device.as_str().to_owned()),
    }
}

/// Token revocation (RFC 7009): ends the session of a valid token. An invalid one gets the same response.
#[utoipa::path(
    post,
    path = "/oauth2/revoke",
    operation_id = "revokeToken",
    tag = "oauth",
    security(("admin_secret" = []), ("client_secret_basic" = []), ()),
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The token is not valid, or no longer."),
        (status = 400, description = "`invalid_request`, or `unsupported_token_type`: refresh tokens do not exist.",
            body = OauthError),
        (status = 401, description = "`invalid_client`.", body = OauthError),
        (status = 503, description = "The store cannot be used: the token may still be valid.", body = ProblemBody),
    )
)]
pub(super) async fn revoke(State(admin): State<Arc<Admin>>, request: Request) -> Result<Response, OauthFailure> {
    let (form, client) = authenticated(&admin, request).await?;
    let token = form.get("token").ok_or_else(|| OauthFailure::invalid_request("token is missing"))?;
    if form.get("token_type_hint") == Some("refresh_token") && !token.starts_with(PREFIX) {
        let text = "Tenure has no refresh tokens: its one token is rotated";
        return Err(OauthFailure::Oauth(OauthError {
            error: "unsupported_token_type",
            error_description: text.to_owned(),
        }));
    }
    let sessions = admin.gateway.sessions();
    match sessions.verify_text(token, ActivityMode::Ignore).await {
        Ok(verified) => {
            let cause = Sessions::revocation(None, Actor::new(&client).ok());
            let target = Target::Ids(vec![verified.session.id]);
            sessions.revoke(&target, None, &cause).await.map_err(|error| OauthFailure::Other(error.error.into()))?;
            tracing::info!(session = %verified.session.id, client, "revoked by an OAuth client");
        }
        Err(VerifyError::Refused(_)) => {}
        Err(error) => return Err(OauthFailure::Other(error.into())),
    }
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().remove(CONTENT_TYPE);
    Ok(response)
}

/// Returns the form of a client that authenticated, and the client's name for itself.
async fn authenticated(admin: &Admin, request: Request) -> Result<(Form, String), OauthFailure> {
    let peer = peer(request.extensions())?;
    let ask = |(name, secret): (String, Zeroizing<String>)| -> Result<String, OauthFailure> {
        admin.gateway.options().admin_secret.check(Some(&secret), &peer, |peer| admin.record_wrong_secret(peer))?;
        Ok(name)
    };
    // What can be checked before the body is read is checked first.
    if let Some(shown) = client::in_header(request.headers()) {
        let name = ask(shown.ok_or_else(OauthFailure::invalid_client)?)?;
        AuthenticatedFlag::set(request.extensions());
        let form = Form::read(request).await?;
        return match form.get("client_secret") {
            Some(_) => Err(OauthFailure::invalid_request("the client authenticates in two ways: use one")),
            None => Ok((form, name)),
        };
    }
    let form = Form::read(request).await?;
    let name = ask(client::in_form(&form).ok_or_else(OauthFailure::invalid_client)?)?;
    Ok((form, name))
}
