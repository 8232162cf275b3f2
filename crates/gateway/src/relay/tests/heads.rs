//! Handshakes as headers.

use super::super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value))).collect()
}

#[test]
fn only_a_websocket_handshake_is_one() {
    let all = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];
    assert!(is_upgrade(&Method::GET, &headers(&all)));
    assert!(!is_upgrade(&Method::POST, &headers(&all)));
    for missing in 0..all.len() {
        let mut some = all.to_vec();
        some.remove(missing);
        assert!(!is_upgrade(&Method::GET, &headers(&some)), "without {:?}", all[missing]);
    }
    let mut other = all;
    other[1].1 = "h2c";
    assert!(!is_upgrade(&Method::GET, &headers(&other)));
}

#[test]
fn the_gateways_own_subprotocol_goes_no_further() {
    let mut found = headers(&[("sec-websocket-protocol", "tenure, chat")]);
    assert!(take_own_protocol(&mut found));
    assert_eq!(found[SEC_WEBSOCKET_PROTOCOL], "chat");
    let mut found = headers(&[("sec-websocket-protocol", "tenure")]);
    assert!(take_own_protocol(&mut found));
    assert!(found.is_empty());
    let mut found = headers(&[("sec-websocket-protocol", "chat, tenures")]);
    assert!(!take_own_protocol(&mut found));
    assert_eq!(found[SEC_WEBSOCKET_PROTOCOL], "chat, tenures");
}
