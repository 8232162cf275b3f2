//! Tenure's own API for clients, under `/_tenure/`: enrol, rotate, list and end their own sessions, log in and out.

mod enrol;
pub(crate) mod forward_auth;
mod login;
pub(crate) mod login_redirect;
mod rate_limit;
mod sessions;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRef, FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::request::Parts;
use tenure_service::Verified;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::endpoint::extract::peer;
use crate::endpoint::health::{self, SharedGateway};
use crate::gateway::Gateway;
use tenure_tower::Problem;
use tenure_tower::admission::Admitted;
use tenure_tower::lockout::LockoutScope;
use tenure_tower::request::cookie;
use tenure_tower::request::peer::Peer;
use tenure_tower::request::presented_token::PresentedToken;

use rate_limit::RateLimit;

/// The state that the endpoints share.
pub(crate) struct Api {
    gateway: Arc<Gateway>,
    /// The limit on how often one session may ask for answers that read many sessions.
    listing_limit: RateLimit,
}

impl FromRef<Arc<Api>> for SharedGateway {
    fn from_ref(api: &Arc<Api>) -> Self {
        Self(Arc::clone(&api.gateway))
    }
}

/// The endpoints under `/_tenure/` of the client listener. Other paths are not answered here. Each request has to carry
/// its [`Peer`] among its extensions.
pub fn router(gateway: Arc<Gateway>) -> Router {
    let api = Arc::new(Api { gateway, listing_limit: RateLimit::new() });
    let (router, _) = documented().split_for_parts();
    router
        .route("/_tenure/login", axum::routing::get(login::page).post(login::log_in))
        .route("/_tenure/logout", axum::routing::post(login::log_out))
        .route("/_tenure/login.css", axum::routing::get(login::style))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .route("/_tenure/v1/{*rest}", axum::routing::any(no_such_endpoint))
        .layer(axum::middleware::from_fn_with_state(api.clone(), clear_ended_cookie))
        .with_state(api)
}

/// Removes the cookie of a session that has ended from the browser.
async fn clear_ended_cookie(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let secure = request.extensions().get::<Peer>().is_some_and(|peer| peer.secure);
    let mut response = next.run(request).await;
    cookie::clear_if_marked(&mut response, &api.gateway.options().cookie_name, secure);
    response
}

/// The endpoints that OpenAPI describes.
pub(crate) fn documented() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(enrol::enrol, sessions::list))
        .routes(routes!(sessions::revoke))
        .routes(routes!(sessions::revoke_others))
        .routes(routes!(sessions::log_out))
        .routes(routes!(token::rotate))
        .routes(routes!(health::client_healthz))
        .routes(routes!(health::client_readyz))
}

async fn no_such_endpoint() -> Problem {
    Problem::NotFound("there is no such endpoint: docs/http-api.md lists them".to_owned())
}

/// A request with a valid token. If only a cookie carried the token, a page of this host asked for the change.
pub(crate) struct Authenticated {
    verified: Verified,
    presented: PresentedToken,
    peer: Peer,
}

impl FromRequestParts<Arc<Api>> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let peer = peer(&parts.extensions)?;
        let (enforcer, headers) = (api.gateway.enforcer(), &parts.headers);
        let admitted = enforcer.require_session(LockoutScope::Tokens, &peer, &parts.method, headers).await?;
        let Admitted { verified, presented } = admitted;
        Ok(Self { verified, presented, peer })
    }
}
