//! What is under way when its session ends: cut both ways at once, whether anybody reads or not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tenure_domain::{Millis, Policy, PolicySettings};
use tenure_service::Issued;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::server::tls::{certify, connect, files};
use crate::support::site::{GatewayFixture, TEST_TIMEOUT, until};

/// Longer than any test: what ends a connection is the session.
const NEVER: Duration = Duration::from_secs(3_600);

/// An upstream whose connections are the test's to play.
struct Upstream(TcpListener, SocketAddr);

impl Upstream {
    async fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        Self(listener, address)
    }

    /// Takes a request's head, and answers with this.
    async fn answer(&self, answer: &str) -> TcpStream {
        let (mut stream, _) = tokio::time::timeout(TEST_TIMEOUT, self.0.accept()).await.expect("nobody came").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream
    }

    async fn site(&self, policy: &PolicySettings) -> GatewayFixture {
        GatewayFixture::with(Some(self.1), Policy::new(policy).unwrap(), |options| {
            options.limits.stall = NEVER;
            options.limits.response = NEVER;
            options.limits.drain = NEVER;
            options.store_loss_grace = Duration::from_millis(100);
        })
        .await
    }
}

const EARLY: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n";

async fn begin(site: &GatewayFixture, line: &str, token: &str, more: &str) -> TcpStream {
    let mut client = TcpStream::connect(site.address).await.unwrap();
    client.set_nodelay(true).unwrap();
    let head = format!("{line} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n{more}\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    client
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) {
    let mut got = Vec::<u8>::new();
    while !got.windows(end.len()).any(|window| window == end) {
        let mut room = [0; 1024];
        let n = tokio::time::timeout(TEST_TIMEOUT, stream.read(&mut room)).await.expect("more").unwrap();
        assert_ne!(n, 0, "ended after {got:?}");
        got.extend(&room[..n]);
    }
}

/// Everything that still comes, up to the end.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let _ = tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut got)).await.expect("it stays open");
    got
}

async fn watched(site: &GatewayFixture, count: usize) {
    until("the watch", async || site.gateway.enforcer().connections().counts().connections == count).await;
}

/// How a session may end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Revoked,
    Expired,
    Idle,
    StoreLost,
    /// Revoked while the gateway waits for requests under way to end.
    Stopping,
}

impl Ending {
    const ALL: [Self; 5] = [Self::Revoked, Self::Expired, Self::Idle, Self::StoreLost, Self::Stopping];

    fn policy(self) -> PolicySettings {
        let idle = matches!(self, Self::Idle).then_some(Millis::seconds(30));
        PolicySettings { token_ttl: Some(Millis::seconds(60)), idle_timeout: idle, ..PolicySettings::default() }
    }

    async fn happen(self, site: &mut GatewayFixture, issued: &Issued) {
        match self {
            Self::Revoked => site.revoke(issued).await,
            Self::Expired => site.clock.pass(Millis::new(60_000)),
            Self::Idle => site.clock.pass(Millis::new(30_000)),
            Self::StoreLost => site.store.set_down(true),
            Self::Stopping => {
                site.begin_stop();
                until("the listener's end", async || TcpStream::connect(site.address).await.is_err()).await;
                site.revoke(issued).await;
            }
        }
    }
}

#[tokio::test]
async fn an_upload_that_was_answered_early_stops_when_its_session_ends() {
    for ends in Ending::ALL {
        let upstream = Upstream::new().await;
        let mut site = upstream.site(&ends.policy()).await;
        let (issued, token) = site.issue("laptop").await;
        let mut client = begin(&site, "POST /upload", &token, "transfer-encoding: chunked\r\n").await;
        let mut server = upstream.answer(EARLY).await;
        client.write_all(b"5\r\nfirst\r\n").await.unwrap();
        read_until(&mut server, b"first").await;
        read_until(&mut client, b"early").await;
        watched(&site, 1).await;
        ends.happen(&mut site, &issued).await;
        let (mut theirs, mut ours) = client.into_split();
        let ended = tokio::spawn(async move {
            let mut got = Vec::new();
            let _ = tokio::time::timeout(TEST_TIMEOUT, theirs.read_to_end(&mut got)).await.expect("it stays open");
            got
        });
        let to_upstream = rest(&mut server).await;
        assert_eq!(to_upstream, b"", "{ends:?}: nothing was sent, and the connection is closed");
        for n in 0..28 {
            // The gateway may have reset it.
            let _ = ours.write_all(format!("4\r\n{n:04}\r\n").as_bytes()).await;
        }
        let answer = ended.await.unwrap();
        assert!(!answer.ends_with(b"0\r\n\r\n"), "{ends:?}: an answer that was cut must not look whole");
        watched(&site, 0).await;
    }
}

