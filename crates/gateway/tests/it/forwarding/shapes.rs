//! One table of requests that servers read differently, odd or broken ones among them: what each comes to, and what of it
//! the upstream is asked.

use tenure_domain::Policy;

use crate::forwarding::claims::Recorder;
use crate::support::site::GatewayFixture;

/// What it is, the request, the status (0: no answer), and the upstream's request line (empty: it is not asked). `{A}` is
/// a token that holds, and `{C}` besides that has the connection closed.
const TABLE: [(&str, &str, u16, &str); 59] = [
    ("plain", "GET /x HTTP/1.1\r\nHost: a\r\n{C}\r\n", 204, "GET /x HTTP/1.1"),
    ("1.0", "GET /x HTTP/1.0\r\n{A}\r\n", 204, "GET /x HTTP/1.1"),
    ("0.9", "GET /x\r\n\r\n", 400, ""),
    ("1.2", "GET /x HTTP/1.2\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("2.0 as text", "GET /x HTTP/2.0\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("HTTP/2 in clear", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, ""),
    ("h2c", "GET /x HTTP/1.1\r\nHost: a\r\n{C}Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 204, "GET /x HTTP/1.1"),
    ("asterisk", "OPTIONS * HTTP/1.1\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("TRACE", "TRACE /x HTTP/1.1\r\nHost: a\r\n{C}\r\n", 405, ""),
    ("TRACK", "TRACK /x HTTP/1.1\r\nHost: a\r\n{C}\r\n", 405, ""),
    ("TRACE of a public path", "TRACE /public/ HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 405, ""),
    ("CONNECT", "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("odd method", "FOO#BAR /x HTTP/1.1\r\nHost: a\r\n{C}\r\n", 204, "FOO#BAR /x HTTP/1.1"),
    ("full URL", "GET https://b/x HTTP/1.1\r\nHost: a\r\n{C}\r\n", 204, "GET /x HTTP/1.1"),
    ("full URL without a path", "GET http://b HTTP/1.1\r\nHost: a\r\n{C}\r\n", 204, "GET / HTTP/1.1"),
    ("full URL with a query only", "GET http://b?x=1 HTTP/1.1\r\nHost: a\r\n{C}\r\n", 204, "GET /?x=1 HTTP/1.1"),
    ("full URL of another", "GET http://u@b/x HTTP/1.1\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("two slashes", "GET //evil/x HTTP/1.1\r\nHost: a\r\n{C}\r\n", 204, "GET //evil/x HTTP/1.1"),
    ("a URL in a path", "GET /http://evil/ HTTP/1.1\r\nHost: a\r\n{C}\r\n", 204, "GET /http://evil/ HTTP/1.1"),
    ("authority", "GET a:80 HTTP/1.1\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("no slash", "GET x HTTP/1.1\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("query only", "GET ?x HTTP/1.1\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("fragment", "GET /x#y HTTP/1.1\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("tabs", "GET\t/x\tHTTP/1.1\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("two spaces", "GET  /x HTTP/1.1\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("a space at the end", "GET /x HTTP/1.1 \r\nHost: a\r\n{C}\r\n", 400, ""),
    ("a space in the target", "GET /x y HTTP/1.1\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("empty lines before", "\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n{C}\r\n", 204, "GET /x HTTP/1.1"),
    ("a lone LF before", "\nGET /x HTTP/1.1\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("a tab around the host", "GET /x HTTP/1.1\r\nHost:\ta\t\r\n{C}\r\n", 204, "GET /x HTTP/1.1"),
    ("twins of the host", "GET /x HTTP/1.1\r\nHost: a\r\nHost_: b\r\nH.ost: c\r\n{C}\r\n", 204, "GET /x HTTP/1.1"),
    ("a host of octets", "GET /x HTTP/1.1\r\nHost: \u{e9}\r\n{C}\r\n", 400, ""),
    ("no name", "GET /x HTTP/1.1\r\nHost: a\r\n{C}: v\r\n\r\n", 400, ""),
    ("a bell", "GET /x HTTP/1.1\r\nHost: a\r\n{C}X-A: \u{7}\r\n\r\n", 400, ""),
    ("folded", "GET /x HTTP/1.1\r\nHost: a\r\n{C}X-A: b\r\n\tc\r\n\r\n", 400, ""),
    ("own path", "GET http://b/_tenure/auth HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 401, ""),
    ("own path, escaped", "GET /%5ftenure/auth HTTP/1.1\r\nHost: a\r\n{C}\r\n", 204, "GET /%5ftenure/auth HTTP/1.1"),
    ("coding after VT", "POST /x HTTP/1.1\r\nHost: a\r\n{C}Transfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n", 400, ""),
    ("coding, comma", "POST /x HTTP/1.1\r\nHost: a\r\n{C}Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n", 400, ""),
    ("coding, quoted", "POST /x HTTP/1.1\r\nHost: a\r\n{C}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", 400, ""),
    ("coding of 1.0", "POST /x HTTP/1.0\r\nHost: a\r\n{C}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ""),
    (
        "twin of the coding",
        "POST /x HTTP/1.1\r\nHost: a\r\n{C}Transfer_Encoding: chunked\r\n\r\n",
        204,
        "POST /x HTTP/1.1",
    ),
    ("twin of the length", "POST /x HTTP/1.1\r\nHost: a\r\n{C}Content_Length: 30\r\n\r\n", 204, "POST /x HTTP/1.1"),
    ("length 0x", "POST /x HTTP/1.1\r\nHost: a\r\n{C}Content-Length: 0x5\r\n\r\nhello", 400, ""),
    ("length of 2^64", "POST /x HTTP/1.1\r\nHost: a\r\n{C}Content-Length: 18446744073709551616\r\n\r\n", 400, ""),
    (
        "length named by Connection",
        "POST /x HTTP/1.1\r\nHost: a\r\n{C}Connection: content-length\r\nContent-Length: 0\r\n\r\n",
        204,
        "POST /x HTTP/1.1",
    ),
    (
        "coding named by Connection",
        "POST /x HTTP/1.1\r\nHost: a\r\n{C}Connection: transfer-encoding\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        204,
        "POST /x HTTP/1.1",
    ),
    (
        "trailer",
        "POST /x HTTP/1.1\r\nHost: a\r\n{C}Trailer: X-Forwarded-User\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Forwarded-User: root\r\n\r\n",
        204,
        "POST /x HTTP/1.1",
    ),
    (
        "expectation",
        "POST /x HTTP/1.1\r\nHost: a\r\n{C}Expect: 200-ok\r\nContent-Length: 0\r\n\r\n",
        204,
        "POST /x HTTP/1.1",
    ),
    (
        "claims on a public path",
        "GET /public/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX!Forwarded!User: root\r\nX-Tenure_Session: 1\r\nREMOTE_USER: r\r\nX^Real^IP: 1.1.1.1\r\n\r\n",
        204,
        "GET /public/x HTTP/1.1",
    ),
    (
        "another method",
        "GET /x HTTP/1.1\r\nHost: a\r\n{C}X-Method-Override: DELETE\r\nX_HTTP_Method: DELETE\r\n\r\n",
        204,
        "GET /x HTTP/1.1",
    ),
    (
        "identity as trailer of nothing",
        "GET /x HTTP/1.1\r\nHost: a\r\n{C}Trailer: X-Forwarded-User\r\n\r\n",
        204,
        "GET /x HTTP/1.1",
    ),
    ("Max-Forwards", "OPTIONS /x HTTP/1.1\r\nHost: a\r\n{C}Max-Forwards: 0\r\n\r\n", 204, "OPTIONS /x HTTP/1.1"),
    (
        "WebSocket without a key",
        "GET /x HTTP/1.1\r\nHost: a\r\n{C}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n",
        204,
        "GET /x HTTP/1.1",
    ),
    (
        "WebSocket by POST",
        "POST /x HTTP/1.1\r\nHost: a\r\n{C}Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nContent-Length: 0\r\n\r\n",
        204,
        "POST /x HTTP/1.1",
    ),
    ("no token", "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 401, ""),
    ("a token of 1.0 without a host", "GET /x HTTP/1.0\r\n\r\n", 401, ""),
    ("two hosts", "GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n{C}\r\n", 400, ""),
    ("no host", "GET /x HTTP/1.1\r\n{C}\r\n", 400, ""),
];

/// Fields that the upstream may see here; all others of the table are the gateway's to take away.
const KNOWN: [&str; 15] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "max-forwards",
    "sec-websocket-key",
    "sec-websocket-version",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-user",
    "x-request-id",
    "x-tenure-device",
    "x-tenure-session",
];

#[tokio::test]
async fn every_odd_request_comes_to_what_it_should_and_the_upstream_is_asked_one_sound_thing() {
    let upstream = Recorder::new().await;
    let site = GatewayFixture::with(Some(upstream.address), Policy::default(), |options| {
        options.public_paths = vec![tenure_tower::PublicPath("/public/".to_owned())];
    })
    .await;
    let (_, token) = site.issue("laptop").await;
    let shown = format!("Authorization: Bearer {token}\r\n");
    for (what, request, status, asked) in TABLE {
        let request = request.replace("{C}", "{A}Connection: close\r\n").replace("{A}", &shown);
        let answer = site.raw(&request).await;
        let found = answer.get(9..12).map_or(0, |status| status.parse().unwrap());
        assert_eq!(found, status, "{what}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), usize::from(status != 0), "{what}: {answer}");
        // The end of a chunked body comes after a head, and is none.
        let heads: Vec<_> = upstream.take().into_iter().filter(|head| head[0].contains(" HTTP/")).collect();
        let lines: Vec<_> = heads.iter().map(|head| head[0].as_str()).collect();
        assert_eq!(lines, Some(asked).filter(|asked| !asked.is_empty()).into_iter().collect::<Vec<_>>(), "{what}");
        for head in heads {
            let names: Vec<_> =
                head[1..].iter().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
            let count = |wanted: &str| names.iter().filter(|name| **name == wanted).count();
            assert!(names.iter().all(|name| KNOWN.contains(name)), "{what}: {head:?}");
            assert_eq!(count("host"), 1, "{what}: {head:?}");
            assert!(count("content-length") + count("transfer-encoding") <= 1, "{what}: {head:?}");
            let session = usize::from(!asked.contains("/public/"));
            assert_eq!((count("x-forwarded-user"), count("x-tenure-session")), (session, session), "{what}: {head:?}");
        }
    }
    site.stop().await;
}
