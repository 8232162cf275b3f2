//! Which headers go through: what belongs to one connection stays on it, the token goes no further, and what the upstream
//! is to know is set. What a client may not say is in `fields`.

use std::fmt::{Display, Write as _};
use std::net::IpAddr;

use bytes::BytesMut;
use http::header::{AUTHORIZATION, CONNECTION, COOKIE, HOST, HeaderName, SEC_WEBSOCKET_PROTOCOL};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue};
use tenure_domain::Session;

use crate::cookie::CookieName;
use crate::credential::{is_token_cookie, is_token_protocol, is_token_scheme, split};
use crate::fields::{HOP_BY_HOP, NEVER_OF_ONE_CONNECTION, X_TENURE_DEVICE, X_TENURE_SESSION, remove_fields};
use crate::options::{Options, Profile};
use crate::peer::{Connection, Peer, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};

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

/// Removes a Tenure token wherever it stands, and leaves the octets beside it as they are. Cookies that came in several
/// fields, as HTTP/2 clients send them, become one, which is all that HTTP/1.1 knows (RFC 9113 section 8.2.3).
pub(crate) fn strip_token(headers: &mut HeaderMap, name: &CookieName) {
    if headers.get_all(AUTHORIZATION).iter().any(is_token_scheme) {
        headers.remove(AUTHORIZATION);
    }
    strip_cookies(headers, name);
    if headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        let hit = |value: &HeaderValue| split(value.as_bytes(), b',').any(is_token_protocol);
        if headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().any(hit) {
            let kept: Vec<_> = headers
                .get_all(SEC_WEBSOCKET_PROTOCOL)
                .iter()
                .map(|value| without(value.as_bytes(), b',', is_token_protocol))
                .collect();
            headers.remove(SEC_WEBSOCKET_PROTOCOL);
            for left in kept.iter().filter_map(|left| header(left)) {
                headers.append(SEC_WEBSOCKET_PROTOCOL, left);
            }
        }
    }
}

fn strip_cookies(headers: &mut HeaderMap, name: &CookieName) {
    let doomed = |item: &[u8]| is_token_cookie(item, name);
    let mut values = headers.get_all(COOKIE).iter();
    let Some(first) = values.next() else { return };
    if values.next().is_none() && !split(first.as_bytes(), b';').any(doomed) {
        return;
    }
    let mut whole = Vec::new();
    for value in headers.get_all(COOKIE) {
        let left = without(value.as_bytes(), b';', doomed);
        if !left.is_empty() && !whole.is_empty() {
            whole.extend_from_slice(b"; ");
        }
        whole.extend_from_slice(&left);
    }
    match header(&whole) {
        Some(left) => headers.insert(COOKIE, left),
        None => headers.remove(COOKIE),
    };
}

/// A list without the items for which `doomed` holds.
fn without(value: &[u8], separator: u8, doomed: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let kept: Vec<&[u8]> = split(value, separator).filter(|item| !doomed(item)).collect();
    kept.join(&separator).trim_ascii().to_vec()
}

/// The value of a header, where it has any.
fn header(value: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value).ok().filter(|value| !value.is_empty())
}

/// Makes values of fields in one allocation, which they share, and their clones too.
pub(crate) struct Values(BytesMut);

impl Values {
    /// With room for what the gateway tells of a request.
    pub(crate) fn new() -> Self {
        Self(BytesMut::with_capacity(256))
    }

    /// A text as a value; `None` where it has characters that no header carries. Bytes beyond ASCII pass.
    pub(crate) fn of(&mut self, text: impl Display) -> Option<HeaderValue> {
        write!(self.0, "{text}").ok()?;
        HeaderValue::from_maybe_shared(self.0.split().freeze()).ok()
    }
}

