//! Health checks, the same on both listeners: whether the gateway answers, and whether it can do its work.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;

use super::html;
use crate::gateway::Gateway;
use tenure_tower::Problem;
use tenure_tower::problem::ProblemBody;

/// The state of either router, as far as the health checks need it.
#[derive(Clone)]
pub(crate) struct SharedGateway(pub(crate) Arc<Gateway>);

/// Whether the process answers. It does not read the store.
#[utoipa::path(
    get,
    path = "/_tenure/healthz",
    operation_id = "clientHealthz",
    tag = "client",
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain"))
)]
pub(crate) async fn client_healthz() -> Response {
    healthy()
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
pub(crate) async fn client_readyz(State(SharedGateway(gateway)): State<SharedGateway>) -> Result<Response, Problem> {
    ready(&gateway).await
}

/// Whether the process answers.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "healthz",
    tag = "operator",
    responses((status = 200, description = "It does.", body = String, content_type = "text/plain"))
)]
pub(crate) async fn healthz() -> Response {
    healthy()
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
pub(crate) async fn readyz(State(SharedGateway(gateway)): State<SharedGateway>) -> Result<Response, Problem> {
    ready(&gateway).await
}

fn healthy() -> Response {
    html::text_file("text/plain; charset=utf-8", "ok\n")
}

async fn ready(gateway: &Gateway) -> Result<Response, Problem> {
    gateway.check_ready().await?;
    Ok(html::text_file("text/plain; charset=utf-8", "ready\n"))
}
