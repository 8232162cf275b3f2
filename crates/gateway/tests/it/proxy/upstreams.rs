//! Upstreams and clients that do what HTTP allows and few do, and what it does not allow: octet by octet.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenure_domain::Policy;
use tenure_gateway::TlsFiles;
use tenure_tower::PublicPath;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::forwarding::claims::Recorder;
use crate::server::tls::{certify, connect, files};
use crate::support::site::{GatewayFixture, Reply, TEST_TIMEOUT};

async fn open_before(upstream: SocketAddr) -> GatewayFixture {
    with_tls(upstream, None).await
}

async fn with_tls(upstream: SocketAddr, tls: Option<TlsFiles>) -> GatewayFixture {
    GatewayFixture::with(Some(upstream), Policy::default(), |options| {
        options.public_paths = vec![PublicPath("/public/".to_owned())];
        options.tls = tls;
    })
    .await
}

#[tokio::test]
async fn as_many_fields_pass_as_other_proxies_pass() {
    let (mut many, mut cookies) = (String::new(), String::new());
    for n in 0..150 {
        let _ = write!(many, "x-{n}: {n}\r\n");
    }
    for n in 0..120 {
        let _ = write!(cookies, "set-cookie: c{n}={n}\r\n");
    }
    let answer = format!("HTTP/1.1 200 OK\r\n{many}{cookies}content-length: 0\r\n\r\n");
    let upstream = Recorder::answering(answer).await;
    let site = open_before(upstream.address).await;
    let upgrade = [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ];
    let all_passed = |reply: &Reply, what: &str| {
        let of = |begin: &str| reply.headers.iter().filter(|(name, _)| name.starts_with(begin)).count();
        assert_eq!((reply.status, of("set-cookie"), of("x-") - of("x-request-id")), (200, 120, 150), "{what}");
    };
    // What changes something is asked for once.
    for (method, body) in [("POST", "hello"), ("PUT", ""), ("DELETE", "")] {
        all_passed(&site.ask(method, "/public/", &[], body).await, method);
        assert_eq!(upstream.take().len(), 1, "{method}");
    }
    // The first of the others, at once, are asked for again, and from then on none is.
    let gets = (0..8).map(|_| site.get("/public/", &[]));
    for reply in futures_util::future::join_all(gets).await {
        all_passed(&reply, "GET");
    }
    upstream.take();
    all_passed(&site.get("/public/", &[]).await, "GET");
    assert_eq!(upstream.take().len(), 1);
    all_passed(&site.get("/public/", &upgrade).await, "an upgrade");
    site.stop().await;
}

