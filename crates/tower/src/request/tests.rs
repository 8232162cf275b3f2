//! Which requests ask for a WebSocket.

use http::HeaderValue;

use super::*;

fn request(method: Method, version: Version, pairs: &[(&'static str, &'static str)]) -> Request<()> {
    let mut request = Request::builder().method(method).version(version).body(()).unwrap();
    let pair = |(name, value): &(&'static str, &'static str)| (name.parse().unwrap(), HeaderValue::from_static(value));
    *request.headers_mut() = pairs.iter().map(pair).collect();
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
    let asks =
        |pairs: &[(&'static str, &'static str)]| is_websocket_request(&request(Method::GET, Version::HTTP_11, pairs));
    assert!(asks(&all));
    assert!(!is_websocket_request(&request(Method::POST, Version::HTTP_11, &all)));
    for version in [Version::HTTP_10, Version::HTTP_2] {
        assert!(!is_websocket_request(&request(Method::GET, version, &all)), "{version:?}");
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
    assert!(is_websocket_request(&unreadable), "what cannot be read hides nothing beside it");
}
