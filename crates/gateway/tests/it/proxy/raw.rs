//! What no well-behaved client sends, and clients that leave at the wrong moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::any;
use futures_util::stream;
use tenure_domain::Policy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::site::{GatewayFixture, Reply, TEST_TIMEOUT, echo, serve, until};

/// The status lines of all that came.
fn statuses(text: &str) -> Vec<u16> {
    let lines = text.split("HTTP/1.1 ").skip(1);
    lines.map(|line| line[..3].parse().unwrap()).collect()
}

#[tokio::test]
async fn shapes_that_servers_read_differently_are_refused_and_the_connection_with_them() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let upstream = serve(Router::new().fallback(any(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { "asked" }
    })))
    .await;
    let site = GatewayFixture::before(upstream).await;
    let (_, token) = site.issue("laptop").await;
    let smuggled = format!("GET /smuggled HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
    for (what, lines, expected) in [
        ("two lengths that differ", "host: a\r\ncontent-length: 0\r\ncontent-length: 5", 400),
        ("two lengths that are the same", "host: a\r\ncontent-length: 0\r\ncontent-length: 0", 400),
        ("two lengths in one", "host: a\r\ncontent-length: 5, 0", 400),
        ("a signed length", "host: a\r\ncontent-length: +5", 400),
        ("a coding that is not the last", "host: a\r\ntransfer-encoding: chunked, identity", 400),
        ("an unknown coding", "host: a\r\ntransfer-encoding: xchunked", 400),
        ("another coding before", "host: a\r\ntransfer-encoding: gzip, chunked", 400),
        ("chunked not last", "host: a\r\ntransfer-encoding: chunked, gzip", 400),
        ("chunked twice in one", "host: a\r\ntransfer-encoding: chunked, chunked", 400),
        ("an empty coding", "host: a\r\ntransfer-encoding:", 400),
        ("a folded coding", "host: a\r\ntransfer-encoding:\r\n chunked", 400),
        ("a space before the coding's colon", "host: a\r\ntransfer-encoding : chunked", 400),
        ("a lone LF", "host: a\nx-lone: 1", 400),
        ("a lone CR", "host: a\rx-lone: 1", 400),
        ("chunked twice", "host: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked", 400),
        ("a space before the colon", "host: a\r\ncontent-length : 5", 400),
        ("a name with a space", "host: a\r\nbad name: 5", 400),
        ("a folded line", "host: a\r\nx-folded: 1\r\n 2", 400),
        ("a line without a colon", "host: a\r\nnonsense", 400),
        ("a zero byte", "host: a\r\nx-zero: a\0b", 400),
        ("two hosts", "host: a\r\nhost: b", 400),
        ("no host", "x-none: 1", 400),
    ] {
        let request = format!("POST / HTTP/1.1\r\nauthorization: Bearer {token}\r\n{lines}\r\n\r\n{smuggled}");
        let answer = site.raw(&request).await;
        assert_eq!(statuses(&answer), [expected], "{what}: {answer}");
    }
    let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let answer = site.raw(&format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")).await;
    assert_eq!(statuses(&answer), [431], "{answer}");
    let wide = "x".repeat(70_000);
    let answer = site.raw(&format!("GET / HTTP/1.1\r\nhost: a\r\nx-wide: {wide}\r\n\r\n")).await;
    assert_eq!(statuses(&answer), [431], "{answer}");
    let answer = site.raw("CONNECT internal:80 HTTP/1.1\r\nhost: internal:80\r\n\r\n").await;
    assert_eq!(statuses(&answer), [400], "{answer}");
    assert_eq!(asked.load(Ordering::SeqCst), 0, "the upstream was asked");
    site.stop().await;
}

#[tokio::test]
async fn a_length_beside_chunked_is_refused_before_the_upstream_is_asked_and_nothing_after_it_is_a_request() {
    let site = GatewayFixture::before(echo().await).await;
    let (_, token) = site.issue("laptop").await;
    let head = format!("POST / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n");
    // Requests that are fine, and whose bodies hold what would be refused in a head.
    let text = "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let sized = format!("{head}content-length: {}\r\n\r\n{text}", text.len());
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{:x};a=b\r\n{text}\r\n0\r\n\r\n", text.len());
    for lines in ["Content-Length: 4\r\nTransfer-Encoding: chunked", "transfer-encoding: chunked\r\ncontent-length:4"] {
        let unclear = format!("{head}{lines}\r\n\r\n5\r\nhello\r\n0\r\n\r\n{head}\r\n");
        let whole = format!("{sized}{chunked}{unclear}");
        let begins = whole.len() - unclear.len();
        for cut in [0, begins / 2, begins, begins + head.len() + 8, begins + head.len() + lines.len() + 3] {
            let mut stream = TcpStream::connect(site.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            stream.write_all(&whole.as_bytes()[..cut]).await.unwrap();
            // Most often the rest comes in a piece of its own. Either way the answer is the same.
            tokio::task::yield_now().await;
            let _ = stream.write_all(&whole.as_bytes()[cut..]).await;
            let mut answer = Vec::new();
            let _ = tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut answer)).await.expect("an end");
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert_eq!(statuses(&answer), [200, 200, 400], "cut at {cut}: {answer}");
            let refused = Reply::parse(&answer[answer.rfind("HTTP/1.1 400").unwrap()..]);
            refused.is_problem(400, "bad_request");
            assert_eq!(refused.header("connection"), Some("close"));
        }
    }
    site.stop().await;
}

