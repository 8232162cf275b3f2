//! What passes the real proxies with the files of docs/forward-auth, octet by octet, and what their clients are told.

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::any;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tenure_domain::{ClientInfo, DeviceId, Policy, Subject};
use tenure_service::IssueRequest;
use tenure_tower::PublicPath;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::programs::{Other, Program};
use crate::support::site::{GatewayFixture, TEST_TIMEOUT, send, serve};
use crate::support::witness::{Witness, ask, with_token};

const BEARER: &[u8] = b"Authorization: Bearer {T}";
const COOKIE: &[u8] = b"Cookie: tenure={T}";
const SOCKET: &[u8] = b"Upgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// What a client sends, and what of it the app gets: the end of a line of its header.
const PASSES: &[(&[&[u8]], &[u8])] = &[
    (&[BEARER, b"Cookie: a=1; b=\"2 3\"; c="], b": a=1; b=\"2 3\"; c="),
    (&[BEARER, b"Cookie: name=J\xc3\xb6rg; tenure={T}; b=\xff"], b": name=J\xc3\xb6rg; b=\xff"),
    (&[BEARER, b"Cookie: a=1; tenure={T}; b=2; __Host-tenure={T}"], b": a=1; b=2"),
    (&[BEARER, b"Cookie: tenure={T}; a=1"], b": a=1"),
    (&[BEARER, b"Cookie: tenured=1; not-tenure=2; tenure={T}"], b": tenured=1; not-tenure=2"),
    (&[COOKIE, b"Authorization: Basic YTpi"], b": Basic YTpi"),
    (&[COOKIE, b"Authorization: Bearer eyJhbGciOi"], b": Bearer eyJhbGciOi"),
    (&[b"Sec-WebSocket-Protocol: tenure.bearer.{T}, chat, b", SOCKET], b": chat, b"),
    (&[b"Sec-WebSocket-Protocol: chat, tenure.bearer.{T}, b", SOCKET], b": chat, b"),
    (&[b"Sec-WebSocket-Protocol: chat, tenure.bearer.{T}", SOCKET], b": chat"),
    (&[BEARER, b"Sec-WebSocket-Protocol: chat, b", SOCKET], b": chat, b"),
    (&[BEARER, b"X-Own: a_b.c, \"d\""], b": a_b.c, \"d\""),
];

/// With Traefik only a header in which no token can stand passes, and a list of subprotocols without one.
const PASSES_TRAEFIK: usize = 2;

