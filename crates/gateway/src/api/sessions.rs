//! The endpoints for a client's own sessions: listing and ending them.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use tenure_domain::{Actor, EndCause, Filter, Scope, Session, SessionId, SortKey};
use tenure_service::{SessionView, Sessions, Target};
use utoipa::ToSchema;

use super::{Api, Authenticated};
use crate::endpoint::extract::QueryParams;
use crate::endpoint::respond;
use crate::endpoint::revocation::{Ended, partial_revocation};
use tenure_tower::problem::{Problem, ProblemBody};
use tenure_tower::request::cookie;
use tenure_tower::request::header_fields::TENURE_ROTATE;

/// The default number of sessions in a listing.
const LISTED: u32 = 100;
/// The most sessions in a listing.
const LISTED_MAX: u32 = 1_000;

/// Which of the subject's sessions to list.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OwnQuery {
    /// Include ended and expired sessions, while they are retained.
    #[serde(default)]
    all: bool,
    /// Show at most this many: 1 to 1000, 100 where it is not given.
    #[serde(default)]
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A subject's sessions.
#[derive(Serialize, ToSchema)]
pub(crate) struct OwnSessions {
    /// Newest activity first.
    sessions: Vec<OwnSession>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
pub(crate) struct OwnSession {
    #[serde(flatten)]
    session: SessionView,
    /// Whether it is the session that sent the request.
    current: bool,
}

/// The sessions of the subject whose token is presented.
#[utoipa::path(
    get,
    path = "/_tenure/v1/sessions",
    operation_id = "listOwnSessions",
    tag = "client",
    security(("token" = []), ("cookie" = [])),
    params(OwnQuery),
    responses(
        (status = 200, description = "The subject's sessions, newest activity first.", body = OwnSessions),
        (status = 400, description = "A parameter is out of bounds; `detail` names it.", body = ProblemBody),
        (status = 401, description = "No token, or an invalid one.", body = ProblemBody),
        (status = 429, description = "Too many calls for this session.", body = ProblemBody),
        (status = 503, description = "The store cannot be read.", body = ProblemBody),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Authenticated { verified, .. }: Authenticated,
    QueryParams(query): QueryParams<OwnQuery>,
) -> Result<Response, Problem> {
    let limit = query.limit.unwrap_or(LISTED);
    if !(1..=LISTED_MAX).contains(&limit) {
        return Err(Problem::BadRequest(format!("limit: {limit} is out of its range, 1 to {LISTED_MAX}")));
    }
    api.listing_limit.check(verified.session.id)?;
    let filter = Filter {
        device: None,
        subject: Some(verified.session.subject.clone()),
        scope: if query.all { Scope::Retained } else { Scope::Active },
    };
    let found = api.gateway.sessions().list(&filter, SortKey::LastActivity, limit as usize).await?;
    let now = api.gateway.sessions().now();
    let own = |session: &Session| OwnSession {
        session: SessionView::new(session, now),
        current: session.id == verified.session.id,
    };
    let mut response = respond::json(StatusCode::OK, &OwnSessions { sessions: found.iter().map(own).collect() });
    if verified.rotation_due {
        response.headers_mut().insert(TENURE_ROTATE, HeaderValue::from_static("due"));
    }
    Ok(response)
}

/// End one of the subject's own sessions. Ending one that has already ended is not an error.
/// Somebody else's session is answered exactly like one that does not exist.
#[utoipa::path(
    delete,
    path = "/_tenure/v1/sessions/{id}",
    operation_id = "revokeOwnSession",
    tag = "client",
    security(("token" = []), ("cookie" = [])),
    params(("id" = String, Path, description = "The whole id of a session.")),
    responses(
        (status = 200, description = "The session has ended, durably.", body = Ended),
        (status = 401, description = "No token, or an invalid one.", body = ProblemBody),
        (status = 403, description = "Another site's page made the request with only a cookie.", body = ProblemBody),
        (status = 404, description = "The subject has no such session.", body = ProblemBody),
        (status = 503, description = "The store cannot be used; nothing was changed.", body = ProblemBody),
    )
)]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    Authenticated { verified, .. }: Authenticated,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let nothing = || Problem::NotFound("you have no such session".to_owned());
    let id: SessionId = id.parse().map_err(|_| nothing())?;
    let found = api.gateway.sessions().get(id).await?.ok_or_else(nothing)?;
    if found.subject != verified.session.subject {
        return Err(nothing());
    }
    Ok(end(&api, &Target::Ids(vec![id]), None, &by_owner(&verified.session)).await)
}

/// End all of the subject's sessions except the one that sent the request.
#[utoipa::path(
    post,
    path = "/_tenure/v1/sessions/revoke-others",
    operation_id = "revokeOtherSessions",
    tag = "client",
    security(("token" = []), ("cookie" = [])),
    responses(
        (status = 200, description = "The sessions have ended, durably.", body = Ended),
        (status = 401, description = "No token, or an invalid one.", body = ProblemBody),
        (status = 403, description = "Another site's page made the request with only a cookie.", body = ProblemBody),
        (status = 429, description = "Too many calls for this session.", body = ProblemBody),
        (status = 503, description = "The store failed; the problem lists what had ended before.", body = ProblemBody),
    )
)]
pub(super) async fn revoke_others(
    State(api): State<Arc<Api>>,
    Authenticated { verified, .. }: Authenticated,
) -> Result<Response, Problem> {
    api.listing_limit.check(verified.session.id)?;
    let target = Target::Subject(verified.session.subject.clone());
    Ok(end(&api, &target, Some(verified.session.id), &by_owner(&verified.session)).await)
}

/// Log out: end the session whose token is presented, and remove the browser's cookie.
#[utoipa::path(
    delete,
    path = "/_tenure/v1/session",
    operation_id = "logOut",
    tag = "client",
    security(("token" = []), ("cookie" = [])),
    responses(
        (status = 204, description = "The session has ended, durably."),
        (status = 401, description = "No token, or an invalid one.", body = ProblemBody),
        (status = 403, description = "Another site's page made the request with only a cookie.", body = ProblemBody),
        (status = 503, description = "The store cannot be used; nothing was changed.", body = ProblemBody),
    )
)]
pub(super) async fn log_out(
    State(api): State<Arc<Api>>,
    Authenticated { verified, peer, .. }: Authenticated,
) -> Result<Response, Problem> {
    match api.gateway.sessions().log_out(&verified.session).await {
        Ok(_) => {
            let mut response = StatusCode::NO_CONTENT.into_response();
            response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            cookie::clear(response.headers_mut(), &api.gateway.options().cookie_name, peer.secure);
            Ok(response)
        }
        Err(error) => Err(error.error.into()),
    }
}

async fn end(api: &Api, target: &Target, except: Option<SessionId>, cause: &EndCause) -> Response {
    let sessions = api.gateway.sessions();
    match sessions.revoke(target, except, cause).await {
        Ok(revoked) => respond::json(StatusCode::OK, &Ended::new(&revoked, sessions.now())),
        Err(error) => partial_revocation(error, sessions.now()),
    }
}

/// The cause of what a session's owner ends.
fn by_owner(session: &Session) -> EndCause {
    Sessions::revocation(None, Actor::from_shared(session.subject.shared().clone()).ok())
}
