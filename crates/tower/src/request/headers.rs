//! The header fields that enforcement removes and sets. It removes the token. It sets where a request came from and
//! whose session it has.

use std::fmt::{Display, Write as _};

use bytes::BytesMut;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};
use tenure_domain::Session;

use super::cookie::CookieName;
use super::header_fields::{X_TENURE_DEVICE, X_TENURE_SESSION};
use super::list::split;
use super::peer::{Connection, Peer, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use super::presented_token::{is_token_cookie, is_token_protocol, is_token_scheme};
use crate::config::EnforcementConfig;

/// Removes a Tenure token from every place where it may be, and leaves the octets beside it unchanged. Cookies in
/// several fields, as HTTP/2 clients send them, become one field, because HTTP/1.1 allows only one (RFC 9113 section
/// 8.2.3).
pub fn strip_token(headers: &mut HeaderMap, name: &CookieName) {
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
                .map(|value| without_items(value.as_bytes(), b',', is_token_protocol))
                .collect();
            headers.remove(SEC_WEBSOCKET_PROTOCOL);
            for left in kept.iter().filter_map(|left| non_empty(left)) {
                headers.append(SEC_WEBSOCKET_PROTOCOL, left);
            }
        }
    }
}

fn strip_cookies(headers: &mut HeaderMap, name: &CookieName) {
    let remove = |item: &[u8]| is_token_cookie(item, name);
    let mut values = headers.get_all(COOKIE).iter();
    let Some(first) = values.next() else { return };
    if values.next().is_none() && !split(first.as_bytes(), b';').any(remove) {
        return;
    }
    let mut whole = Vec::new();
    for value in headers.get_all(COOKIE) {
        let left = without_items(value.as_bytes(), b';', remove);
        if !left.is_empty() && !whole.is_empty() {
            whole.extend_from_slice(b"; ");
        }
        whole.extend_from_slice(&left);
    }
    match non_empty(&whole) {
        Some(left) => headers.insert(COOKIE, left),
        None => headers.remove(COOKIE),
    };
}

/// Returns a list without the items that `remove` selects.
fn without_items(value: &[u8], separator: u8, remove: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let kept: Vec<&[u8]> = split(value, separator).filter(|item| !remove(item)).collect();
    kept.join(&separator).trim_ascii().to_vec()
}

/// Returns a header value unless it is empty.
fn non_empty(value: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value).ok().filter(|value| !value.is_empty())
}

/// Makes values of header fields in one allocation, which they and their clones share.
pub struct HeaderValues(BytesMut);

impl Default for HeaderValues {
    /// Makes room for what a gateway tells of one request: 256 bytes.
    fn default() -> Self {
        Self(BytesMut::with_capacity(256))
    }
}

impl HeaderValues {
    /// Returns a text as a header value. `None` if it has characters that no header may contain; bytes beyond ASCII are
    /// allowed.
    pub fn of(&mut self, text: impl Display) -> Option<HeaderValue> {
        write!(self.0, "{text}").ok()?;
        HeaderValue::from_maybe_shared(self.0.split().freeze()).ok()
    }
}

/// Sets where the request came from. `X-Forwarded-For` begins with the client: anything to the left of it in a chain
/// could have been made up by the client.
pub fn set_forwarding(
    headers: &mut HeaderMap,
    connection: &Connection,
    peer: &Peer,
    config: &EnforcementConfig,
    values: &mut HeaderValues,
) {
    let (client, proxy) = (config.reported_address(peer.address), connection.remote());
    let chain = if peer.address == proxy { values.of(client) } else { values.of(format_args!("{client}, {proxy}")) };
    if let Some(chain) = chain {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(peer.scheme()));
    if let Some(host) = &peer.host {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
}

/// Sets whose session the request has.
pub fn set_identity(headers: &mut HeaderMap, session: &Session, user_header: &HeaderName, values: &mut HeaderValues) {
    let fields = [
        (user_header.clone(), values.of(session.subject.as_str())),
        (X_TENURE_DEVICE, values.of(session.device.as_str())),
        (X_TENURE_SESSION, values.of(session.id)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            headers.insert(name, value);
        }
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
