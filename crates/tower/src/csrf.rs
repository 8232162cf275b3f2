//! The check against cross-site request forgery. A browser sends a cookie with every request, whichever site's page
//! asked for it. So a request that only a cookie authenticates must come from a page of this host.

use http::header::{ACCEPT, HOST, ORIGIN, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::problem::Problem;

/// The origin of a request, as far as the browser tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestOrigin {
    /// A page of this host sent the request.
    SameOrigin,
    /// A page of another host sent the request.
    CrossOrigin,
    /// The person sent the request, by the address bar or a bookmark.
    UserInitiated,
    /// The request does not tell: the client is an old browser or not a browser.
    Unknown,
}

/// Returns the origin of a request. `host` is the name that the client used for this server, `secure` whether it is
/// known to have come over TLS.
pub fn request_origin(headers: &HeaderMap, host: Option<&str>, secure: bool) -> RequestOrigin {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("null"));
    // A page cannot set this field: the browser does.
    match text("sec-fetch-site") {
        Some("same-origin") => return RequestOrigin::SameOrigin,
        Some("none") => return RequestOrigin::UserInitiated,
        Some(_) => return RequestOrigin::CrossOrigin,
        None => {}
    }
    match (text(ORIGIN.as_str()), host) {
        (None, _) => RequestOrigin::Unknown,
        (Some(origin), Some(host)) if is_origin_of(origin, host, secure) => RequestOrigin::SameOrigin,
        (Some(_), _) => RequestOrigin::CrossOrigin,
    }
}

/// Whether `origin` (`https://example.org:8443`) is the origin of `host` (`example.org:8443`). A client that came over
/// TLS does not come from a page that was loaded over plain HTTP. The other way round is possible: a proxy may have
/// terminated TLS.
fn is_origin_of(origin: &str, host: &str, secure: bool) -> bool {
    let (port, authority) = match (origin.strip_prefix("http://"), origin.strip_prefix("https://")) {
        (Some(_), _) if secure => return false,
        (Some(authority), _) => (":80", authority),
        (_, Some(authority)) => (":443", authority),
        _ => return false,
    };
    let plain = |authority: &str| authority.strip_suffix(port).unwrap_or(authority).to_ascii_lowercase();
    !authority.is_empty() && plain(authority) == plain(host)
}

/// Returns the name that the client used for this server: from the request line (HTTP/2, absolute form), else from the
/// `Host` header.
pub fn host(parts: &Parts) -> Option<&str> {
    match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => parts.headers.get(HOST)?.to_str().ok(),
    }
}

/// Whether a request may change something, or opens a connection on which it may. Proxies that ask about a WebSocket do
/// not pass `Upgrade` on, but they do pass on the other fields of a WebSocket.
pub fn may_change_state(method: &Method, headers: &HeaderMap) -> bool {
    let opens = [UPGRADE, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION];
    !method.is_safe() || opens.iter().any(|name| headers.contains_key(name))
}

/// Refuses a change that only a cookie authenticates, unless a page of this host asked for it.
///
/// # Errors
/// [`Problem::Forbidden`].
pub fn check(headers: &HeaderMap, host: Option<&str>, secure: bool) -> Result<(), Problem> {
    if request_origin(headers, host, secure) == RequestOrigin::SameOrigin {
        return Ok(());
    }
    Err(Problem::Forbidden(
        "a cookie is not enough for a change that another site may have requested: send the token as Authorization: \
         Bearer, or send the request from a page of this host"
            .to_owned(),
    ))
}

/// Whether a browser asks for a page to show. A script of a page that asks for data does not.
pub fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    if ![Method::GET, Method::HEAD].contains(method) {
        return false;
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let html = text(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/html"));
    html && text("sec-fetch-mode").is_none_or(|mode| mode == "navigate")
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn of(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_browsers_own_word_comes_first_then_the_origin() {
        let host = Some("Example.org:8470");
        for (pairs, expected) in [
            (&[("sec-fetch-site", "same-origin"), ("origin", "null")][..], RequestOrigin::SameOrigin),
            (&[("sec-fetch-site", "same-site"), ("origin", "http://example.org:8470")], RequestOrigin::CrossOrigin),
            (&[("sec-fetch-site", "none")], RequestOrigin::UserInitiated),
            (&[("origin", "http://example.org:8470")], RequestOrigin::SameOrigin),
            (&[("origin", "http://example.org")], RequestOrigin::CrossOrigin),
            (&[("origin", "http://example.org:8470.evil.test")], RequestOrigin::CrossOrigin),
            (&[("origin", "null")], RequestOrigin::CrossOrigin),
            (&[("origin", "example.org:8470")], RequestOrigin::CrossOrigin),
            (&[], RequestOrigin::Unknown),
        ] {
            assert_eq!(request_origin(&of(pairs), host, false), expected, "{pairs:?}");
        }
        assert_eq!(
            request_origin(&of(&[("origin", "https://example.org")]), Some("example.org:443"), false),
            RequestOrigin::SameOrigin
        );
        assert_eq!(request_origin(&of(&[("origin", "http://")]), Some(""), false), RequestOrigin::CrossOrigin);
        assert_eq!(request_origin(&of(&[("origin", "http://a")]), None, false), RequestOrigin::CrossOrigin);
    }

    #[test]
    fn a_page_in_clear_is_another_sites_where_the_client_came_over_tls() {
        let (clear, tls) = (of(&[("origin", "http://a:8470")]), of(&[("origin", "https://a:8470")]));
        for (headers, secure, expected) in [
            (&clear, false, RequestOrigin::SameOrigin),
            (&clear, true, RequestOrigin::CrossOrigin),
            (&tls, true, RequestOrigin::SameOrigin),
            // A proxy in front terminated TLS.
            (&tls, false, RequestOrigin::SameOrigin),
        ] {
            assert_eq!(request_origin(headers, Some("a:8470"), secure), expected, "{headers:?}, over TLS: {secure}");
        }
        let concluded = of(&[("sec-fetch-site", "same-origin"), ("origin", "http://a")]);
        assert_eq!(request_origin(&concluded, Some("a"), true), RequestOrigin::SameOrigin);
    }

    #[test]
    fn only_a_page_of_ours_may_change_with_a_cookie() {
        assert!(check(&of(&[("sec-fetch-site", "cross-site")]), Some("a"), false).is_err());
        assert!(check(&of(&[]), Some("a"), false).is_err());
        assert!(check(&of(&[("origin", "https://a")]), Some("a"), false).is_ok());
        assert!(!may_change_state(&Method::GET, &of(&[])) && may_change_state(&Method::DELETE, &of(&[])));
        for opens in ["upgrade", "sec-websocket-key", "sec-websocket-version"] {
            assert!(may_change_state(&Method::GET, &of(&[(opens, "websocket")])), "{opens}");
        }
    }
}