#[tokio::test]
async fn what_other_proxies_pass_in_a_target_passes() {
    let upstream = Recorder::new().await;
    let site = open_before(upstream.address).await;
    let (_, token) = site.issue("laptop").await;
    let common = format!("host: a.test\r\nauthorization: Bearer {token}\r\n");
    for (target, told) in [
        ("/x/?a={}|^\\`[]'~!$", "/x/?a={}|^\\`[]'~!$"),
        ("/x/?q={\"a\":\"b\"}", "/x/?q={%22a%22:%22b%22}"),
        ("/x/?q=<a>&r=%22", "/x/?q=%3Ca%3E&r=%22"),
        ("/x/?q=\u{e9}", "/x/?q=\u{c3}\u{a9}"),
        ("/x/??\"?\"", "/x/??%22?%22"),
        ("/x/`a`<b>", "/x/%60a%60%3Cb%3E"),
        ("http://a.test/x/?q=\"", "/x/?q=%22"),
    ] {
        let request = format!("GET {target} HTTP/1.1\r\n{common}x-kept: \"<`>\"\r\nconnection: close\r\n\r\n");
        // In one piece, and in as many as there are octets of the request line.
        for pieces in [1, target.len() + 5] {
            let mut stream = TcpStream::connect(site.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (dripped, rest) = request.as_bytes().split_at(pieces - 1);
            for octet in dripped {
                stream.write_all(&[*octet]).await.unwrap();
                tokio::task::yield_now().await;
            }
            stream.write_all(rest).await.unwrap();
            let mut answer = String::new();
            tokio::time::timeout(TEST_TIMEOUT, stream.read_to_string(&mut answer)).await.expect("an end").unwrap();
            assert!(answer.starts_with("HTTP/1.1 204 "), "{target}: {answer}");
            let head = upstream.only();
            assert_eq!(head[0], format!("GET {told} HTTP/1.1"));
            assert!(head.contains(&"x-kept: \"<`>\"".to_owned()), "{head:?}");
        }
    }
    // Many at once: what does not fit when escaped comes with the next read, and bodies stay as they are.
    let one = format!("POST /x/?\"\"\"\"\"\"\"\" HTTP/1.1\r\n{common}content-length: 16\r\n\r\n\"<`>\"? \"<`>\"? \r\n");
    let last = format!("GET /x/ HTTP/1.1\r\n{common}connection: close\r\n\r\n");
    let answer = site.raw(&(one.repeat(500) + &last)).await;
    assert_eq!(answer.matches("HTTP/1.1 204 ").count(), 501);
    site.stop().await;
}

#[tokio::test]
async fn interim_answers_stay_behind_and_the_final_one_passes() {
    let interim =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";
    let upstream = Recorder::answering(format!("{interim}HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")).await;
    let site = open_before(upstream.address).await;
    let answer = site.raw("GET /public/ HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    let reply = Reply::parse(&answer);
    assert_eq!((reply.status, reply.body.as_str(), reply.header("link")), (200, "ok", None));
    site.stop().await;
}

#[tokio::test]
async fn an_answer_of_which_the_end_is_not_clear_is_a_502() {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    for (lines, status) in [
        ("content-length: 15\r\ntransfer-encoding: chunked", 502),
        ("transfer-encoding: chunked\r\ncontent-length: 5", 502),
        ("transfer-encoding: Chunked\r\ncontent-length: 15", 502),
        ("content-length: 15\r\ncontent-length: 15", 502),
        ("content-length: 15\r\ncontent-length: 5", 502),
        ("content-length: 15, 15", 502),
        ("content-length: +15", 502),
        ("content-length: 15\r\ntransfer-encoding: identity", 502),
        ("transfer-encoding: gzip, chunked", 502),
        ("transfer-encoding: gzip", 502),
        ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", 502),
        ("transfer-encoding: chunked", 200),
        ("transfer-encoding: CHUNKED", 200),
        ("content-length: 15", 200),
    ] {
        let upstream = Recorder::answering(format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{body}")).await;
        let site = open_before(upstream.address).await;
        for method in ["GET", "HEAD"] {
            let reply = site.ask(method, "/public/", &[], "").await;
            // hyper reads no length where there is no body.
            if method == "HEAD" && lines.contains('+') {
                continue;
            }
            assert_eq!(reply.status, status, "{method}: {lines}: {reply:?}");
        }
        site.stop().await;
    }
}

#[tokio::test]
async fn a_body_that_is_not_framed_as_it_says_is_the_clients_fault() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let site = open_before(listener.local_addr().unwrap()).await;
    // Takes all, and answers nothing.
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
        }
    });
    for body in [
        "5\r\nhello\r\nNONSENSE\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "-1\r\n\r\n",
        "ffffffffffffffffff\r\n",
        "5\r\nhelloX\r\n",
        "0x5\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "5;a\nb\r\nhello\r\n",
    ] {
        let answer =
            site.raw(&format!("POST /public/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}")).await;
        Reply::parse(&answer).is_problem(400, "bad_request");
    }
    site.stop().await;
}

/// Answers so many requests of each connection, and hangs up on the next once it has read it. Counts what it read.
async fn moody(patience: impl Fn(usize) -> usize + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = seen.clone();
    tokio::spawn(async move {
        for nth in 0.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let (counted, patience) = (counted.clone(), patience(nth));
            tokio::spawn(async move {
                let mut some = [0; 4096];
                for answered in 0.. {
                    let Ok(1..) = stream.read(&mut some).await else { return };
                    counted.fetch_add(1, Ordering::SeqCst);
                    if answered == patience {
                        return;
                    }
                    let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                }
            });
        }
    });
    (address, seen)
}

