//! The settings of enforcement. They contain nothing about a server.

use std::net::IpAddr;
use std::time::Duration;

use http::Uri;
use http::header::{HeaderMap, HeaderName, UPGRADE};
use ipnet::IpNet;

use super::request::cookie::CookieName;
use super::request::list::list_contains;
use super::request::target;

/// The settings of an [`Enforcer`](super::Enforcer). They can be replaced while it runs.
#[derive(Clone, Debug)]
pub struct EnforcementConfig {
    /// The name of the cookie that carries a browser's token.
    pub cookie_name: CookieName,
    /// The networks of the proxies whose forwarding header fields are trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// Paths that need no token.
    pub public_paths: Vec<PublicPath>,
    /// Whether a WebSocket handshake on a public path needs no token. Set it to false if the upstream opens WebSockets
    /// on every path: clients with the upstream's own tokens would get in without a session.
    pub public_websockets: bool,
    /// The header that tells the upstream the subject. Clients cannot send it, in any spelling.
    pub user_header: HeaderName,
    /// The header that carries the upstream's own secret. Clients cannot send it in another spelling.
    pub upstream_auth_header: Option<HeaderName>,
    /// The address that `X-Forwarded-For` reports instead of a client's loopback address.
    pub loopback_as: Option<IpAddr>,
    /// How long open connections stay while the store cannot be read.
    pub store_loss_grace: Duration,
}

impl Default for EnforcementConfig {
    fn default() -> Self {
        Self {
            cookie_name: CookieName::default(),
            trusted_proxies: Vec::new(),
            public_paths: Vec::new(),
            public_websockets: true,
            user_header: HeaderName::from_static("x-forwarded-user"),
            upstream_auth_header: None,
            loopback_as: None,
            store_loss_grace: Duration::from_secs(15),
        }
    }
}

impl EnforcementConfig {
    /// Whether a request with this target needs no token. The target is `path[?query]` in the octets that were
    /// received.
    #[must_use]
    pub fn is_public(&self, target: &[u8]) -> bool {
        !self.public_paths.is_empty()
            && target::path(target).is_some_and(|path| self.public_paths.iter().any(|public| public.covers(&path)))
    }

    /// Whether a request with this parsed target needs no token. It must be passed on as it was parsed.
    pub fn is_public_uri(&self, uri: &Uri) -> bool {
        uri.path_and_query().is_some_and(|target| self.is_public(target.as_str().as_bytes()))
    }

    /// Whether a request with these headers may be public at all, whatever its path.
    pub fn may_be_public(&self, headers: &HeaderMap) -> bool {
        self.public_websockets || !list_contains(headers, &UPGRADE, "websocket")
    }

    /// Returns the address that the upstream is told for a client.
    pub fn reported_address(&self, address: IpAddr) -> IpAddr {
        self.loopback_as.filter(|_| address.is_loopback()).unwrap_or(address)
    }
}

/// A path that needs no token: exactly this path, or everything below it if it ends with a slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicPath(pub String);

impl PublicPath {
    /// Whether a request's target is for this path, after `%xx` is decoded. The target is `path[?query]` in the octets
    /// that were received. A target that servers read differently never matches: one with a fragment, dot segments,
    /// empty segments, encoded slashes or percent signs, backslashes, or octets that no target may have.
    #[must_use]
    pub fn matches(&self, target: &[u8]) -> bool {
        target::path(target).is_some_and(|path| self.covers(&path))
    }

    fn covers(&self, path: &str) -> bool {
        target::decode_path(&self.0).is_some_and(|own| own == path || (own.ends_with('/') && path.starts_with(&*own)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_path_is_itself_or_what_is_below_it() {
        let (one, below) = (PublicPath("/health".to_owned()), PublicPath("/assets/".to_owned()));
        for path in ["/health", "/%68ealth"] {
            assert!(one.matches(path.as_bytes()), "{path}");
        }
        for path in ["/health/", "/healthz", "/Health", "/", ""] {
            assert!(!one.matches(path.as_bytes()), "{path}");
        }
        for path in [
            "/assets/",
            "/assets/a",
            "/assets/a/b.css",
            "/assets/a/",
            "/assets/%41%20b",
            "/assets/a;v=1",
            "/assets/[id]/%C3%BC|~'()*!$&+,=:@-_.js",
            "/assets/a?b[]=c&d=/../?e={f}|^`<g>\"",
        ] {
            assert!(below.matches(path.as_bytes()), "{path}");
        }
        for path in ["/assets", "/assetsx/", "/x/assets/a"] {
            assert!(!below.matches(path.as_bytes()), "{path}");
        }
        assert!(PublicPath("/".to_owned()).matches(b"/anything/at/all"));
    }

    #[test]
    fn a_path_that_servers_read_differently_is_never_public() {
        for public in ["/assets/", "/"] {
            let public = PublicPath(public.to_owned());
            for tail in [
                "../admin",
                "./a",
                "a/..",
                "a/.",
                "..",
                "%2e%2e/admin",
                "%2E./admin",
                ".%2e",
                "..;/admin",
                ";/a",
                "..%2fadmin",
                "a%2Fb",
                "/a",
                "a//b",
                "a//",
                "..\\admin",
                "..%5cadmin",
                "%252e%252e/admin",
                "a%00",
                "a%0d%0a",
                "%",
                "%2",
                "%zz",
                "%ff",
                "a%3bb",
                "a%3f",
                "a%23",
                "#",
                "#/../../admin",
                "a?b#c",
                "a?b\\c",
                "a?b c",
                "a b",
                "a\tb",
                "a?b\x7f",
                "\u{fc}",
                "a?\u{fc}",
                "a\"b",
                "a<b",
                "a^b",
                "a`b",
                "{a}",
                "%c0%ae%c0%ae/admin",
                "%u002e%u002e/admin",
                ".../a",
                "..%20/admin",
                "%20/a",
                ". .",
            ] {
                let path = format!("/assets/{tail}");
                assert!(!public.matches(path.as_bytes()), "{path}");
            }
        }
        assert!(!PublicPath("/".to_owned()).matches(b"*"));
    }
}