async fn site() -> GatewayFixture {
    GatewayFixture::with(None, Policy::default(), |options| {
        options.public_paths = vec![PublicPath("/open/".to_owned())];
        options.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await
}

fn request(method: &str, fields: &[&[u8]], token: &str) -> Vec<u8> {
    let mut request = format!("{method} /a HTTP/1.1\r\nHost: tenure.test\r\n").into_bytes();
    for field in fields {
        request.extend(with_token(field, token));
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

fn contains(whole: &[u8], part: &[u8]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

async fn passes_what_is_the_apps(program: Program) {
    let (site, app) = (site().await, Witness::default());
    let other = Other::start(program, site.address, app.start().await).await;
    let (_, token) = site.issue("laptop").await;
    let skipped = if program == Program::Traefik { PASSES.len() - PASSES_TRAEFIK } else { 0 };
    for (fields, left) in &PASSES[skipped..] {
        let (status, _) = ask(other.address, &request("GET", fields, &token)).await;
        let heads = app.take();
        let fields: Vec<_> = fields.iter().map(|field| field.escape_ascii().to_string()).collect();
        assert_eq!(heads.len(), 1, "{program:?} {fields:?}: {status}");
        let line = [left, &b"\r\n"[..]].concat();
        assert!(contains(&heads[0], &line), "{program:?} {fields:?}: {}", heads[0].escape_ascii());
        let opens = fields.iter().any(|field| field.contains("Upgrade"));
        assert_eq!(status, if opens { 101 } else { 200 }, "{program:?} {fields:?}");
    }
    drop(other);
    site.stop().await;
}

/// What Tenure says besides 401 arrives as what it is, and nobody is let in when it says nothing.
async fn tells_what_is_the_matter(program: Program) {
    let (site, app) = (site().await, Witness::default());
    let other = Other::start(program, site.address, app.start().await).await;
    let ((_, one), (_, two)) = (site.issue("laptop").await, site.issue("phone").await);
    let differing = [BEARER, &*with_token(COOKIE, &two)];
    let (status, _) = ask(other.address, &request("GET", &differing, &one)).await;
    assert_eq!(status, 400, "{program:?}: two tokens");
    let foreign = [COOKIE, b"Origin: http://evil.test", b"Content-Length: 0"];
    let (status, _) = ask(other.address, &request("POST", &foreign, &one)).await;
    assert_eq!(status, 403, "{program:?}: another site");

    // An upload that is refused can read why.
    let mut upload = request("POST", &[b"Content-Length: 900000"], "");
    upload.resize(upload.len() + 900_000, b'x');
    let (status, head) = ask(other.address, &upload).await;
    assert!(status == 401 && head.to_ascii_lowercase().contains("www-authenticate: bearer"), "{program:?}: {head}");

    let mut guesses = 0;
    let head = loop {
        // Each a secret that never was.
        guesses += 1;
        let guess = format!("{}{guesses:03}", &one[..one.len() - 3]);
        let (status, head) = ask(other.address, &request("GET", &[BEARER], &guess)).await;
        if status == 429 {
            break head;
        }
        assert!(status == 401 && guesses < 100, "{program:?}: {head}");
    };
    assert!(head.to_ascii_lowercase().contains("\r\nretry-after: "), "{program:?}: {head}");
    assert!(app.take().is_empty(), "{program:?}");
    let (status, _) = ask(other.address, &request("GET", &[BEARER], &one)).await;
    assert_eq!((status, app.take().len()), (200, 1), "{program:?}: a token that holds");

    site.stop().await;
    let (status, head) = ask(other.address, &request("GET", &[BEARER], &one)).await;
    assert!(status >= 500 && app.take().is_empty(), "{program:?}: {head}");
    if matches!(program, Program::Nginx | Program::Envoy) {
        assert_eq!(status, 503, "{program:?}: {head}");
    }
}

/// A request over HTTP/2 with these fields besides its token.
async fn ask_http2(other: &Other, path: &str, fields: &[(&'static str, String)]) -> u16 {
    let io = TokioIo::new(TcpStream::connect(other.http2).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    let mut request = http::Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = format!("http://tenure.test{path}").parse().unwrap();
    *request.headers_mut() = headers;
    let status = sender.send_request(request).await.unwrap().status().as_u16();
    connection.abort();
    status
}

/// Clients of HTTP/2, who send each cookie by itself, and those of HTTP/1.0, who may name no host.
async fn knows_other_versions(program: Program) {
    let (site, app) = (site().await, Witness::default());
    let other = Other::start(program, site.address, app.start().await).await;
    let (_, token) = site.issue("laptop").await;
    let cookies = ["a=1", &*format!("tenure={token}"), "b=2", &*format!("tenure={token}")];
    let crumbs: Vec<_> = cookies.map(|cookie| ("cookie", cookie.to_owned())).into();
    assert_eq!(ask_http2(&other, "/a", &crumbs).await, 200, "{program:?}");
    let head = app.take().pop().unwrap();
    assert!(!contains(&head, b"tnr_") && contains(&head, b": alice\r\n"), "{program:?}: {}", head.escape_ascii());
    // One field, as HTTP/1.1 knows but one.
    let left = contains(&head, b": a=1; b=2\r\n");
    assert_eq!(left, program != Program::Traefik, "{program:?}: {}", head.escape_ascii());

    let claims = [
        ("authorization", format!("Bearer {token}")),
        ("x-forwarded-user", "root".to_owned()),
        ("x_forwarded_user", "root".to_owned()),
        ("x.forwarded.user", "root".to_owned()),
    ];
    let status = ask_http2(&other, "/a", &claims).await;
    let heads = app.take();
    assert_eq!((status, heads.len()), (200, 1), "{program:?}");
    assert!(!contains(&heads[0], b"root"), "{program:?}: {}", heads[0].escape_ascii());
    assert_eq!(ask_http2(&other, "/open/../a", &[]).await, 401, "{program:?}");
    assert_eq!(ask_http2(&other, "/a", &[]).await, 401, "{program:?}");
    assert!(app.take().is_empty(), "{program:?}");

    let old = format!("GET /a HTTP/1.0\r\nAuthorization: Bearer {token}\r\n\r\n");
    let (status, _) = ask(other.address, old.as_bytes()).await;
    // Envoy wants another version.
    let expected = if program == Program::Envoy { (426, 0) } else { (200, 1) };
    assert_eq!((status, app.take().len()), expected, "{program:?}");
    drop(other);
    site.stop().await;
}

/// A socket of a page of this host, bodies of both kinds, a stream, and requests one behind the other.
async fn serves_pages(program: Program) {
    let (site, app) = (site().await, Witness::default());
    let other = Other::start(program, site.address, app.start().await).await;
    let (_, token) = site.issue("laptop").await;
    let own = [COOKIE, b"Origin: http://tenure.test", SOCKET];
    let (status, head) = ask(other.address, &request("GET", &own, &token)).await;
    assert_eq!((status, app.take().len()), (101, 1), "{program:?}: {head}");
    let pair = [request("GET", &[BEARER], &token), request("GET", &[b"Connection: close"], "")].concat();
    let answers = send(other.address, std::str::from_utf8(&pair).unwrap()).await;
    let both = answers.contains("HTTP/1.1 200") && answers.contains("HTTP/1.1 401");
    assert!(both && app.take().len() == 1, "{program:?}: {answers}");
    drop(other);

    let streams = Router::new().fallback(any(async |request: Request| {
        // Read to its end first: Go's servers do not read on once an answer has begun.
        let event = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        let body = Body::from_stream(stream::iter([event]).chain(stream::pending()));
        ([("content-type", "text/event-stream")], body)
    }));
    let other = Other::start(program, site.address, serve(streams).await).await;
    for (framing, body) in [
        (&b"Content-Length: 13"[..], &b"data: hello\n\n"[..]),
        (b"Transfer-Encoding: chunked", b"6\r\ndata: \r\n7\r\nhello\n\n\r\n0\r\n\r\n"),
    ] {
        let mut stream = TcpStream::connect(other.address).await.unwrap();
        stream.write_all(&request("POST", &[BEARER, framing], &token)).await.unwrap();
        stream.write_all(body).await.unwrap();
        // The answer does not end.
        let mut answer = Vec::new();
        let read = async {
            while !contains(&answer, b"hello\n\n") {
                assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{program:?}: {}", answer.escape_ascii());
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, read).await.expect("an event");
    }
    drop(other);
    site.stop().await;
}

/// From a page without a session to the login page and back, as a browser goes.
async fn logs_a_person_in(program: Program) {
    let (site, app) = (site().await, Witness::default());
    let other = Other::start(program, site.address, app.start().await).await;
    // Nothing in a name is a placeholder to anybody.
    let subject = "J\u{f6}rg {http.request.uri} $host %REQ(:path)%";
    let asked = IssueRequest {
        device: DeviceId::new("laptop").unwrap(),
        subject: Subject::new(subject).unwrap(),
        client: ClientInfo::default(),
        ttl: None,
    };
    let issued = site.sessions.issue(asked).await.unwrap();
    let html = [&b"Accept: text/html"[..], b"Sec-Fetch-Mode: navigate"];
    let (status, head) = ask(other.address, &request("GET", &html, "")).await;
    let login = field(&head, "location").unwrap();
    assert_eq!((status, login), (303, "/_tenure/login?return=%2Fa"), "{program:?}: {head}");

    let form = format!("token={}&return=%2Fa", issued.token.to_text().expose());
    let post = format!(
        "POST /_tenure/login HTTP/1.1\r\nHost: tenure.test\r\nOrigin: http://tenure.test\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}",
        form.len()
    );
    let (status, head) = ask(other.address, post.as_bytes()).await;
    assert_eq!((status, field(&head, "location")), (303, Some("/a")), "{program:?}: {head}");
    let cookie = field(&head, "set-cookie").unwrap().split(';').next().unwrap();
    let cookie = format!("Cookie: {cookie}");
    let (status, _) = ask(other.address, &request("GET", &[html[0], html[1], cookie.as_bytes()], "")).await;
    let head = app.take().pop().unwrap_or_else(|| panic!("{program:?}: {status}"));
    assert!(contains(&head, format!(": {subject}\r\n").as_bytes()), "{program:?}: {}", head.escape_ascii());
    drop(other);
    site.stop().await;
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

async fn serves_honest_clients(program: Program) {
    passes_what_is_the_apps(program).await;
    tells_what_is_the_matter(program).await;
    knows_other_versions(program).await;
    serves_pages(program).await;
    logs_a_person_in(program).await;
}

#[tokio::test]
async fn nginx_serves_honest_clients() {
    serves_honest_clients(Program::Nginx).await;
}

#[tokio::test]
async fn caddy_serves_honest_clients() {
    serves_honest_clients(Program::Caddy).await;
}

#[tokio::test]
#[ignore = "no package manager that the tests know has Traefik: `cargo xtask proxies` brings it"]
async fn traefik_serves_honest_clients() {
    serves_honest_clients(Program::Traefik).await;
}

#[tokio::test]
#[ignore = "no package manager that the tests know has Envoy: `cargo xtask proxies` brings it"]
async fn envoy_serves_honest_clients() {
    serves_honest_clients(Program::Envoy).await;
}
