//! What another proxy says of the request that it asks about: its target and its method.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use super::config::EnforcementConfig;
use super::request::target;

/// Headers in which a proxy names what its client asked for. Each that is there has to name a public path, since
/// clients can send those that their proxy does not set.
pub const TARGET_HEADERS: [&str; 4] = ["x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-uri"];
/// Headers in which a proxy names the method that its client used.
const METHOD_HEADERS: [HeaderName; 2] =
    [HeaderName::from_static("x-original-method"), HeaderName::from_static("x-forwarded-method")];

/// How much is known of a target that a proxy appended to its own path.
#[derive(Clone, Copy)]
pub enum AppendedTarget<'a> {
    /// All of it.
    Whole(&'a str),
    /// There may have been more.
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

/// The method that the client used: the most dangerous of those that are named.
pub fn client_method<B>(request: &Request<B>) -> Method {
    let named = METHOD_HEADERS.into_iter().flat_map(|name| request.headers().get_all(name));
    let mut methods = named.map(|value| Method::from_bytes(value.as_bytes()).unwrap_or(Method::POST));
    methods.find(|method| !method.is_safe()).unwrap_or_else(|| request.method().clone())
}
