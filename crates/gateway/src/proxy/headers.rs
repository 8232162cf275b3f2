//! Header fields of the request to the upstream: what belongs to one connection stays on it, and the upstream's host and
//! secret are set.

use http::header::{CONNECTION, HOST, HeaderName};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};

use crate::options::Options;
use tenure_tower::request::header_fields::{HOP_BY_HOP, NEVER_OF_ONE_CONNECTION, remove_fields};
use tenure_tower::request::list::split;

/// Removes what belongs to the connection that the message came by. The names that `Connection` lists go too.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| split(value.as_bytes(), b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .filter(|name| !NEVER_OF_ONE_CONNECTION.contains(name))
            .collect();
        for name in listed {
            headers.remove(name);
        }
    }
    remove_fields(headers, |name| HOP_BY_HOP.contains(name));
}

/// Sets the host to the upstream's own if the client named none.
pub(crate) fn set_host(headers: &mut HeaderMap, upstream: &Authority) {
    if headers.contains_key(HOST) {
        return;
    }
    let authority = upstream.as_str();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if let Ok(host) = HeaderValue::try_from(host) {
        headers.insert(HOST, host);
    }
}

/// Sets the upstream's own secret.
pub(crate) fn set_upstream_auth(headers: &mut HeaderMap, options: &Options) {
    if let Some(auth) = &options.upstream_auth {
        headers.insert(auth.header.clone(), auth.value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_of_one_connection_stays_on_it() {
        let mut found = headers(&[
            ("connection", "keep-alive, X-Secret-Hop"),
            ("connection", "\u{e9}, x-other-hop"),
            ("connection", "close, Host"),
            ("host", "a"),
            ("x-other-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("trailer", "x-late"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-connection", "close"),
            ("proxy-authorization", "Basic YTpi"),
            ("x-secret-hop", "1"),
            ("x-kept", "1"),
        ]);
        strip_hop_by_hop(&mut found);
        assert_eq!(names(&found), ["host", "x-kept"]);
    }
}
