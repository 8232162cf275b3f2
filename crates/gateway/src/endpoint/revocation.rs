//! The responses of endpoints that end sessions.

use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use tenure_domain::{Session, Timestamp};
use tenure_service::{RevokeError, Revoked, SessionView};
use utoipa::ToSchema;

use tenure_tower::Problem;

/// The most sessions that one response names. The counts cover all of them.
pub(crate) const MAX_LISTED: usize = 1_000;

/// Sessions that have ended, or would be ended.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ended {
    /// How many have ended.
    ended_count: usize,
    /// The first 1,000 of them.
    ended: Vec<SessionView>,
    /// Those that were named but had already ended.
    already: Vec<SessionView>,
}

impl Ended {
    pub(crate) fn new(revoked: &Revoked, now: Timestamp) -> Self {
        let views = |sessions: &[Session]| {
            sessions.iter().take(MAX_LISTED).map(|session| SessionView::new(session, now)).collect()
        };
        Self { ended_count: revoked.ended.len(), ended: views(&revoked.ended), already: views(&revoked.already_ended) }
    }
}

/// Returns the problem of a revocation that stopped, with what it had done before.
pub(crate) fn partial_revocation(error: RevokeError, now: Timestamp) -> Response {
    let mut extension = Map::new();
    if !error.done.ended.is_empty()
        && let Ok(Value::Object(ended)) = serde_json::to_value(Ended::new(&error.done, now))
    {
        extension = ended;
    }
    Problem::from(error.error).with_extension(extension).map(axum::body::Body::new)
}
