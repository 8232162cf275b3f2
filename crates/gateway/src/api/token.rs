//! `POST /_tenure/v1/token/rotate`

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use tenure_domain::{Refusal, Token};
use tenure_service::{RotateError, Rotated, SessionView, Unacknowledged, WriteError};
use utoipa::ToSchema;

use super::{Api, Authenticated};
use crate::endpoint::respond;
use tenure_tower::problem::{Problem, ProblemBody};
use tenure_tower::request::cookie;
use tenure_tower::request::peer::Peer;

/// A session with its new token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RotatedBody {
    /// The new token; the one presented no longer works. Left out if the token came in a cookie: then the new one is
    /// in the cookie, where no script can read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The session with its new expiry.
    session: SessionView,
}

/// Rotate the presented token: a new secret and a new expiry for the same session.
///
/// Of several rotations of one token exactly one succeeds. If the outcome or its durability is uncertain, the problem
/// carries `token`, which may be valid.
#[utoipa::path(
    post,
    path = "/_tenure/v1/token/rotate",
    operation_id = "rotateToken",
    tag = "client",
    security(("token" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "The new token; the presented one is refused from now on.", body = RotatedBody),
        (status = 401, description = "No token, or an invalid one.", body = ProblemBody),
        (status = 403, description = "Another site's page made the request with only a cookie.", body = ProblemBody),
        (status = 429, description = "Too many failed attempts from that address.", body = ProblemBody),
        (status = 500, description = "The outcome is uncertain: `token` may be valid.", body = ProblemBody),
        (status = 503, description = "The store cannot be used; nothing was changed.", body = ProblemBody),
    )
)]
pub(super) async fn rotate(
    State(api): State<Arc<Api>>,
    Authenticated { presented, peer, .. }: Authenticated,
) -> Result<Response, Problem> {
    let (from_cookie, in_cookie) = (presented.from_cookie, presented.in_cookie);
    let old = presented.token.ok_or(Problem::from(Refusal::Malformed))?;
    match api.gateway.sessions().rotate(&old).await {
        Ok(rotated) => {
            let text = rotated.token.to_text();
            let token = (!from_cookie).then(|| text.expose().to_owned());
            let now = api.gateway.sessions().now();
            let body = RotatedBody { token, session: SessionView::new(&rotated.session, now) };
            let mut response = respond::json(StatusCode::OK, &body);
            if from_cookie {
                let valid_for = rotated.session.expires_at.since(now);
                cookie::set_token(
                    response.headers_mut(),
                    &api.gateway.options().cookie_name,
                    &text,
                    valid_for,
                    peer.secure,
                );
            }
            Ok(response)
        }
        Err(RotateError::Refused(refusal)) => Err(Problem::from(refusal).with_cookie(in_cookie)),
        Err(RotateError::Write(unacknowledged)) => Ok(interrupted_rotation(&api, unacknowledged, from_cookie, &peer)),
        Err(error) => Err(Problem::Internal(error.to_string())),
    }
}

/// The new token must not be lost if it may be valid.
fn interrupted_rotation(
    api: &Api,
    Unacknowledged { error, intended }: Unacknowledged<Rotated>,
    from_cookie: bool,
    peer: &Peer,
) -> Response {
    let Some(rotated) = intended else {
        return axum::response::IntoResponse::into_response(Problem::from(error));
    };
    let valid_for = rotated.session.expires_at.since(api.gateway.sessions().now());
    let problem = uncertain("the rotation", &error);
    if from_cookie {
        let mut response = axum::response::IntoResponse::into_response(problem);
        cookie::set_token(
            response.headers_mut(),
            &api.gateway.options().cookie_name,
            &rotated.token.to_text(),
            valid_for,
            peer.secure,
        );
        return response;
    }
    problem.with_extension(with_token(&rotated.token)).map(axum::body::Body::new)
}

/// Returns the members of a problem that hand over a token which may be valid.
pub(super) fn with_token(token: &Token) -> Map<String, Value> {
    Map::from_iter([("token".to_owned(), Value::String(token.to_text().expose().to_owned()))])
}

/// Returns the problem for a change whose outcome is uncertain.
pub(super) fn uncertain(what: &str, error: &WriteError) -> Problem {
    tracing::error!(%error, "the outcome is uncertain: {what}");
    Problem::Uncertain(match error {
        WriteError::NotDurable { .. } => {
            format!("{what} succeeded, but could be lost if the store fails now: use the token given here")
        }
        _ => format!("it is unknown whether {what} succeeded: try the token given here first"),
    })
}
