//! Ending sessions, for operators.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use tenure_domain::{Actor, DeviceId, EndCause, Note, SessionId, Subject};
use tenure_service::{Sessions, Target};
use utoipa::ToSchema;

use super::Admin;
use crate::endpoint::extract::{JsonBody, QueryParams};
use crate::endpoint::respond;
use crate::endpoint::revocation::{Ended, partial_revocation};
use tenure_tower::problem::{Problem, ProblemBody};

/// The actor in the records of sessions that are ended here.
const ACTOR: &str = "admin";
/// The most ids in one request.
const IDS_MAX: usize = 500;

/// Which sessions to end: exactly one of `ids`, `deviceId`, `subject` and `all`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RevokeBody {
    /// These, by their ids or by starts of them: at most 500.
    #[serde(default)]
    ids: Option<Vec<String>>,
    /// All active ones of this device.
    #[serde(default)]
    device_id: Option<String>,
    /// All active ones of this subject.
    #[serde(default)]
    subject: Option<String>,
    /// All active ones there are.
    #[serde(default)]
    all: bool,
    /// Except this session.
    #[serde(default)]
    except: Option<String>,
    /// Why, in your own words: 1 to 256 characters.
    #[serde(default)]
    reason: Option<String>,
    /// Only say which would be ended.
    #[serde(default)]
    dry_run: bool,
}

/// Sessions that have ended, or would be ended.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RevokedBody {
    #[serde(flatten)]
    sessions: Ended,
    /// Whether this only says what would be ended.
    dry_run: bool,
}

/// Why to end one session.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReasonQuery {
    /// Why, in your own words: 1 to 256 characters.
    #[serde(default)]
    reason: Option<String>,
}

/// End one session, by its id or a unique start of it. Ending one that is over already is fine.
#[utoipa::path(
    delete,
    path = "/api/v1/sessions/{id}",
    operation_id = "revokeSession",
    tag = "operator",
    security(("admin_secret" = [])),
    params(("id" = String, Path, description = "A session's id, or a prefix that no other session shares."), ReasonQuery),
    responses(
        (status = 200, description = "The session has ended, durably.", body = RevokedBody),
        (status = 400, description = "A parameter is out of bounds; `detail` names it.", body = ProblemBody),
        (status = 401, description = "The admin secret is missing or wrong.", body = ProblemBody),
        (status = 404, description = "There is none.", body = ProblemBody),
        (status = 409, description = "The prefix matches several sessions.", body = ProblemBody),
        (status = 503, description = "The store cannot be used; nothing was changed.", body = ProblemBody),
    )
)]
pub(super) async fn one(
    State(admin): State<Arc<Admin>>,
    Path(start): Path<String>,
    QueryParams(query): QueryParams<ReasonQuery>,
) -> Result<Response, Problem> {
    let cause = cause(query.reason.as_deref())?;
    let id = admin.gateway.sessions().resolve(&start).await?;
    Ok(end(admin.gateway.sessions(), &Target::Ids(vec![id]), None, &cause).await)
}

/// End sessions by id, by device, by subject, or all there are.
#[utoipa::path(
    post,
    path = "/api/v1/sessions/revoke",
    operation_id = "revokeSessions",
    tag = "operator",
    security(("admin_secret" = [])),
    request_body = RevokeBody,
    responses(
        (status = 200, description = "The sessions have ended, durably; or would be ended.", body = RevokedBody),
        (status = 400, description = "A field is out of bounds; `detail` names it.", body = ProblemBody),
        (status = 401, description = "The admin secret is missing or wrong.", body = ProblemBody),
        (status = 404, description = "One of the sessions does not exist; nothing was ended.", body = ProblemBody),
        (status = 409, description = "An id matches several sessions; nothing was ended.", body = ProblemBody),
        (status = 503, description = "The store failed; the problem lists what had ended before.", body = ProblemBody),
    )
)]
pub(super) async fn many(
    State(admin): State<Arc<Admin>>,
    JsonBody(body): JsonBody<RevokeBody>,
) -> Result<Response, Problem> {
    let sessions = admin.gateway.sessions();
    let cause = cause(body.reason.as_deref())?;
    let target = target(sessions, &body).await?;
    let except = match &body.except {
        Some(start) => Some(sessions.resolve(start).await?),
        None => None,
    };
    if !body.dry_run {
        return Ok(end(sessions, &target, except, &cause).await);
    }
    let would = sessions.preview_revoke(&target, except).await?;
    let body = RevokedBody { sessions: Ended::new(&would, sessions.now()), dry_run: true };
    Ok(respond::json(StatusCode::OK, &body))
}

async fn target(sessions: &Sessions, body: &RevokeBody) -> Result<Target, Problem> {
    let named = |name: &str, error: &dyn std::fmt::Display| Problem::BadRequest(format!("{name}: {error}"));
    match (&body.ids, &body.device_id, &body.subject, body.all) {
        (Some(starts), None, None, false) => {
            if starts.is_empty() || starts.len() > IDS_MAX {
                return Err(named("ids", &format_args!("give 1 to {IDS_MAX} ids, not {}", starts.len())));
            }
            let mut ids = Vec::with_capacity(starts.len());
            for start in starts {
                ids.push(sessions.resolve(start).await?);
            }
            Ok(Target::Ids(ids))
        }
        (None, Some(device), None, false) => {
            DeviceId::recorded(device).map(Target::Device).map_err(|error| named("deviceId", &error))
        }
        (None, None, Some(subject), false) => {
            Subject::recorded(subject).map(Target::Subject).map_err(|error| named("subject", &error))
        }
        (None, None, None, true) => Ok(Target::All),
        _ => Err(Problem::BadRequest("give exactly one of ids, deviceId, subject and all".to_owned())),
    }
}

async fn end(sessions: &Sessions, target: &Target, except: Option<SessionId>, cause: &EndCause) -> Response {
    match sessions.revoke(target, except, cause).await {
        Ok(revoked) => {
            tracing::info!(ended = revoked.ended.len(), "an operator ended sessions");
            let body = RevokedBody { sessions: Ended::new(&revoked, sessions.now()), dry_run: false };
            respond::json(StatusCode::OK, &body)
        }
        Err(error) => partial_revocation(error, sessions.now()),
    }
}

fn cause(reason: Option<&str>) -> Result<EndCause, Problem> {
    let text = reason.map(Note::new).transpose();
    let text = text.map_err(|error| Problem::BadRequest(format!("reason: {error}")))?;
    Ok(Sessions::revocation(text, Actor::new(ACTOR).ok()))
}
