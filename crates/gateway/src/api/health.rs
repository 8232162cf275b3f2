//! Whether the gateway is there, for a balancer or a container's health check: says nothing of what there is.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::Api;
use crate::html;
use crate::problem::{Problem, ProblemBody};

/// Whether the process answers. Does not ask the store.
#[utoipa::path(
    get,
    path = "/_tenure/healthz",
    operation_id = "clientHealthz",
    tag = "client",
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain"))
)]
pub(super) async fn healthz() -> Response {
    html::file("text/plain; charset=utf-8", "ok\n")
}

/// Whether the store answers and would take a change.
#[utoipa::path(
    get,
    path = "/_tenure/readyz",
    operation_id = "clientReadyz",
    tag = "client",
    responses(
        (status = 200, description = "It would.", body = String, content_type = "text/plain"),
        (status = 503, description = "It would not.", body = ProblemBody),
    )
)]
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    api.gate.ready().await?;
    Ok(html::file("text/plain; charset=utf-8", "ready\n"))
}
