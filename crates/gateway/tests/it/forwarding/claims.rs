//! Requests that want to be taken for others, octet by octet: what an upstream that keeps the octets was asked.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;
use tenure_domain::Policy;
use tenure_gateway::{Options, UpstreamAuth};
use tenure_tower::PublicPath;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::site::{GatewayFixture, Reply};

/// An upstream that keeps the heads of what it is asked.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Recorder {
    /// Answers everything with these octets.
    pub(crate) async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let recorder = Self { address: listener.local_addr().unwrap(), heads: Arc::default() };
        let (heads, answer) = (recorder.heads.clone(), answer.into());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(record(stream, heads.clone(), answer.clone()));
            }
        });
        recorder
    }

    pub(crate) async fn new() -> Self {
        Self::answering("HTTP/1.1 204 No Content\r\n\r\n").await
    }

    /// The heads so far, as lines in lower case; none are left.
    pub(crate) fn take(&self) -> Vec<Vec<String>> {
        let heads = std::mem::take(&mut *self.heads.lock());
        heads.iter().map(|head| head.trim_end().split("\r\n").map(str::to_owned).collect()).collect()
    }

    /// The only head since the last look.
    #[track_caller]
    pub(crate) fn only(&self) -> Vec<String> {
        let mut heads = self.take();
        assert_eq!(heads.len(), 1, "{heads:?}");
        heads.remove(0)
    }
}

async fn record(mut stream: TcpStream, heads: Arc<Mutex<Vec<String>>>, answer: Vec<u8>) {
    let mut seen = Vec::new();
    let mut some = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut some).await {
        seen.extend_from_slice(&some[..read]);
        while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            // Octets, as a string has them.
            let head: String = seen.drain(..end + 4).map(char::from).collect();
            heads.lock().push(head);
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}

/// The names of a head's fields, each with how often it is there.
fn names(head: &[String]) -> Vec<String> {
    let mut names: Vec<_> = head[1..].iter().map(|line| line.split(':').next().unwrap().to_ascii_lowercase()).collect();
    names.sort_unstable();
    names
}

fn value<'a>(head: &'a [String], name: &str) -> &'a str {
    let mut values = head.iter().filter_map(|line| line.split_once(": ").filter(|(found, _)| *found == name));
    values.next().unwrap_or_else(|| panic!("no {name}: {head:?}")).1
}

fn believing(options: &mut Options) {
    options.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
}

fn opened(options: &mut Options) {
    options.public_paths = vec![PublicPath("/public/".to_owned())];
    options.user_header = HeaderName::from_static("sm_user");
    options.upstream_auth =
        Some(UpstreamAuth { header: HeaderName::from_static("x-api-key"), value: HeaderValue::from_static("static") });
}

/// Fields of a client that must not reach the upstream, whoever sends them.
pub(crate) const CLAIMS: [&str; 49] = [
    "X-Forwarded-User: root",
    "X.Forwarded.User: root",
    "X_Forwarded_User: root",
    "x-forwarded_user: root",
    "XForwardedUser: root",
    "X-Forwarded-User-: root",
    "X~Forwarded~User: root",
    "SM_USER: root",
    "SM-USER: root",
    "sm.user: root",
    "SmUser: root",
    "Remote-User: root",
    "Remote_User: root",
    "X-Tenure-Session: s_1",
    "X.Tenure.Device: d",
    "X_TENURE_ANYTHING: 1",
    "X-Auth-Request-Email: root@a",
    "Tailscale-User-Login: root",
    "X-OpenClaw-Scopes: operator.admin",
    "X_API_KEY: mine",
    "X.Api.Key: mine",
    "Authorization_: Bearer other",
    "Proxy: http://evil.test/",
    "X-Original-URL: /admin",
    "X_Original_URL: /admin",
    "X-Original-URI: /admin",
    "X-Rewrite-URL: /admin",
    "X.Rewrite.URL: /admin",
    "X-Forwarded-Uri: /admin",
    "X-Forwarded-Path: /admin",
    "X-Forwarded-Prefix: /admin",
    "X-Script-Name: /admin",
    "X-HTTP-Method-Override: DELETE",
    "Forwarded: for=192.0.2.9;host=evil.test;proto=https",
    "X-Real-IP: 192.0.2.9",
    "X_Real_IP: 192.0.2.9",
    "X-Client-IP: 192.0.2.9",
    "True-Client-IP: 192.0.2.9",
    "CF-Connecting-IP: 192.0.2.9",
    "X_Forwarded_For: 192.0.2.9",
    "X-Forwarded-Port: 1",
    "X-Forwarded-Server: evil.test",
    "X-Host: evil.test",
    "Content_Length: 5",
    "Transfer.Encoding: chunked",
    "Transfer_Encoding: chunked",
    "Cookie_: tenure=1",
    "X_Request_Id: mine",
    "Tenure_Rotate: due",
];

