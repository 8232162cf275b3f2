//! Handshakes as headers.

use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value))).collect()
}

fn request(method: Method, version: Version, pairs: &[(&'static str, &'static str)]) -> Request<()> {
    let mut request = Request::builder().method(method).version(version).body(()).unwrap();
    *request.headers_mut() = headers(pairs);
    request
}

#[test]
fn only_a_websocket_handshake_is_one() {
    let all = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    let asks = |pairs: &[(&'static str, &'static str)]| is_upgrade(&request(Method::GET, Version::HTTP_11, pairs));
    assert!(asks(&all));
    assert!(!is_upgrade(&request(Method::POST, Version::HTTP_11, &all)));
    for version in [Version::HTTP_10, Version::HTTP_2] {
        assert!(!is_upgrade(&request(Method::GET, version, &all)), "{version:?}");
    }
    for missing in 0..all.len() {
        let mut some = all.to_vec();
        some.remove(missing);
        assert!(!asks(&some), "without {:?}", all[missing]);
    }
    for (value, is_one) in [("h2c", false), ("websockets", false), ("h2c, websocket", true), (" websocket ,", true)] {
        let mut other = all;
        other[1].1 = value;
        assert_eq!(asks(&other), is_one, "{value}");
    }
    let mut unreadable = request(Method::GET, Version::HTTP_11, &all);
    unreadable.headers_mut().insert(UPGRADE, HeaderValue::from_bytes(b"\xff, websocket").unwrap());
    assert!(is_upgrade(&unreadable), "what cannot be read hides nothing beside it");
}

#[test]
fn the_gateways_own_subprotocol_goes_no_further() {
    let mut found = headers(&[("sec-websocket-protocol", "tenure, chat")]);
    assert!(remove_own_protocol(&mut found));
    assert_eq!(found[SEC_WEBSOCKET_PROTOCOL], "chat");
    let mut found = headers(&[("sec-websocket-protocol", "tenure")]);
    assert!(remove_own_protocol(&mut found));
    assert!(found.is_empty());
    let mut found = headers(&[("sec-websocket-protocol", "chat, tenures")]);
    assert!(!remove_own_protocol(&mut found));
    assert_eq!(found[SEC_WEBSOCKET_PROTOCOL], "chat, tenures");
    let octets = |text: &[u8]| HeaderMap::from_iter([(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_bytes(text).unwrap())]);
    let mut found = octets(b"ch\xe9t, tenure");
    assert!(remove_own_protocol(&mut found));
    assert_eq!(found, octets(b"ch\xe9t"));
}