#[tokio::test]
async fn an_upgrade_that_is_declined_leaves_the_next_head_to_be_looked_at() {
    let site = GatewayFixture::before(echo().await).await;
    let (_, token) = site.issue("laptop").await;
    let head = format!("host: a\r\nauthorization: Bearer {token}\r\n");
    let upgrade = format!(
        "GET / HTTP/1.1\r\n{head}connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let unclear = format!("POST / HTTP/1.1\r\n{head}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    let answer = site.raw(&format!("{upgrade}{unclear}")).await;
    assert_eq!(statuses(&answer), [200, 400], "{answer}");
    let old = format!("POST / HTTP/1.0\r\n{head}transfer-encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(statuses(&site.raw(&old).await.replace("HTTP/1.0 ", "HTTP/1.1 ")), [400], "chunked in HTTP/1.0");
    site.stop().await;
}

#[tokio::test]
async fn requests_in_one_breath_are_answered_in_order_and_each_needs_its_token() {
    let site = GatewayFixture::before(echo().await).await;
    let (_, token) = site.issue("laptop").await;
    let good = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
    let bare = "GET /second HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = site.raw(&format!("{}{bare}", good("/first"))).await;
    assert_eq!(statuses(&answer), [200, 401], "{answer}");
    let absolute = format!(
        "GET http://b.test/path HTTP/1.1\r\nhost: a\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let told = Reply::parse(&site.raw(&absolute).await).json();
    assert_eq!((told["target"].as_str(), told["headers"]["host"].as_str()), (Some("/path"), Some("b.test")));
    site.stop().await;
}

#[tokio::test]
async fn a_body_is_asked_for_only_where_the_token_holds() {
    let site = GatewayFixture::before(echo().await).await;
    let (_, token) = site.issue("laptop").await;
    let lines = "host: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close";
    let answer = site.raw(&format!("POST / HTTP/1.1\r\n{lines}\r\n\r\n")).await;
    assert_eq!(statuses(&answer), [401], "{answer}");

    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let request = format!("POST / HTTP/1.1\r\n{lines}\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut go = [0; 25];
    tokio::time::timeout(TEST_TIMEOUT, stream.read_exact(&mut go)).await.expect("a go").unwrap();
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(TEST_TIMEOUT, stream.read_to_string(&mut answer)).await.expect("an end").unwrap();
    assert_eq!(Reply::parse(&answer).json()["body"], "hello");
    site.stop().await;
}

#[tokio::test]
async fn a_header_in_drops_and_a_connection_without_requests_are_cut() {
    let site = GatewayFixture::with(Some(echo().await), Policy::default(), |options| {
        options.limits.header = Duration::from_millis(400);
    })
    .await;
    let (_, token) = site.issue("laptop").await;
    let mut silent = TcpStream::connect(site.address).await.unwrap();
    let mut dripping = TcpStream::connect(site.address).await.unwrap();
    let mut kept = TcpStream::connect(site.address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
    kept.write_all(request.as_bytes()).await.unwrap();
    let drip = async {
        let mut dropped = dripping.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").await;
        while dropped.is_ok() {
            dropped = dripping.write_all(b"x-drop: 1\r\n").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, drip).await.expect("the dripping connection is cut");
    for stream in [&mut silent, &mut kept] {
        let mut all = Vec::new();
        tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut all)).await.expect("an end").unwrap();
    }
    site.stop().await;
}

#[tokio::test]
async fn clients_that_leave_at_any_moment_leave_nothing_behind() {
    let site = GatewayFixture::with(Some(echo().await), Policy::default(), |options| {
        // Whoever is left is not cut before it is missed here.
        options.limits.drain = TEST_TIMEOUT * 10;
    })
    .await;
    let (_, token) = site.issue("laptop").await;
    let whole = format!(
        "POST /x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n"
    );
    for at in (0..whole.len()).step_by(7) {
        let mut stream = TcpStream::connect(site.address).await.unwrap();
        stream.write_all(&whole.as_bytes()[..at]).await.unwrap();
        if at % 2 == 0 {
            // Reset, and not closed.
            stream.set_zero_linger().unwrap();
        }
    }
    until("the end of all that was watched", async || site.gateway.enforcer().connections().counts().connections == 0)
        .await;
    // Waits for every connection.
    site.stop().await;
}

#[tokio::test]
async fn a_broken_body_does_not_look_whole_to_the_upstream() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let site = GatewayFixture::before(listener.local_addr().unwrap()).await;
    let (_, token) = site.issue("laptop").await;
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = String::new();
        let _ = stream.read_to_string(&mut seen).await;
        seen
    });
    let request = format!(
        "POST / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\nNONSENSE\r\n"
    );
    site.raw(&request).await;
    let seen = tokio::time::timeout(TEST_TIMEOUT, seen).await.expect("an end").unwrap();
    assert!(seen.contains("hello") && !seen.ends_with("0\r\n\r\n"), "{seen:?}");
    site.stop().await;
}

/// An upstream that sends without an end, and counts how much it could.
async fn flood() -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = sent.clone();
    let flood = move || {
        let counted = counted.clone();
        async move {
            let piece = Bytes::from(vec![7; 64 * 1024]);
            Body::from_stream(stream::unfold((counted, piece), |(counted, piece)| async move {
                counted.fetch_add(piece.len(), Ordering::SeqCst);
                Some((Ok::<_, std::convert::Infallible>(piece.clone()), (counted, piece)))
            }))
        }
    };
    (serve(Router::new().fallback(any(flood))).await, sent)
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_upstream_back_and_is_cut() {
    let (upstream, sent) = flood().await;
    let site = GatewayFixture::with(Some(upstream), Policy::default(), |options| {
        options.limits.stall = Duration::from_secs(2);
    })
    .await;
    let (_, token) = site.issue("laptop").await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    until("the answer", async || site.gateway.enforcer().connections().counts().connections == 1).await;
    until("the cut", async || site.gateway.enforcer().connections().counts().connections == 0).await;
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < 64 << 20, "{sent} bytes were taken from the upstream for a client that takes none");
    drop(stream);
    site.stop().await;
}

#[tokio::test]
async fn a_connection_that_the_upstream_closed_meanwhile_costs_no_request() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let site = GatewayFixture::before(listener.local_addr().unwrap()).await;
    let (_, token) = site.issue("laptop").await;
    // Says nothing of closing, and closes.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 4096];
            let _ = stream.read(&mut some).await;
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    });
    let line = format!("authorization: Bearer {token}");
    for n in 0..20 {
        assert_eq!(site.ask("POST", "/", &[&line], "hello").await.status, 204, "request {n}");
    }
    site.stop().await;
}
