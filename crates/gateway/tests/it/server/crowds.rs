//! Many connections that want nothing, beside somebody who does.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::ADMIN;
use crate::support::site::{GatewayFixture, Reply, TEST_TIMEOUT, echo, send};

/// More than operators may have connections.
const CROWD: usize = 300;

/// Connections that have sent this and send no more.
async fn crowd(address: SocketAddr, sent: impl Fn(usize) -> String) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for n in 0..CROWD {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may have been closed already.
        let _ = stream.write_all(sent(n).as_bytes()).await;
        all.push(stream);
    }
    all
}

fn listing() -> String {
    format!(
        "GET /api/v1/sessions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ADMIN}\r\nconnection: close\r\n\r\n"
    )
}

/// A request whose body is said to come.
fn slow(path: &str, lines: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/x-www-form-urlencoded\r\n\
         content-length: 1000\r\n{lines}\r\ntoken="
    )
}

#[tokio::test]
async fn operators_are_answered_whoever_else_sends_nothing_or_a_body_in_drops() {
    let site = GatewayFixture::with(None, tenure_domain::Policy::default(), |options| {
        // None of them is closed for being slow.
        options.limits.header = Duration::from_secs(3_600);
    })
    .await;
    let wrong = "authorization: Bearer a guess\r\n";
    let kinds: [fn(usize, &str) -> String; 4] = [
        |_, _| String::new(),
        |_, _| "GET / HTTP/1.1\r\nhost: local".to_owned(),
        |_, _| slow("/oauth2/introspect", ""),
        |n, wrong| slow(["/oauth2/revoke", "/api/v1/sessions/revoke"][n % 2], wrong),
    ];
    for (n, kind) in kinds.iter().enumerate() {
        let crowd = crowd(site.admin, |n| kind(n, wrong)).await;
        for _ in 0..3 {
            let reply = Reply::parse(&send(site.admin, &listing()).await);
            assert_eq!(reply.status, 200, "kind {n}: {reply:?}");
        }
        drop(crowd);
    }
    site.stop().await;
}

#[tokio::test]
async fn the_admin_secret_is_asked_for_before_the_body() {
    let site = GatewayFixture::before(echo().await).await;
    for (path, lines) in [
        ("/api/v1/sessions/revoke", ""),
        ("/api/v1/sessions/revoke", "authorization: Bearer a guess\r\n"),
        ("/oauth2/introspect", "authorization: Bearer a guess\r\n"),
        ("/oauth2/revoke", "authorization: Basic bWU6Z3Vlc3M=\r\n"),
        ("/oauth2/revoke", "authorization: nonsense\r\n"),
    ] {
        let mut stream = TcpStream::connect(site.admin).await.unwrap();
        stream.write_all(slow(path, lines).as_bytes()).await.unwrap();
        // The rest of the body never comes.
        let mut head = [0; 13];
        tokio::time::timeout(TEST_TIMEOUT, stream.read_exact(&mut head)).await.expect("it waits for the body").unwrap();
        assert_eq!(&head, b"HTTP/1.1 401 ", "{path} {lines}");
    }
    site.stop().await;
}

#[tokio::test]
async fn clients_are_answered_beside_more_idle_connections_than_there_is_room_for() {
    let site = GatewayFixture::with(Some(echo().await), tenure_domain::Policy::default(), |options| {
        options.limits.connections = 20;
        options.limits.header = Duration::from_secs(3_600);
    })
    .await;
    let (_, token) = site.issue("laptop").await;
    let line = format!("authorization: Bearer {token}");
    for sent in ["", "GET / HT", "GET /_tenure/login HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let crowd = crowd(site.address, |_| sent.to_owned()).await;
        for _ in 0..3 {
            assert_eq!(site.get("/", &[&line]).await.status, 200);
        }
        drop(crowd);
    }
    site.stop().await;
}

#[tokio::test]
async fn a_header_may_be_as_large_as_is_set() {
    let site = GatewayFixture::with(Some(echo().await), tenure_domain::Policy::default(), |options| {
        options.limits.header_bytes = 8 * 1024;
    })
    .await;
    let (_, token) = site.issue("laptop").await;
    let line = format!("authorization: Bearer {token}");
    assert_eq!(site.get("/", &[&line, &format!("x-a: {}", "b".repeat(7_000))]).await.status, 200);
    assert_eq!(site.get("/", &[&line, &format!("x-a: {}", "b".repeat(9_000))]).await.status, 431);
    site.stop().await;
}