/// Sets where the request came from. `X-Forwarded-For` begins with the client: what stands left of it in a chain is
/// the client's own invention.
pub(crate) fn set_forwarding(
    headers: &mut HeaderMap,
    connection: &Connection,
    peer: &Peer,
    options: &Options,
    values: &mut Values,
) {
    let (client, proxy) = (told(peer.address, options.profile), connection.remote());
    let chain = if peer.address == proxy { values.of(client) } else { values.of(format_args!("{client}, {proxy}")) };
    if let Some(chain) = chain {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(peer.scheme()));
    if let Some(host) = &peer.host {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
}

/// Sees to it that there is a host: the client's, or the upstream's own where it named none.
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

/// The address that the upstream is told for a client: OpenClaw refuses loopback ones.
fn told(address: IpAddr, profile: Option<Profile>) -> IpAddr {
    match profile {
        Some(Profile::OpenClaw { loopback_as }) if address.is_loopback() => loopback_as,
        _ => address,
    }
}

/// Says whose session it is.
pub(crate) fn set_identity(headers: &mut HeaderMap, session: &Session, options: &Options, values: &mut Values) {
    let told = [
        (options.user_header.clone(), values.of(session.subject.as_str())),
        (X_TENURE_DEVICE, values.of(session.device.as_str())),
        (X_TENURE_SESSION, values.of(session.id)),
    ];
    for (name, value) in told {
        if let Some(value) = value {
            headers.insert(name, value);
        }
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

    fn octets(pairs: &[(HeaderName, &[u8])]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    fn stripped(mut headers: HeaderMap) -> HeaderMap {
        strip_token(&mut headers, &CookieName::default());
        headers
    }

    #[test]
    fn the_token_goes_and_what_stands_beside_it_stays() {
        let found = stripped(headers(&[
            ("authorization", "Bearer tnr_abc"),
            ("cookie", "a=1; __Host-tenure=tnr_abc; b=2"),
            ("cookie", "tenure=tnr_abc"),
            ("sec-websocket-protocol", "tenure.bearer.tnr_abc, chat"),
        ]));
        assert_eq!(names(&found), ["cookie", "sec-websocket-protocol"]);
        assert_eq!(found["cookie"], "a=1; b=2");
        assert_eq!(found.get_all("cookie").iter().count(), 1);
        assert_eq!(found["sec-websocket-protocol"], "chat");
        let others = headers(&[("authorization", "Basic YTpi"), ("cookie", "tenures=1")]);
        assert_eq!(stripped(others.clone()), others);
    }

    #[test]
    fn octets_beside_a_token_stay_as_they_are() {
        for (before, after) in [
            (&b"a=\xff; tenure=x; b=\"1;2\""[..], &b"a=\xff; b=\"1;2\""[..]),
            (b"tenure =x;a=1;", b"a=1;"),
            (b"Tenure=\"x\"; __HOST-TENURE=x; \xc3\xa9=1", b"\xc3\xa9=1"),
            (b"tenure=x; tenure=\xff;", b""),
            (b"\xff", b"\xff"),
        ] {
            let found = stripped(octets(&[(COOKIE, before)]));
            let left = found.get(COOKIE).map_or(&b""[..], HeaderValue::as_bytes);
            assert_eq!(left, after, "{}", String::from_utf8_lossy(before));
        }
        let found = stripped(octets(&[(SEC_WEBSOCKET_PROTOCOL, b"ch\xe9t,tenure.bearer.x,Tenure.Bearer.y,z")]));
        assert_eq!(found[SEC_WEBSOCKET_PROTOCOL].as_bytes(), b"ch\xe9t,z");
    }

    #[test]
    fn cookies_in_several_fields_become_one() {
        let found =
            stripped(octets(&[(COOKIE, b"a=1"), (COOKIE, b"b=\xff"), (COOKIE, b"tenure=x"), (COOKIE, b"c=\"2;3\"")]));
        let all: Vec<&[u8]> = found.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(all, [b"a=1; b=\xff; c=\"2;3\""]);
        assert!(stripped(octets(&[(COOKIE, b"tenure=x"), (COOKIE, b"__Host-tenure=y")])).is_empty());
    }
}
