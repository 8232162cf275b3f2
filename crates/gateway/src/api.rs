//! What clients ask of Tenure itself, under `/_tenure/`: enrol, rotate, see and end their own sessions, log in and out.

mod enrol;
mod health;
mod login;
mod pace;
mod sessions;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Extensions;
use http::request::Parts;
use serde::Serialize;
use serde_json::{Map, Value};
use tenure_domain::{Session, Timestamp};
use tenure_service::{RevokeError, Revoked, SessionView, Verified};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::cookie;
use crate::credential::Credential;
use crate::enforce::{Admitted, Gate};
use crate::peer::Peer;
use crate::problem::Problem;

use pace::Pace;

pub(crate) use login::{PATH as LOGIN, is_local};

/// So many sessions are named in one answer; the counts are always whole.
pub(crate) const NAMED: usize = 1_000;

/// What the endpoints share.
pub(crate) struct Api {
    gate: Arc<Gate>,
    walks: Pace,
}

/// The endpoints under `/_tenure/` of the client listener. Other paths are not answered here. Each request has to carry
/// its [`Peer`] among its extensions.
pub fn router(gate: Arc<Gate>) -> Router {
    let api = Arc::new(Api { gate, walks: Pace::new() });
    let (router, _) = documented().split_for_parts();
    router
        .route("/_tenure/login", axum::routing::get(login::page).post(login::log_in))
        .route("/_tenure/logout", axum::routing::post(login::log_out))
        .route("/_tenure/login.css", axum::routing::get(login::style))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .route("/_tenure/v1/{*rest}", axum::routing::any(nothing))
        .layer(axum::middleware::from_fn_with_state(api.clone(), settle))
        .with_state(api)
}

/// Takes the cookie from a browser that shows one whose session is over.
async fn settle(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let secure = request.extensions().get::<Peer>().is_some_and(|peer| peer.secure);
    let mut response = next.run(request).await;
    cookie::settle(&mut response, &api.gate.options().cookie_name, secure);
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
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
}

async fn nothing() -> Problem {
    Problem::NotFound("there is no such endpoint: docs/http-api.md lists them".to_owned())
}

/// A request with a token that holds; where only a cookie carried it, a change was asked for by a page of ours.
pub(crate) struct Authenticated {
    verified: Verified,
    credential: Credential,
    peer: Peer,
}

impl FromRequestParts<Arc<Api>> for Authenticated {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let peer = peer(&parts.extensions)?;
        let Admitted { verified, credential } = api.gate.admit(&peer, &parts.method, &parts.headers).await?;
        Ok(Self { verified, credential, peer })
    }
}

/// Who asks, as the listener found out.
///
/// # Errors
/// [`Problem::Internal`] where a router is used without it.
pub(crate) fn peer(extensions: &Extensions) -> Result<Peer, Problem> {
    let nobody = || Problem::Internal("nobody said who asks: put a Peer into the request's extensions".to_owned());
    extensions.get::<Peer>().cloned().ok_or_else(nobody)
}

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
        let views =
            |sessions: &[Session]| sessions.iter().take(NAMED).map(|session| SessionView::new(session, now)).collect();
        Self { ended_count: revoked.ended.len(), ended: views(&revoked.ended), already: views(&revoked.already_ended) }
    }
}

/// A revocation that stopped: the problem, with what had been done before.
pub(crate) fn stopped(error: RevokeError, now: Timestamp) -> Response {
    let mut extension = Map::new();
    if !error.done.ended.is_empty()
        && let Ok(Value::Object(ended)) = serde_json::to_value(Ended::new(&error.done, now))
    {
        extension = ended;
    }
    Problem::from(error.error).with(extension)
}
