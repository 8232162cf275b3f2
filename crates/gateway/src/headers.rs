//! Which headers go through: what a client may not say of itself is removed, what belongs to one connection stays on
//! it, and what the upstream is to know is set.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderName, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};
use tenure_domain::Session;

use crate::credential::{is_token_cookie, is_token_protocol, is_token_scheme};
use crate::options::{Options, Profile};
use crate::peer::{Connection, Peer, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

pub(crate) const X_TENURE_SESSION: HeaderName = HeaderName::from_static("x-tenure-session");
pub(crate) const X_TENURE_DEVICE: HeaderName = HeaderName::from_static("x-tenure-device");
/// Tells a client that its token should be rotated now.
pub(crate) const TENURE_ROTATE: HeaderName = HeaderName::from_static("tenure-rotate");

/// Headers that say who the client is, by their names and the names' beginnings. Only the gateway says that.
const IDENTITY: &[&str] = &[
    "remote-user",
    "remote-name",
    "remote-email",
    "remote-groups",
    "x-remote-user",
    "x-remote-email",
    "x-remote-group",
    "x-remote-groups",
    "x-user",
    "x-user-id",
    "x-username",
    "x-authenticated-user",
    "x-forwarded-user",
    "x-forwarded-groups",
    "x-forwarded-email",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
];
const IDENTITY_PREFIXES: &[&str] = &[
    "x-tenure-",
    "x-auth-request-",
    "x-authentik-",
    "x-remote-extra-",
    "x-webauth-",
    "tailscale-user-",
    "cf-access-",
    "x-goog-authenticated-user-",
    "x-goog-iap-",
    "x-ms-client-principal",
];

/// Headers in which proxies say where a request came from. Believed of trusted ones only.
const FORWARDING: &[&str] = &[
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-for",
    "x-original-host",
    "x-original-method",
    "x-original-proto",
    "x-original-uri",
    "x-original-url",
    "x-rewrite-url",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
];
const FORWARDING_PREFIX: &str = "x-forwarded-";

/// Headers of one connection: RFC 9110 section 7.6.1, and those that old software sends besides.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    http::header::PROXY_AUTHORIZATION,
    http::header::TE,
    http::header::TRAILER,
    http::header::TRANSFER_ENCODING,
    http::header::UPGRADE,
];

/// What becomes of a header of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Passes,
    Identity,
    Forwarding,
}

fn fate(name: &HeaderName, options: &Options) -> Fate {
    // Servers that follow CGI take `_` for `-`.
    let text = name.as_str();
    let text = if text.contains('_') { Cow::Owned(text.replace('_', "-")) } else { Cow::Borrowed(text) };
    let text = text.as_ref();
    let starts = |prefix: &&str| text.starts_with(*prefix);
    if text == options.user_header.as_str() || IDENTITY.contains(&text) || IDENTITY_PREFIXES.iter().any(starts) {
        return Fate::Identity;
    }
    if text.starts_with(FORWARDING_PREFIX) || FORWARDING.contains(&text) {
        return Fate::Forwarding;
    }
    // A twin of what the gateway reads or sets itself.
    let twin = name.as_str() != text
        && (["authorization", "cookie", "host", "x-request-id"].contains(&text) || is_upstream_auth(text, options));
    if twin { Fate::Identity } else { Fate::Passes }
}

fn is_upstream_auth(text: &str, options: &Options) -> bool {
    options.upstream_auth.as_ref().is_some_and(|auth| auth.header.as_str() == text)
}

/// Removes what a client may not say: identity, whoever it comes from; forwarding, unless a trusted proxy says it.
pub(crate) fn strip_claims(headers: &mut HeaderMap, trusted: bool, options: &Options) {
    let doomed = |name: &&HeaderName| match fate(name, options) {
        Fate::Passes => false,
        Fate::Identity => true,
        Fate::Forwarding => !trusted,
    };
    // Nothing is copied where nothing is to go, as with most requests.
    let doomed: Vec<HeaderName> = headers.keys().filter(doomed).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Removes what belongs to the connection that the message came by. The names that `Connection` lists go too.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| HeaderName::try_from(name.trim()).ok())
            .collect();
        for name in listed {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Removes a Tenure token wherever it stands, and leaves what stands beside it.
pub(crate) fn strip_token(headers: &mut HeaderMap) {
    if headers.get_all(AUTHORIZATION).iter().any(is_token_scheme) {
        headers.remove(AUTHORIZATION);
    }
    strip_items(headers, &COOKIE, ';', "; ", is_token_cookie);
    strip_items(headers, &SEC_WEBSOCKET_PROTOCOL, ',', ", ", is_token_protocol);
}

/// Removes the items of a list header for which `doomed` holds. A header whose items all go, goes.
fn strip_items(headers: &mut HeaderMap, name: &HeaderName, split: char, join: &str, doomed: fn(&str) -> bool) {
    let is_hit = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.split(split).any(doomed));
    if !headers.get_all(name).iter().any(is_hit) {
        return;
    }
    let values: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
    headers.remove(name);
    for value in values {
        let Ok(text) = value.to_str() else {
            headers.append(name.clone(), value);
            continue;
        };
        let left: Vec<&str> = text.split(split).map(str::trim).filter(|item| !doomed(item)).collect();
        if let Some(left) = HeaderValue::try_from(left.join(join)).ok().filter(|left| !left.is_empty()) {
            headers.append(name.clone(), left);
        }
    }
}