#[tokio::test]
async fn chunks_that_go_on_after_the_end_arrive_nowhere() {
    let upstream = Upstream::new().await;
    let site = upstream.site(&Ending::Revoked.policy()).await;
    let (issued, token) = site.issue("laptop").await;
    let mut client = begin(&site, "POST /upload", &token, "transfer-encoding: chunked\r\n").await;
    let mut server = upstream.answer(EARLY).await;
    watched(&site, 1).await;
    let revoked = Arc::new(AtomicUsize::new(0));
    let counted = revoked.clone();
    let writes = tokio::spawn(async move {
        for n in 0_usize.. {
            let before = counted.load(Ordering::SeqCst);
            if client.write_all(format!("4\r\n{}{n:03}\r\n", before.min(1)).as_bytes()).await.is_err() {
                return n;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        0
    });
    read_until(&mut server, b"0005").await;
    site.revoke(&issued).await;
    watched(&site, 0).await;
    revoked.store(1, Ordering::SeqCst);
    let late = rest(&mut server).await;
    assert!(!late.windows(2).any(|two| two == b"\n1"), "{:?}", String::from_utf8_lossy(&late));
    assert!(writes.await.unwrap() > 5);
    site.stop().await;
}

#[tokio::test]
async fn a_reader_that_sleeps_keeps_neither_connection_after_the_end() {
    for ends in Ending::ALL {
        let upstream = Upstream::new().await;
        let mut site = upstream.site(&ends.policy()).await;
        let (issued, token) = site.issue("laptop").await;
        let mut client = begin(&site, "GET /download", &token, "").await;
        let mut server = upstream.answer("HTTP/1.1 200 OK\r\n\r\n").await;
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = sent.clone();
        let sending = tokio::spawn(async move {
            let piece = vec![b'x'; 64 * 1024];
            while server.write_all(&piece).await.is_ok() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut before = 0;
        until("a standstill", async || {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = sent.load(Ordering::SeqCst);
            std::mem::replace(&mut before, now) == now && now > 0
        })
        .await;
        ends.happen(&mut site, &issued).await;
        tokio::time::timeout(TEST_TIMEOUT, sending)
            .await
            .unwrap_or_else(|_| panic!("{ends:?}: it pins the upstream"))
            .unwrap();
        watched(&site, 0).await;
        rest(&mut client).await;
    }
}

#[tokio::test]
async fn a_stream_of_http_2_with_a_zero_window_is_reset_and_its_connection_stays() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let certificate = certify(&files);
    let upstream = Upstream::new().await;
    let site = GatewayFixture::with(Some(upstream.1), Policy::default(), |options| {
        options.tls = Some(files);
        options.limits.stall = NEVER;
    })
    .await;
    let io = connect(site.address, &certificate, b"h2").await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(0);
    let (mut sender, connection) = builder.handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    let ask = |token: &str| {
        let request = http::Request::builder().uri("https://tenure.test/path");
        request.header("authorization", format!("Bearer {token}"))
    };
    let (other, others) = site.issue("other").await;
    // One answer that is small and not there yet, one that is, one without an end.
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\nsmall",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhole",
        EARLY,
    ] {
        let (issued, token) = site.issue("laptop").await;
        let request = ask(&token).body(Empty::<Bytes>::new().boxed()).unwrap();
        let (response, mut server) = tokio::join!(sender.send_request(request), upstream.answer(answer));
        let response = response.unwrap();
        assert_eq!(response.status(), 200);
        watched(&site, 1).await;
        site.revoke(&issued).await;
        let error = tokio::time::timeout(TEST_TIMEOUT, response.into_body().collect()).await.expect("it stays open");
        assert!(error.is_err(), "{answer:?}: a stream that was cut must not look whole");
        assert_eq!(rest(&mut server).await, b"", "{answer:?}");
        watched(&site, 0).await;
    }
    // An upload in whose answer nothing can be read.
    let (issued, token) = site.issue("laptop").await;
    let (chunks, body) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, std::convert::Infallible>>(1);
    let body = futures_util::stream::unfold(body, async |mut body| body.recv().await.map(|chunk| (chunk, body)));
    let request = ask(&token).method("POST").body(StreamBody::new(Box::pin(body)).boxed()).unwrap();
    let (response, mut server) = tokio::join!(sender.send_request(request), upstream.answer(EARLY));
    chunks.send(Ok(Frame::data(Bytes::from_static(b"first")))).await.unwrap();
    read_until(&mut server, b"first").await;
    watched(&site, 1).await;
    site.revoke(&issued).await;
    assert_eq!(rest(&mut server).await, b"");
    assert!(
        tokio::time::timeout(TEST_TIMEOUT, response.unwrap().into_body().collect()).await.expect("an end").is_err()
    );
    until("the end of the upload", async || chunks.send(Ok(Frame::data(Bytes::from_static(b"later")))).await.is_err())
        .await;
    // The connection still serves who is not concerned.
    let request = ask(&others).body(Empty::<Bytes>::new().boxed()).unwrap();
    let (response, _server) =
        tokio::join!(sender.send_request(request), upstream.answer("HTTP/1.1 204 No Content\r\n\r\n"));
    assert_eq!(response.unwrap().status(), 204);
    site.revoke(&other).await;
    site.stop().await;
}

#[tokio::test]
async fn who_uses_the_same_connections_later_is_not_concerned() {
    let upstream = Upstream::new().await;
    let site = upstream.site(&Ending::Revoked.policy()).await;
    let ((first, one), (second, two)) = (site.issue("a").await, site.issue("b").await);
    let mut client = begin(&site, "POST /a", &one, "content-length: 3\r\n").await;
    let (mut server, ()) = tokio::join!(upstream.answer(""), async {
        watched(&site, 1).await;
        client.write_all(b"abc").await.unwrap();
    });
    read_until(&mut server, b"abc").await;
    server.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
    read_until(&mut client, b"done").await;
    let head = format!("POST /b HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {two}\r\ncontent-length: 0\r\n\r\n");
    client.write_all(head.as_bytes()).await.unwrap();
    // On the same connection of the pool.
    read_until(&mut server, b"\r\n\r\n").await;
    server.write_all(EARLY.as_bytes()).await.unwrap();
    read_until(&mut client, b"early").await;
    watched(&site, 1).await;
    site.revoke(&first).await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        server.write_all(b"4\r\nmore\r\n").await.unwrap();
        read_until(&mut client, b"more").await;
    }
    site.revoke(&second).await;
    assert_eq!(rest(&mut server).await, b"");
    rest(&mut client).await;
    site.stop().await;
}
