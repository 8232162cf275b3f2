//! What operators ask: all sessions, OAuth introspection and revocation, news, counters, health, and a page for people.

mod cursor;
mod events;
mod guard;
mod health;
mod oauth;
mod page;
mod query;
mod revoke;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::middleware;
use axum::response::Response;
use axum::routing::{any, get};
use axum::{Json, Router};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::enforce::Gate;
use crate::failures::Failures;
use crate::peer::Peer;
use crate::problem::Problem;

pub(crate) use guard::Proven;

/// What the endpoints share.
pub(crate) struct Admin {
    gate: Arc<Gate>,
    own: guard::OwnNames,
    streams: events::Streams,
    /// Apart from those of clients, and by the address at the other end of the connection, whatever a proxy says: nobody
    /// who guesses tokens locks operators out, and nobody who guesses this secret gets another counter by a header.
    failures: Failures,
}

impl Admin {
    /// Counts a wrong secret. How long whoever showed it is locked out, if it is.
    fn note_wrong(&self, peer: &Peer) -> Option<Duration> {
        self.failures.note(peer.remote, None).locked()
    }
}

/// The endpoints of the admin listener. Each request has to carry its [`crate::Peer`] among its extensions.
pub fn router(gate: Arc<Gate>) -> Router {
    let admin = Arc::new(Admin {
        own: guard::OwnNames::new(),
        streams: events::Streams::default(),
        failures: Failures::of_operators(),
        gate,
    });
    let guarded = |router: OpenApiRouter<Arc<Admin>>| {
        router.layer(middleware::from_fn_with_state(admin.clone(), guard::secret)).split_for_parts().0
    };
    let scraped = counters().layer(middleware::from_fn_with_state(admin.clone(), guard::metrics)).split_for_parts().0;
    let open = open().split_for_parts().0;
    let oauth = oauth_routes().split_for_parts().0;
    Router::new()
        .merge(guarded(protected()))
        .merge(scraped)
        .merge(open)
        .merge(oauth)
        .route("/", get(page::page))
        .route("/static/admin.js", get(page::script))
        .route("/static/admin.css", get(page::style))
        .route("/openapi.json", get(async || Json(crate::openapi::document())))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .fallback(any(nothing))
        .layer(middleware::from_fn_with_state(admin.clone(), guard::names))
        .with_state(admin)
}

/// Endpoints that need the admin secret.
pub(crate) fn protected() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new()
        .routes(routes!(sessions::list))
        .routes(routes!(sessions::show, revoke::one))
        .routes(routes!(revoke::many))
        .routes(routes!(events::events))
}

/// What a scraper's secret opens too.
pub(crate) fn counters() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Endpoints that anybody may ask who reaches them.
pub(crate) fn open() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(health::healthz)).routes(routes!(health::readyz))
}

/// Endpoints that authenticate their clients as OAuth does.
pub(crate) fn oauth_routes() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(oauth::introspect)).routes(routes!(oauth::revoke))
}

/// Counters in Prometheus' text format.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "operator",
    security(("metrics_secret" = []), ("admin_secret" = [])),
    responses((status = 200, description = "The counters.", body = String, content_type = "text/plain"))
)]
async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    admin.gate.metrics().live(admin.gate.live().counts().connections);
    crate::html::file("text/plain; version=0.0.4; charset=utf-8", admin.gate.metrics().render())
}

async fn nothing() -> Problem {
    Problem::NotFound("there is no such endpoint: /openapi.json lists them".to_owned())
}