#[tokio::test]
async fn what_may_be_done_twice_is_sent_again_once_where_a_kept_connection_was_closed() {
    for (method, body, status, times) in [
        ("GET", "", 204, 2),
        ("HEAD", "", 204, 2),
        ("OPTIONS", "", 204, 2),
        ("DELETE", "", 204, 2),
        ("PUT", "", 204, 2),
        ("PUT", "hello", 502, 1),
        ("POST", "", 502, 1),
        ("POST", "hello", 502, 1),
        ("PATCH", "", 502, 1),
    ] {
        let (upstream, seen) = moody(|_| 1).await;
        let site = open_before(upstream).await;
        // What changes something has connections of its own.
        assert_eq!(site.ask(method, "/public/1", &[], body).await.status, 204);
        assert_eq!(seen.swap(0, Ordering::SeqCst), 1);
        let second = site.ask(method, "/public/2", &[], body).await;
        assert_eq!((second.status, seen.load(Ordering::SeqCst)), (status, times), "{method} {body:?}: {second:?}");
        site.stop().await;
    }
}

#[tokio::test]
async fn an_upstream_that_always_hangs_up_is_asked_twice_at_most() {
    // The first connection answers once; no other does.
    let (upstream, seen) = moody(|nth| usize::from(nth == 0)).await;
    let site = open_before(upstream).await;
    assert_eq!(site.get("/public/1", &[]).await.status, 204);
    site.get("/public/2", &[]).await.is_problem(502, "bad_gateway");
    assert_eq!(seen.swap(0, Ordering::SeqCst), 3);
    // On a connection of its own it is no leftover of another request.
    site.get("/public/3", &[]).await.is_problem(502, "bad_gateway");
    assert_eq!(seen.load(Ordering::SeqCst), 1);
    site.stop().await;
}

/// Sends all of a request, and only then reads what was answered.
async fn send_all<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, head: &str, body: usize) -> String {
    let exchange = async {
        stream.write_all(head.as_bytes()).await.unwrap();
        let piece = vec![b'a'; 64 * 1024];
        let mut left = body;
        while left > 0 {
            let size = left.min(piece.len());
            stream.write_all(&piece[..size]).await.unwrap_or_else(|error| panic!("{error} with {left} left: {head}"));
            left -= size;
        }
        stream.flush().await.unwrap();
        let mut answer = Vec::new();
        // Over TLS, closing without a word is no clean end.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(TEST_TIMEOUT, exchange).await.expect("an end")
}

#[tokio::test]
async fn whoever_is_refused_while_it_sends_can_read_why() {
    const BODY: usize = 16 << 20;
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let certificate = certify(&files);
    let upstream = Recorder::new().await;
    let (clear, secure) = (open_before(upstream.address).await, with_tls(upstream.address, Some(files)).await);
    let sized = format!("content-length: {BODY}\r\n\r\n");
    let chunked = format!("transfer-encoding: chunked\r\n\r\n{BODY:x}\r\n");
    let wide = format!("x-wide: {}\r\n{sized}", "a".repeat(200_000));
    for (what, lines, status) in [
        ("no token", sized.as_str(), 401),
        ("no token, in chunks", &chunked, 401),
        ("a head that is refused", &format!("host: b\r\n{sized}"), 400),
        ("a length beside a coding", &format!("transfer-encoding: chunked\r\n{sized}"), 400),
        ("a head that is too large", &wide, 431),
    ] {
        let head = format!("POST /x HTTP/1.1\r\nhost: a\r\n{lines}");
        let stream = TcpStream::connect(clear.address).await.unwrap();
        let answer = send_all(stream, &head, BODY).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
        let stream = connect(secure.address, &certificate, b"http/1.1").await.unwrap();
        let answer = send_all(stream, &head, BODY).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what} over TLS: {answer}");
    }
    clear.stop().await;
    secure.stop().await;
}

#[tokio::test]
async fn whoever_never_ends_is_not_read_for_ever() {
    let site = open_before(Recorder::new().await.address).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    let endless = async {
        let head = "POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let (piece, mut sent) = (vec![b'a'; 64 * 1024], 0_usize);
        while stream.write_all(&piece).await.is_ok() {
            sent += piece.len();
        }
        sent
    };
    let sent = tokio::time::timeout(TEST_TIMEOUT * 4, endless).await.expect("a cut");
    // The bound, and what the system keeps besides.
    assert!(sent < 128 << 20, "{sent}");
    site.stop().await;
}
