//! The endpoints for operators that list and show all sessions.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use tenure_domain::{Session, State as SessionState};
use tenure_service::{SessionView, Sessions, WriteError};
use utoipa::ToSchema;

use super::Admin;
use super::cursor::Cursor;
use super::list_request::{ListQuery, ListRequest};
use crate::endpoint::extract::QueryParams;
use crate::endpoint::respond;
use tenure_tower::problem::{Problem, ProblemBody};

/// The number of sessions that one step of a walk reads.
const PAGE_SIZE: usize = 1_000;

/// Some of the sessions.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionPage {
    /// In the order that was asked for.
    sessions: Vec<SessionView>,
    /// The `cursor` of the next page; left out on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Sessions by filter, sorted, some at a time.
///
/// A session whose place in the order changes between two pages (by its activity, by a rotation) may be seen twice or
/// not at all; sorted by `created` each is seen once.
#[utoipa::path(
    get,
    path = "/api/v1/sessions",
    operation_id = "listSessions",
    tag = "operator",
    security(("admin_secret" = [])),
    params(ListQuery),
    responses(
        (status = 200, description = "A page of sessions.", body = SessionPage),
        (status = 400, description = "A parameter is out of bounds; `detail` names it.", body = ProblemBody),
        (status = 401, description = "The admin secret is missing or wrong.", body = ProblemBody),
        (status = 503, description = "The store cannot be read.", body = ProblemBody),
    )
)]
pub(super) async fn list(
    State(admin): State<Arc<Admin>>,
    QueryParams(query): QueryParams<ListQuery>,
) -> Result<Response, Problem> {
    let request = query.check()?;
    let sessions = admin.gateway.sessions();
    let mut found = first_sessions(sessions, &request).await?;
    if end_idle_sessions(sessions, &found).await? {
        found = first_sessions(sessions, &request).await?;
    }
    let more = found.len() > request.limit;
    found.truncate(request.limit);
    let next = found.last().filter(|_| more).map(|last| Cursor::of(last, request.sort).to_text());
    let now = sessions.now();
    let page = SessionPage { sessions: found.iter().map(|session| SessionView::new(session, now)).collect(), next };
    Ok(respond::json(StatusCode::OK, &page))
}

/// Returns the first sessions of the request, and one more if there are more. If the store cannot select them by
/// itself, this walks through all that match the filter and holds at most two pages of them.
async fn first_sessions(sessions: &Sessions, request: &ListRequest) -> Result<Vec<Session>, WriteError> {
    let limit = request.limit + 1;
    if request.is_plain_listing() {
        return sessions.list(&request.filter, request.sort, limit).await;
    }
    let mut kept: Vec<Session> = Vec::new();
    let mut cursor = None;
    loop {
        let page = sessions.page(&request.filter, cursor, PAGE_SIZE).await?;
        let now = sessions.now();
        for session in page.sessions.into_iter().filter(|session| request.includes(session, now)) {
            kept.push(session);
            if kept.len() >= 2 * limit {
                kept.select_nth_unstable_by(limit - 1, |a, b| request.sort.compare(a, b));
                kept.truncate(limit);
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            kept.sort_unstable_by(|a, b| request.sort.compare(a, b));
            kept.truncate(limit);
            return Ok(kept);
        }
    }
}

/// Ends the sessions that are idle and not recorded as such: a session that is shown as idle must stay so. Returns
/// whether there were any.
async fn end_idle_sessions(sessions: &Sessions, found: &[Session]) -> Result<bool, Problem> {
    let now = sessions.now();
    let mut any = false;
    for session in found.iter().filter(|session| session.state(now) == SessionState::Idle) {
        sessions.get(session.id).await?;
        any = true;
    }
    Ok(any)
}

/// One session, by its id or a unique start of it.
#[utoipa::path(
    get,
    path = "/api/v1/sessions/{id}",
    operation_id = "showSession",
    tag = "operator",
    security(("admin_secret" = [])),
    params(("id" = String, Path, description = "A session's id, or a prefix that no other session shares.")),
    responses(
        (status = 200, description = "The session.", body = SessionView),
        (status = 400, description = "It is not a prefix of an id.", body = ProblemBody),
        (status = 401, description = "The admin secret is missing or wrong.", body = ProblemBody),
        (status = 404, description = "There is none.", body = ProblemBody),
        (status = 409, description = "The prefix matches several sessions.", body = ProblemBody),
        (status = 503, description = "The store cannot be read.", body = ProblemBody),
    )
)]
pub(super) async fn show(State(admin): State<Arc<Admin>>, Path(start): Path<String>) -> Result<Response, Problem> {
    let sessions = admin.gateway.sessions();
    let id = sessions.resolve(&start).await?;
    match sessions.get(id).await? {
        Some(session) => Ok(respond::json(StatusCode::OK, &SessionView::new(&session, sessions.now()))),
        None => Err(Problem::NotFound(format!("no such session: {start}"))),
    }
}
