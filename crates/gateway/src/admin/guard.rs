//! The guards of the admin listener: the host name, the origin, and the secret.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Extensions;

use super::Admin;
use crate::endpoint::extract::{self, peer};
use crate::shared_secret::SharedSecret;
use tenure_tower::csrf::{self, RequestOrigin};
use tenure_tower::problem::Problem;

/// The host names that the admin listener accepts. A page of another site can make its own name point here (DNS
/// rebinding), but that name can be neither an address nor one of these.
pub(crate) struct HostNames(Vec<String>);

impl HostNames {
    pub(super) fn new() -> Self {
        let mut names = vec!["localhost".to_owned()];
        let node = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
        names.extend(node.split_once('.').map(|(short, _)| short.to_owned()));
        names.push(node);
        Self(names)
    }

    /// Whether `host` (with its port) is an address, one of these names, or one of `more`.
    fn contains(&self, host: &str, more: &[String]) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
            None => host.split_once(':').map_or(host, |(name, _)| name),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let is_known = || self.0.contains(&name) || more.iter().any(|known| known.eq_ignore_ascii_case(&name));
        name.parse::<IpAddr>().is_ok() || (!name.is_empty() && is_known())
    }
}

/// Refuses requests with another host name, or from a page of another origin.
pub(super) async fn names(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let host = csrf::host(&parts);
    if !host.is_some_and(|host| admin.host_names.contains(host, &admin.gateway.options().admin_hosts)) {
        let text = "use an IP address, localhost, this machine's own name, or a name in gateway.admin_hosts: other \
                    names may point here to deceive a browser";
        return Err(Problem::Forbidden(text.to_owned()));
    }
    let origin = csrf::request_origin(&parts.headers, host, peer(&parts.extensions)?.secure);
    // Another site may link to the page itself, which contains nothing.
    let is_page = parts.uri.path() == "/" && parts.method.is_safe();
    if origin == RequestOrigin::CrossOrigin && !is_page {
        return Err(Problem::Forbidden("pages of other sites may not send requests here".to_owned()));
    }
    Ok(next.run(Request::from_parts(parts, body)).await)
}

/// Whether the admin secret was presented on a connection. Until then the connection is among the first to close if
/// there are too many.
#[derive(Clone, Debug, Default)]
pub(crate) struct AuthenticatedFlag(Arc<AtomicBool>);

impl AuthenticatedFlag {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Records that a request on the connection presented the secret.
    pub(super) fn set(extensions: &Extensions) {
        // Without a listener there is no connection.
        if let Some(Self(flag)) = extensions.get() {
            flag.store(true, Ordering::Relaxed);
        }
    }
}

/// Requires the admin secret, before the body is read.
pub(super) async fn secret(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Result<Response, Problem> {
    let peer = peer(request.extensions())?;
    let shown = extract::bearer(request.headers());
    admin.gateway.options().admin_secret.check(shown, &peer, |peer| admin.record_wrong_secret(peer))?;
    AuthenticatedFlag::set(request.extensions());
    Ok(next.run(request).await)
}

/// Requires the metrics secret or the admin secret.
pub(super) async fn metrics(
    State(admin): State<Arc<Admin>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (peer, options) = (peer(request.extensions())?, admin.gateway.options());
    let shown = extract::bearer(request.headers());
    let is_scraper = |secret: &SharedSecret| shown.is_some_and(|text| secret.matches(text.as_bytes()));
    if !options.metrics_secret.as_ref().is_some_and(is_scraper) {
        options.admin_secret.check(shown, &peer, |peer| admin.record_wrong_secret(peer))?;
    }
    AuthenticatedFlag::set(request.extensions());
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_own_names_are_ours_and_no_others() {
        let own = HostNames::new();
        for host in ["127.0.0.1:8471", "[::1]:8471", "localhost", "LOCALHOST.:1", "192.0.2.1"] {
            assert!(own.contains(host, &[]), "{host}");
        }
        for host in ["", ":8471", "evil.test", "localhost.evil.test", "127.0.0.1.evil.test:8471", "[evil]"] {
            assert!(!own.contains(host, &[]), "{host}");
        }
        let more = ["tenure".to_owned(), "Gateway.lan".to_owned()];
        for host in ["tenure:8471", "tenure", "gateway.lan.:1", "localhost"] {
            assert!(own.contains(host, &more), "{host}");
        }
        for host in ["", "tenure.evil.test", "lan", "evil.test"] {
            assert!(!own.contains(host, &more), "{host}");
        }
    }
}
