//! A gateway of a few lines, and raw WebSocket peers.

use std::net::SocketAddr;
use std::time::Duration;

use axum::response::IntoResponse as _;
use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tenure_domain::{Policy, Session};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::super::*;
use crate::gateway::Gateway;
use crate::proxy::openclaw;
use crate::{Options, SharedSecret};
use tenure_adapter_memory::MemoryStore;
use tenure_conformance::{RuntimeClock, SessionsFixture};
use tenure_tower::Peer;

/// Nothing here takes longer; a machine under load may.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// A fixture, and a gateway over it whose clients all have the same session.
pub(crate) struct Harness {
    pub(crate) fixture: SessionsFixture,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) session: Session,
    pub(crate) address: SocketAddr,
}

impl Harness {
    /// A gateway in front of `upstream`, for a session of this length.
    pub(crate) async fn new(upstream: SocketAddr, ttl: Duration) -> Self {
        Self::with(upstream, ttl, false).await
    }

    /// A gateway in front of an OpenClaw.
    pub(crate) async fn openclaw(upstream: SocketAddr) -> Self {
        Self::with(upstream, Duration::from_secs(3_600), true).await
    }

    async fn with(upstream: SocketAddr, ttl: Duration, openclaw: bool) -> Self {
        let clock = RuntimeClock::new();
        let fixture = SessionsFixture::new(MemoryStore::new(clock.clone()), clock, Policy::default());
        let session = fixture.issue("laptop", ttl).await.session;
        let options = Options::new(SharedSecret::new("admin").unwrap());
        let gateway = Gateway::new(Arc::clone(&fixture.sessions), options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (serving, served) = (Arc::clone(&gateway), session.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let (gateway, session) = (Arc::clone(&serving), served.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let session = (!openclaw).then(|| session.clone());
                    answer(Arc::clone(&gateway), session, upstream, request.map(Body::new))
                });
                tokio::spawn(async move {
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ = server.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                });
            }
        });
        Self { fixture, gateway, session, address }
    }

    /// A WebSocket through the gateway.
    pub(crate) async fn connect(&self) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
        let config = WebSocketConfig::default();
        let url = format!("ws://{}/chat?room=1", self.address);
        let connected = tokio_tungstenite::connect_async_with_config(url, Some(config), true).await;
        connected.unwrap().0
    }

    /// The same, as bytes.
    pub(crate) async fn connect_raw(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        stream
    }

    /// Waits until the clock shows another time than the session's last activity.
    pub(crate) async fn later(&self) {
        while self.fixture.sessions.now() <= self.session.last_activity {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until no connection is left.
    pub(crate) async fn emptied(&self) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let is_counted = || self.gateway.metrics().render().lines().any(|line| line == "tenure_websockets 0");
        while self.gateway.enforcer().connections().counts().connections > 0 || !is_counted() {
            assert!(Instant::now() < deadline, "{:?}", self.gateway.enforcer().connections().counts());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

async fn answer(
    gateway: Arc<Gateway>,
    session: Option<Session>,
    upstream: SocketAddr,
    mut request: Request<Body>,
) -> Result<Response<Body>, std::convert::Infallible> {
    request.headers_mut().insert("x-seen", HeaderValue::from_static("gateway"));
    let guard = session.map(|session| gateway.enforcer().connections().register(&session));
    let Ok(io) = TcpStream::connect(upstream).await else {
        return Ok(Problem::BadGateway("the upstream cannot be reached".to_owned()).into_response());
    };
    io.set_nodelay(true).unwrap();
    let opened = match guard {
        Some(guard) => open(&gateway, request, io, guard).await,
        None => {
            request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("203.0.113.9"));
            let address = [203, 0, 113, 9].into();
            let peer = Peer { address, remote: address, trusted: false, secure: false, host: None };
            openclaw::open(&gateway, &peer, request, io).await.map(WebSocketOutcome::Switched)
        }
    };
    Ok(match opened {
        Ok(WebSocketOutcome::Switched(response)) => response,
        Ok(WebSocketOutcome::Declined(response, guard)) => {
            drop(guard);
            response.map(Body::new)
        }
        Err(problem) => problem.into_response(),
    })
}

/// An upstream that sends back each message.
pub(crate) async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                use futures_util::{SinkExt as _, StreamExt as _};
                let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if matches!(message, Message::Text(_) | Message::Binary(_)) && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// An upstream whose one connection is the test's to play.
pub(crate) struct ScriptedUpstream {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
}

impl ScriptedUpstream {
    pub(crate) async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { listener, address }
    }

    /// Takes the next connection, with the head of its request.
    pub(crate) async fn accept(&self) -> (TcpStream, String) {
        let (mut stream, _) = timeout(TEST_TIMEOUT, self.listener.accept()).await.expect("nobody came").unwrap();
        stream.set_nodelay(true).unwrap();
        let head = read_head(&mut stream).await;
        (stream, head)
    }

    /// Takes the next connection and switches it to WebSocket, with further lines in the answer.
    pub(crate) async fn switch(&self, lines: &str) -> (TcpStream, String) {
        let (mut stream, head) = self.accept().await;
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{lines}\r\n"
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        (stream, head)
    }
}

/// The head of a message, byte by byte, so that nothing after it is taken.
pub(crate) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(TEST_TIMEOUT, stream.read_u8()).await.expect("no head").unwrap();
        head.push(byte);
    }
    String::from_utf8(head).unwrap()
}

/// All that still comes, and whether the connection was closed and not reset.
pub(crate) async fn read_rest(stream: &mut TcpStream) -> (Vec<u8>, bool) {
    let (mut rest, mut room) = (Vec::new(), [0; 4096]);
    loop {
        match timeout(TEST_TIMEOUT, stream.read(&mut room)).await.expect("it stays open") {
            Ok(0) => return (rest, true),
            Ok(n) => rest.extend(&room[..n]),
            Err(_) => return (rest, false),
        }
    }
}