/// Sets where the request came from. `X-Forwarded-For` begins with the client: what stands left of it in a chain is
/// the client's own invention.
pub(crate) fn set_forwarding(headers: &mut HeaderMap, connection: &Connection, peer: &Peer, options: &Options) {
    let mut chain = String::with_capacity(48);
    let _ = write!(chain, "{}", told(peer.address, options.profile));
    if peer.address != connection.remote() {
        let _ = write!(chain, ", {}", connection.remote());
    }
    if let Ok(chain) = HeaderValue::try_from(chain) {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(peer.scheme()));
    match peer.host.clone().or_else(|| headers.get(HOST).cloned()) {
        Some(host) => headers.insert(X_FORWARDED_HOST, host),
        None => headers.remove(X_FORWARDED_HOST),
    };
}

/// The address that the upstream is told for a client: OpenClaw refuses loopback ones.
fn told(address: IpAddr, profile: Option<Profile>) -> IpAddr {
    match profile {
        Some(Profile::OpenClaw { loopback_as }) if address.is_loopback() => loopback_as,
        _ => address,
    }
}

/// Says whose session it is.
pub(crate) fn set_identity(headers: &mut HeaderMap, session: &Session, options: &Options) {
    let mut set = |name: HeaderName, text: &str| {
        // A subject may have characters that no header carries as they are; bytes beyond ASCII pass.
        if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
            headers.insert(name, value);
        }
    };
    set(options.user_header.clone(), session.subject.as_str());
    set(X_TENURE_DEVICE, session.device.as_str());
    if let Ok(id) = HeaderValue::try_from(session.id.to_string()) {
        headers.insert(X_TENURE_SESSION, id);
    }
}

/// Sets what the upstream itself asks for.
pub(crate) fn set_upstream_auth(headers: &mut HeaderMap, options: &Options) {
    if let Some(auth) = &options.upstream_auth {
        headers.insert(auth.header.clone(), auth.value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SharedSecret, UpstreamAuth};

    fn options() -> Options {
        let mut options = Options::new(SharedSecret::new("x").unwrap());
        options.upstream_auth = Some(UpstreamAuth {
            header: HeaderName::from_static("x-api-key"),
            value: HeaderValue::from_static("static"),
        });
        options.user_header = HeaderName::from_static("x-who");
        options
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::try_from(*value).unwrap());
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    const CLAIMS: [&str; 13] = [
        "x-who",
        "x_who",
        "x-forwarded-user",
        "x_forwarded_user",
        "x-forwarded_groups",
        "x-tenure-session",
        "x_tenure_device",
        "x-tenure-anything",
        "x-auth-request-email",
        "remote-user",
        "remote_user",
        "x_api_key",
        "x_request_id",
    ];

    #[test]
    fn nobody_says_who_he_is() {
        for trusted in [false, true] {
            for claim in CLAIMS {
                let mut found = headers(&[("accept", "*/*")]);
                found.append(HeaderName::from_static(claim), HeaderValue::from_static("root"));
                strip_claims(&mut found, trusted, &options());
                assert_eq!(names(&found), ["accept"], "{claim}");
            }
        }
    }

    #[test]
    fn only_a_trusted_proxy_says_where_a_request_came_from() {
        let all = [("forwarded", "for=1.1.1.1"), ("x-real-ip", "1.1.1.1"), ("x_forwarded_for", "1.1.1.1")];
        let mut found = headers(&all);
        strip_claims(&mut found, false, &options());
        assert!(found.is_empty());
        let mut found = headers(&all);
        strip_claims(&mut found, true, &options());
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn what_is_of_one_connection_stays_on_it() {
        let mut found = headers(&[
            ("connection", "keep-alive, X-Secret-Hop"),
            ("connection", "close"),
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
        assert_eq!(names(&found), ["x-kept"]);
    }

    #[test]
    fn the_token_goes_and_what_stands_beside_it_stays() {
        let mut found = headers(&[
            ("authorization", "Bearer tnr_abc"),
            ("cookie", "a=1; __Host-tenure=tnr_abc; b=2"),
            ("cookie", "tenure=tnr_abc"),
            ("sec-websocket-protocol", "tenure.bearer.tnr_abc, chat"),
        ]);
        strip_token(&mut found);
        assert_eq!(names(&found), ["cookie", "sec-websocket-protocol"]);
        assert_eq!(found["cookie"], "a=1; b=2");
        assert_eq!(found.get_all("cookie").iter().count(), 1);
        assert_eq!(found["sec-websocket-protocol"], "chat");
        let others = headers(&[("authorization", "Basic YTpi"), ("cookie", "tenures=1")]);
        let mut found = others.clone();
        strip_token(&mut found);
        assert_eq!(found, others);
    }
}
