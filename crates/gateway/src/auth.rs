//! An answer for another proxy, which asks before it forwards a request: nginx `auth_request`, Caddy `forward_auth`,
//! Traefik `ForwardAuth`, Envoy `ext_authz`. Enforces at the start of a request only: what lasts longer than its
//! session is not cut here.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Version};

use crate::api::is_local;
use crate::cookie;
use crate::enforce::Gate;
use crate::fields::TENURE_ROTATE;
use crate::headers::{Values, set_identity};
use crate::login;
use crate::openclaw::may_be_public;
use crate::options::Options;
use crate::peer::{Connection, Peer};
use crate::problem::Problem;
use crate::target;

const PATH: &str = "/auth";
/// Headers in which a proxy names what its client asked for. Each that is there has to name a public path, since
/// clients can send those that their proxy does not set.
pub(crate) const ORIGINALS: [&str; 4] = ["x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-uri"];
/// Headers in which a proxy names the method that its client used.
const METHODS: [HeaderName; 2] =
    [HeaderName::from_static("x-original-method"), HeaderName::from_static("x-forwarded-method")];

/// Whether a path (below `/_tenure`) asks this.
pub(crate) fn is_asked(path: &str) -> bool {
    path.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// 204 with whose session it is, or the problem. Envoy, which appends the client's own path, wants 200.
pub(crate) async fn answer<B>(gate: &Arc<Gate>, connection: &Connection, request: &Request<B>) -> Response {
    let options = gate.options();
    let appended = appended(request);
    let status = if appended.is_some() { StatusCode::OK } else { StatusCode::NO_CONTENT };
    match decide(gate, connection, request, appended, &options).await {
        Ok(headers) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        Err(problem) => {
            let mut response = refuse(request, &problem);
            problem.mark(&mut response);
            let secure = Peer::of(connection, request.headers(), &options).is_ok_and(|peer| peer.secure);
            cookie::settle(&mut response, &options.cookie_name, secure);
            response
        }
    }
}

async fn decide<B>(
    gate: &Arc<Gate>,
    connection: &Connection,
    request: &Request<B>,
    appended: Option<Appended<'_>>,
    options: &Options,
) -> Result<HeaderMap, Problem> {
    let headers = request.headers();
    let mut answer = HeaderMap::with_capacity(4);
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if may_be_public(headers, options) && is_public(headers, appended, options) {
        return Ok(answer);
    }
    let peer = Peer::of(connection, headers, options)?;
    let admitted = gate.admit(&peer, &method(request), headers).await?;
    set_identity(&mut answer, &admitted.verified.session, options, &mut Values::new());
    if admitted.verified.rotation_due {
        answer.insert(TENURE_ROTATE, HeaderValue::from_static("due"));
    }
    Ok(answer)
}

fn appended_to<B>(request: &Request<B>) -> Option<&str> {
    let target = request.uri().path_and_query()?.as_str().strip_prefix("/_tenure/auth")?;
    target.starts_with('/').then_some(target)
}

/// The target that Envoy appended to its own path.
fn appended<B>(request: &Request<B>) -> Option<Appended<'_>> {
    let target = appended_to(request)?;
    // Over HTTP/1.1 a target with a fragment does not get here (`server::heads`). Over HTTP/2 the fragment is gone, and
    // with it perhaps what the proxy will forward.
    Some(if request.version() == Version::HTTP_2 { Appended::InPart } else { Appended::Whole(target) })
}

/// What is known of a target that was appended.
#[derive(Clone, Copy)]
pub(crate) enum Appended<'a> {
    /// All of it.
    Whole(&'a str),
    /// There may have been more.
    InPart,
}

/// Whether everybody who names what was asked for names a public path.
pub(crate) fn is_public(headers: &HeaderMap, appended: Option<Appended<'_>>, options: &Options) -> bool {
    if options.public_paths.is_empty() {
        return false;
    }
    let mut named = ORIGINALS.into_iter().flat_map(|name| headers.get_all(name)).peekable();
    let appended = match appended {
        Some(Appended::Whole(target)) => options.is_public(target.as_bytes()),
        Some(Appended::InPart) => false,
        None => named.peek().is_some(),
    };
    let public = |url: &HeaderValue| target::of_url(url.as_bytes()).is_some_and(|target| options.is_public(target));
    appended && named.all(public)
}

/// The method that the client used: the most dangerous that is named.
fn method<B>(request: &Request<B>) -> Method {
    let named = METHODS.into_iter().flat_map(|name| request.headers().get_all(name));
    let mut methods = named.map(|value| Method::from_bytes(value.as_bytes()).unwrap_or(Method::POST));
    methods.find(|method| !method.is_safe()).unwrap_or_else(|| request.method().clone())
}

/// The problem, and where a person's browser asked for a page, the way to the login page. A proxy that passes answers on
/// as they are passes on a redirect. nginx, which takes nothing but 401 and 403, gets the address beside its 401.
fn refuse<B>(request: &Request<B>, problem: &Problem) -> Response {
    let asked = asked_for(request).and_then(|(target, shows)| {
        // A page to which nobody is sent back is not named.
        let back = if is_local(target) { target } else { "/" };
        Some((login::address(&method(request), request.headers(), back, problem)?, shows))
    });
    match asked {
        Some((location, true)) => login::go(location),
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
    let named = |name: &str| request.headers().get(name).map(|value| target::of_url(value.as_bytes()));
    let (target, shows) = match named("x-original-uri").or_else(|| named("x-original-url")) {
        Some(target) => (target, false),
        None => {
            (named("x-forwarded-uri").or_else(|| appended_to(request).map(|target| Some(target.as_bytes())))?, true)
        }
    };
    Some((target.and_then(|target| std::str::from_utf8(target).ok()).unwrap_or_default(), shows))
}
