//! The operators' API: all sessions, OAuth introspection and revocation, events, metrics, health, and a page for
//! people.

mod cursor;
mod events;
mod guard;
mod list_request;
mod oauth;
pub mod openapi;
mod page;
mod revoke;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRef, State};
use axum::middleware;
use axum::response::Response;
use axum::routing::{any, get};
use axum::{Json, Router};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::endpoint::health::{self, SharedGateway};
use crate::endpoint::html;
use crate::gateway::Gateway;
use tenure_tower::Problem;
use tenure_tower::lockout::FailureCounter;
use tenure_tower::request::peer::Peer;

pub(crate) use guard::AuthenticatedFlag;

/// The state that the endpoints share.
pub(crate) struct Admin {
    gateway: Arc<Gateway>,
    host_names: guard::HostNames,
    streams: events::Streams,
    /// Failures with the admin secret are counted apart from those of clients, by the address at the other end of the
    /// connection. So a client that guesses tokens cannot lock operators out, and one that guesses this secret cannot
    /// get a new counter by a forwarding header.
    failures: FailureCounter,
}

impl FromRef<Arc<Admin>> for SharedGateway {
    fn from_ref(admin: &Arc<Admin>) -> Self {
        Self(Arc::clone(&admin.gateway))
    }
}

impl Admin {
    /// Counts a wrong secret, and returns how long its client is locked out, if it is.
    fn record_wrong_secret(&self, peer: &Peer) -> Option<Duration> {
        self.failures.record(peer.remote, None).locked()
    }
}

/// The endpoints of the admin listener. Each request has to carry its [`tenure_tower::Peer`] among its extensions.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let admin = Arc::new(Admin {
        host_names: guard::HostNames::new(),
        streams: events::Streams::default(),
        failures: FailureCounter::for_operators(),
        gateway,
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
        .route("/openapi.json", get(async || Json(openapi::document())))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .fallback(any(no_such_endpoint))
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

/// Endpoints that accept the metrics secret too.
pub(crate) fn counters() -> OpenApiRouter<Arc<Admin>> {
    OpenApiRouter::new().routes(routes!(metrics))
}

/// Endpoints that need no secret.
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
    let (enforcer, metrics) = (admin.gateway.enforcer(), admin.gateway.metrics());
    metrics.set_connections(enforcer.connections().counts().connections);
    html::text_file("text/plain; version=0.0.4; charset=utf-8", metrics.render())
}

async fn no_such_endpoint() -> Problem {
    Problem::NotFound("there is no such endpoint: /openapi.json lists them".to_owned())
}
