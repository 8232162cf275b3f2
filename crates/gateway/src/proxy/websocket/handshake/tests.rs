//! Handshakes as headers.

use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| ((*name).parse().unwrap(), HeaderValue::from_static(value))).collect()
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
