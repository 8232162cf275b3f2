//! The endpoint for another proxy, which asks before it forwards a request: nginx `auth_request`, Caddy `forward_auth`,
//! Traefik `ForwardAuth`, Envoy `ext_authz`. It enforces at the start of a request only: a response that outlasts its
//! session is not cut here.

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};

use super::login_redirect;
use tenure_tower::admission::forward_auth::{AppendedTarget, client_method};
use tenure_tower::admission::{Admission, AdmissionRequest, RequestTarget};
use tenure_tower::request::cookie;
use tenure_tower::request::header_fields::TENURE_ROTATE;
use tenure_tower::request::headers::{HeaderValues, set_identity};
use tenure_tower::request::peer::{Connection, Peer};
use tenure_tower::request::target;
use tenure_tower::{EnforcementConfig, Enforcer, Problem};

/// The path of the endpoint below `/_tenure`.
const PATH: &str = "/auth";

/// Whether a path (below `/_tenure`) is this endpoint.
pub(crate) fn is_endpoint(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Answers with 204 and whose session it is, or with the problem. Envoy, which appends the client's own path, expects
/// 200.
pub(crate) async fn answer<B>(enforcer: &Enforcer, connection: &Connection, request: &Request<B>) -> Response {
    let config = enforcer.config();
    let peer = Peer::of(connection, request.headers(), &config.trusted_proxies);
    let appended = appended_target(request);
    let status = if appended.is_some() { StatusCode::OK } else { StatusCode::NO_CONTENT };
    match decide(enforcer, peer.as_ref(), request, appended, &config).await {
        Ok(headers) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        Err(problem) => {
            let mut response = refuse(request, &problem);
            problem.mark_response(&mut response);
            cookie::clear_if_marked(&mut response, &config.cookie_name, peer.is_ok_and(|peer| peer.secure));
            response
        }
    }
}

async fn decide<B>(
    enforcer: &Enforcer,
    peer: Result<&Peer, &Problem>,
    request: &Request<B>,
    appended: Option<AppendedTarget<'_>>,
    config: &EnforcementConfig,
) -> Result<HeaderMap, Problem> {
    let mut answer = HeaderMap::with_capacity(4);
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let admission = AdmissionRequest {
        config,
        peer,
        method: &client_method(request),
        headers: request.headers(),
        target: RequestTarget::Forwarded(appended),
        may_defer: false,
    };
    if let Admission::Session(admitted) = enforcer.admit(admission).await? {
        let session = &admitted.verified.session;
        set_identity(&mut answer, session, &config.user_header, &mut HeaderValues::default());
        if admitted.verified.rotation_due {
            answer.insert(TENURE_ROTATE, HeaderValue::from_static("due"));
        }
    }
    Ok(answer)
}

fn appended_to<B>(request: &Request<B>) -> Option<&str> {
    let target = request.uri().path_and_query()?.as_str().strip_prefix("/_tenure/auth")?;
    target.starts_with('/').then_some(target)
}

/// The target that Envoy appended to its own path.
fn appended_target<B>(request: &Request<B>) -> Option<AppendedTarget<'_>> {
    let target = appended_to(request)?;
    // Over HTTP/1.1 a target with a fragment does not get here (`server::smuggling_guard`). Over HTTP/2 the fragment is
    // gone, and with it perhaps what the proxy will forward.
    let is_partial = request.version() == Version::HTTP_2;
    Some(if is_partial { AppendedTarget::Partial } else { AppendedTarget::Whole(target) })
}

/// Answers with the problem. If a person's browser asked for a page, it answers with the way to the login page. A proxy
/// that passes every answer on gets a redirect. nginx, which accepts only 401 and 403, gets the address in addition to
/// the 401.
fn refuse<B>(request: &Request<B>, problem: &Problem) -> Response {
    let asked = asked_for(request).and_then(|(target, shows)| {
        // A page to which no one can be sent back is not named.
        let back = if login_redirect::is_local(target) { target } else { "/" };
        Some((login_redirect::location(&client_method(request), request.headers(), back, problem)?, shows))
    });
    match asked {
        Some((location, true)) => login_redirect::see_other(location),
        Some((location, false)) => {
            let mut response = problem.clone().into_response();
            response.headers_mut().insert(LOCATION, location);
            response
        }
        None => problem.clone().into_response(),
    }
}

/// The target that the client asked for, and whether the proxy that names it in this way passes every answer on.
fn asked_for<B>(request: &Request<B>) -> Option<(&str, bool)> {
    let named = |name: &str| request.headers().get(name).map(|value| target::target_of_url(value.as_bytes()));
    let (target, shows) = match named("x-original-uri").or_else(|| named("x-original-url")) {
        Some(target) => (target, false),
        None => {
            (named("x-forwarded-uri").or_else(|| appended_to(request).map(|target| Some(target.as_bytes())))?, true)
        }
    };
    Some((target.and_then(|target| std::str::from_utf8(target).ok()).unwrap_or_default(), shows))
}
