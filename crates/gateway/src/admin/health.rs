//! Whether the gateway is there, and whether it can do its work.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::response::Response;
use tenure_ports::StoreError;
use tokio::sync::Mutex;

use super::Admin;
use crate::html;
use crate::problem::{Problem, ProblemBody};

/// How long an answer of the store is believed: whoever asks more often, without a secret, burdens nobody.
const BELIEVED: Duration = Duration::from_millis(500);

/// The latest answer of the store, and when it came.
#[derive(Default)]
pub(crate) struct Ready(Mutex<Option<(Instant, Result<(), StoreError>)>>);

/// Whether the process answers.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "operator",
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain"))
)]
pub(super) async fn healthz() -> Response {
    html::file("text/plain; charset=utf-8", "ok\n")
}

/// Whether the store answers and would take a change.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "operator",
    responses(
        (status = 200, description = "It would.", body = String, content_type = "text/plain"),
        (status = 503, description = "It would not.", body = ProblemBody),
    )
)]
pub(super) async fn readyz(State(admin): State<Arc<Admin>>) -> Result<Response, Problem> {
    let mut latest = admin.ready.0.lock().await;
    let answer = match &*latest {
        Some((at, answer)) if at.elapsed() < BELIEVED => answer.clone(),
        _ => {
            let answer = admin.gate.sessions().probe().await;
            *latest = Some((Instant::now(), answer.clone()));
            answer
        }
    };
    drop(latest);
    answer?;
    Ok(html::file("text/plain; charset=utf-8", "ready\n"))
}
