//! `GET /events`: changes as they happen, as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, StreamExt};
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use serde::Serialize;
use tenure_ports::StoreEvent;
use tenure_service::rfc3339;
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use super::Admin;
use tenure_tower::problem::{Problem, ProblemBody};

/// The most streams at once.
const STREAMS: usize = 64;
/// How often a comment shows that a stream without events is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The limit on streams.
pub(crate) struct Streams(Arc<Semaphore>);

impl Default for Streams {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(STREAMS)))
    }
}

/// One change.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangeEvent {
    /// The session that changed.
    session_id: String,
    /// `issued`, `rotated`, `revoked`, `evicted`, `replayed`, `logged_out`, `idle`, `described`, `imported` or
    /// `purged`. Expiry is not a change: `expiresAt` announces it.
    kind: String,
    /// The time of the change, on the store's clock.
    at: String,
}

/// Changes of sessions as they happen, made by any process, as server-sent events.
///
/// An event `change` carries a `ChangeEvent`. An event `missed` says that changes may be missing: read everything
/// again. A comment comes at the start, and every 15 s.
#[utoipa::path(
    get,
    path = "/events",
    operation_id = "followEvents",
    tag = "operator",
    security(("admin_secret" = [])),
    responses(
        (status = 200, description = "A stream that does not end by itself.", body = ChangeEvent,
            content_type = "text/event-stream"),
        (status = 401, description = "The admin secret is missing or wrong.", body = ProblemBody),
        (status = 429, description = "There are already 64 streams.", body = ProblemBody),
        (status = 503, description = "The store sends no events.", body = ProblemBody),
    )
)]
pub(super) async fn events(State(admin): State<Arc<Admin>>) -> Result<Response, Problem> {
    let permit = admin.streams.0.clone().try_acquire_owned().map_err(|_| Problem::TooMany(5))?;
    let feed = admin.gateway.sessions().subscribe().await?;
    let start = stream::once(async { Ok(Event::default().comment("following")) });
    let events = start.chain(feed.map(move |item| {
        let _held = &permit;
        Ok::<_, Infallible>(event(&item))
    }));
    let events = events.take_until(admin.gateway.closing().clone().cancelled_owned());
    let sse = Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("alive"));
    let mut response = sse.into_response();
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn event(item: &StoreEvent) -> Event {
    match item {
        StoreEvent::Lagged => Event::default().event("missed").data("{}"),
        StoreEvent::Changed { session, kind, at } => {
            let change =
                ChangeEvent { session_id: session.to_string(), kind: kind.code().to_owned(), at: rfc3339(*at) };
            let data = serde_json::to_string(&change).unwrap_or_default();
            Event::default().event("change").data(data)
        }
    }
}
