//! An answer for another proxy, which asks before it forwards a request: nginx `auth_request`, Caddy `forward_auth`,
//! Traefik `ForwardAuth`, Envoy `ext_authz`. Enforces at the start of a request only: what lasts longer than its
//! session is not cut here.

use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

use crate::enforce::Gate;
use crate::headers::{TENURE_ROTATE, set_identity};
use crate::options::Options;
use crate::peer::{Connection, Peer};
use crate::problem::Problem;

const PATH: &str = "/auth";
/// Headers in which a proxy names what its client asked for. Each that is there has to name a public path, since
/// clients can send those that their proxy does not set.
const ORIGINALS: [&str; 3] = ["x-original-url", "x-original-uri", "x-forwarded-uri"];
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
    let appended = request.uri().path().strip_prefix("/_tenure/auth").filter(|rest| !rest.is_empty());
    let status = if appended.is_some() { StatusCode::OK } else { StatusCode::NO_CONTENT };
    match decide(gate, connection, request, appended, &options).await {
        Ok(headers) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            response
        }
        Err(problem) => problem.into_response(),
    }
}

async fn decide<B>(
    gate: &Arc<Gate>,
    connection: &Connection,
    request: &Request<B>,
    appended: Option<&str>,
    options: &Options,
) -> Result<HeaderMap, Problem> {
    let headers = request.headers();
    let mut answer = HeaderMap::with_capacity(4);
    answer.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if is_public(headers, appended, options) {
        return Ok(answer);
    }
    let peer = Peer::of(connection, headers, options);
    let admitted = gate.admit(&peer, &method(request), headers).await?;
    set_identity(&mut answer, &admitted.verified.session, options);
    if admitted.verified.rotation_due {
        answer.insert(TENURE_ROTATE, HeaderValue::from_static("due"));
    }
    Ok(answer)
}

fn is_public(headers: &HeaderMap, appended: Option<&str>, options: &Options) -> bool {
    if options.public_paths.is_empty() {
        return false;
    }
    let named = ORIGINALS.into_iter().flat_map(|name| headers.get_all(name));
    let mut named = named.map(|value| value.to_str().ok().and_then(path_of)).collect::<Vec<_>>();
    named.extend(appended.map(|path| Some(path.to_owned())));
    !named.is_empty() && named.iter().all(|path| path.as_deref().is_some_and(|path| options.is_public(path)))
}

/// The path of a URL or of a request line's target.
fn path_of(url: &str) -> Option<String> {
    url.parse::<Uri>().ok().map(|uri| uri.path().to_owned())
}

/// The method that the client used: the most dangerous that is named.
fn method<B>(request: &Request<B>) -> Method {
    let named = METHODS.into_iter().flat_map(|name| request.headers().get_all(name));
    let mut methods = named.map(|value| Method::from_bytes(value.as_bytes()).unwrap_or(Method::POST));
    methods.find(|method| !method.is_safe()).unwrap_or_else(|| request.method().clone())
}