#[tokio::test]
async fn no_claim_reaches_the_upstream_whoever_makes_it_and_wherever() {
    for trusted in [false, true] {
        let upstream = Recorder::new().await;
        let site = GatewayFixture::with(Some(upstream.address), Policy::default(), |options| {
            opened(options);
            if trusted {
                believing(options);
            }
        })
        .await;
        let (_, token) = site.issue("laptop").await;
        let shown = format!("authorization: Bearer {token}");
        let common = ["accept", "host", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"];
        let mut with_session = [&common[..], &["sm_user", "x-api-key", "x-tenure-device", "x-tenure-session"]].concat();
        with_session.sort_unstable();
        // One at a time, and all at once.
        for claims in CLAIMS.chunks(1).chain([&CLAIMS[..]]) {
            let lines: Vec<&str> = claims.iter().copied().chain(["accept: */*"]).collect();
            assert_eq!(site.get("/public/x", &lines).await.status, 204, "{claims:?}");
            assert_eq!(names(&upstream.only()), common, "{claims:?} on a public path");
            let lines: Vec<&str> = lines.iter().copied().chain([shown.as_str()]).collect();
            assert_eq!(site.get("/x", &lines).await.status, 204, "{claims:?}");
            let head = upstream.only();
            assert_eq!(names(&head), with_session, "{claims:?} with a session");
            assert_eq!((value(&head, "sm_user"), value(&head, "x-forwarded-for")), ("alice", "127.0.0.1"));
        }
        site.stop().await;
    }
}

#[tokio::test]
async fn what_connection_names_takes_nothing_away_that_the_gateway_sets_nor_the_host() {
    let upstream = Recorder::new().await;
    let site = GatewayFixture::with(Some(upstream.address), Policy::default(), opened).await;
    let (_, token) = site.issue("laptop").await;
    let shown = format!("authorization: Bearer {token}");
    let named = "connection: X-Forwarded-User, SM_USER, sm-user, X-Tenure-Session, X-Tenure-Device, X-Api-Key, Host, host, \
                 X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, X-Request-Id, X-Hop";
    assert_eq!(site.get("/x", &[&shown, named, "x-hop: 1", "x-kept: 1"]).await.status, 204);
    let head = upstream.only();
    assert_eq!(
        names(&head),
        [
            "host",
            "sm_user",
            "x-api-key",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-kept",
            "x-request-id",
            "x-tenure-device",
            "x-tenure-session",
        ]
    );
    assert_eq!(value(&head, "host"), "tenure.test");
    let upgrade = ["upgrade: websocket", "sec-websocket-version: 13", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="];
    let named = "connection: upgrade, host, sm_user, x-tenure-session";
    let lines: Vec<&str> = upgrade.iter().copied().chain([named, &shown]).collect();
    site.get("/socket", &lines).await;
    let head = upstream.only();
    assert_eq!((value(&head, "host"), value(&head, "sm_user")), ("tenure.test", "alice"));
    site.stop().await;
}

#[tokio::test]
async fn the_upstream_gets_exactly_one_host() {
    let upstream = Recorder::new().await;
    let site = GatewayFixture::with(Some(upstream.address), Policy::default(), opened).await;
    let own = upstream.address.to_string();
    for (request, host) in [
        ("GET /public/ HTTP/1.0\r\n\r\n", own.as_str()),
        ("GET /public/ HTTP/1.0\r\nconnection: host\r\n\r\n", &own),
        ("GET /public/ HTTP/1.0\r\nhost: a.test\r\n\r\n", "a.test"),
        ("GET /public/ HTTP/1.1\r\nhost: a.test\r\nconnection: close, host\r\n\r\n", "a.test"),
        ("GET http://b.test/public/ HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n", "b.test"),
        ("GET http://b.test:80/public/ HTTP/1.0\r\n\r\n", "b.test:80"),
        ("GET /public/ HTTP/1.1\r\nhost: [::1]:8470\r\nconnection: close\r\n\r\n", "[::1]:8470"),
    ] {
        let answer = site.raw(request).await;
        let head = upstream.only();
        let hosts: Vec<_> = head.iter().filter_map(|line| line.strip_prefix("host: ")).collect();
        assert_eq!(hosts, [host], "{request}: {answer}");
    }
    site.stop().await;
}

/// What is no host: RFC 9112 section 3.2 has it refused.
const NO_HOSTS: [&str; 15] = [
    "a/b@c d",
    "user@a.test",
    "user:word@a.test",
    "@",
    "a b",
    "a.test/b",
    "a.test?b",
    "a.test#b",
    "a.test\\b",
    "a.test:x",
    "a.test:65536",
    "a.test:80:80",
    "[::1",
    "a.test,b.test c",
    "<a>",
];

#[tokio::test]
async fn what_is_no_host_is_a_400_wherever_it_stands() {
    let upstream = Recorder::new().await;
    let site = GatewayFixture::with(Some(upstream.address), Policy::default(), |options| {
        opened(options);
        believing(options);
    })
    .await;
    let (_, token) = site.issue("laptop").await;
    let shown = format!("authorization: Bearer {token}\r\nconnection: close\r\n");
    for host in NO_HOSTS {
        for path in ["/public/", "/x", "/_tenure/auth", "/_tenure/login"] {
            let answer = site.raw(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{shown}\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "Host: {host} on {path}: {answer}");
            let forwarded = format!("host: a.test\r\nx-forwarded-host: {host}\r\n");
            let answer = site.raw(&format!("GET {path} HTTP/1.1\r\n{forwarded}{shown}\r\n")).await;
            assert!(answer.starts_with("HTTP/1.1 400 "), "X-Forwarded-Host: {host} on {path}: {answer}");
        }
    }
    for target in [
        "http://user@a.test/public/",
        "http://user:word@a.test/public/",
        "http://a.test:99999/public/",
        "http:///public/",
    ] {
        let answer = site.raw(&format!("GET {target} HTTP/1.1\r\nhost: a.test\r\n{shown}\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    let empty = site.raw(&format!("GET /public/ HTTP/1.1\r\nhost:\r\n{shown}\r\n")).await;
    assert!(empty.starts_with("HTTP/1.1 400 "), "{empty}");
    assert_eq!(upstream.take(), Vec::<Vec<String>>::new());
    let answer = crate::support::site::send(
        site.admin,
        "GET / HTTP/1.1\r\nhost: 127.0.0.1:x@evil.test\r\nconnection: close\r\n\r\n",
    )
    .await;
    Reply::parse(&answer).is_problem(400, "bad_request");
    let answer = crate::support::site::send(
        site.admin,
        "GET http://127.0.0.1:x@evil.test/ HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    site.stop().await;
}
