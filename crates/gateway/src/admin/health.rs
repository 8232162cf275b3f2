//! Whether the gateway is there, and whether it can do its work.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::Admin;
use crate::html;
use crate::problem::{Problem, ProblemBody};

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
    admin.gate.ready().await?;
    Ok(html::file("text/plain; charset=utf-8", "ready\n"))
}
