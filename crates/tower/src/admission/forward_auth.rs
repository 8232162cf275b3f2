//! What another proxy says about the request that it asks about: its target and its method.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use crate::config::EnforcementConfig;
use crate::request::target;

/// Header fields in which a proxy names the target that its client asked for. Each one that is present has to name a
/// public path, because clients can send the ones that their proxy does not set.
pub const TARGET_HEADERS: [&str; 4] = ["x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-uri"];
/// Headers in which a proxy names the method that its client used.
const METHOD_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("x-original-method"), HeaderName::from_static("x-forwarded-method")];

/// How much is known about a target that a proxy appended to its own path.
#[derive(Clone, Copy)]
pub enum AppendedTarget<'a> {
    /// The whole target.
    Whole(&'a str),
    /// The target may have had more.
    Partial,
}

/// Whether every header that names a target, and the appended one, names a public path.
pub fn is_public(headers: &HeaderMap, appended: Option<AppendedTarget<'_>>, config: &EnforcementConfig) -> bool {
    if config.public_paths.is_empty() {
        return false;
    }
    let mut named = TARGET_HEADERS.into_iter().flat_map(|name| headers.get_all(name)).peekable();
    let appended = match appended {
        Some(AppendedTarget::Whole(target)) => config.is_public(target.as_bytes()),
        Some(AppendedTarget::Partial) => false,
        None => named.peek().is_some(),
    };
    let public =
        |url: &HeaderValue| target::target_of_url(url.as_bytes()).is_some_and(|target| config.is_public(target));
    appended && named.all(public)
}

/// Returns the method that the client used: if several are named, one that is not safe.
pub fn client_method<B>(request: &Request<B>) -> Method {
    let named = METHOD_HEADERS.into_iter().flat_map(|name| request.headers().get_all(name));
    let mut methods = named.map(|value| Method::from_bytes(value.as_bytes()).unwrap_or(Method::POST));
    methods.find(|method| !method.is_safe()).unwrap_or_else(|| request.method().clone())
}
