//! A whole gateway on loopback, with an upstream behind it, over the store in memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::routing::any;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tenure_adapter_memory::MemoryStore;
use tenure_conformance::{FaultyStore, SeededRandom, TestClock};
use tenure_domain::{ClientInfo, DeviceId, Policy, Subject};
use tenure_gateway::{Gateway, Options, Server, SharedSecret, Upstream};
use tenure_service::{IssueRequest, Issued, Sessions, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{ADMIN, START};

/// Nothing here takes longer; a machine under load may.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct GatewayFixture {
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl GatewayFixture {
    /// A gateway in front of this upstream.
    pub(crate) async fn before(upstream: SocketAddr) -> Self {
        Self::with(Some(upstream), Policy::default(), |_| {}).await
    }

    pub(crate) async fn with(upstream: Option<SocketAddr>, policy: Policy, change: impl FnOnce(&mut Options)) -> Self {
        let clock = TestClock::at(START);
        let store = FaultyStore::new(MemoryStore::new(clock.clone()));
        // Small pages, so that every walk has several steps.
        store.limit_pages(3);
        let random = Arc::new(SeededRandom::new(1));
        let sessions = Arc::new(Sessions::new(store.clone(), clock.clone(), random, policy));
        let mut options = Options::new(SharedSecret::new(ADMIN).unwrap());
        options.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        options.admin_listen = SocketAddr::from(([127, 0, 0, 1], 0));
        options.upstream = upstream.map(|address| Upstream {
            scheme: http::uri::Scheme::HTTP,
            authority: address.to_string().parse().unwrap(),
        });
        change(&mut options);
        let gateway = Gateway::new(sessions.clone(), options);
        let server = Server::bind(gateway.clone()).await.unwrap();
        let (address, admin) = (server.client_addr(), server.admin_addr());
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(async move {
            server.run(async move { drop(stopped.await) }).await.unwrap();
        });
        Self { store, clock, sessions, gateway, address, admin, stop: Some(stop), running }
    }

    /// A session, and its token's text.
    pub(crate) async fn issue(&self, device: &str) -> (Issued, String) {
        let request = IssueRequest {
            device: DeviceId::new(device).unwrap(),
            subject: Subject::new("alice").unwrap(),
            client: ClientInfo::default(),
            ttl: None,
        };
        let issued = self.sessions.issue(request).await.unwrap();
        let text = issued.token.to_text().expose().to_owned();
        (issued, text)
    }

    /// Revokes a session.
    pub(crate) async fn revoke(&self, issued: &Issued) {
        let target = Target::Ids(vec![issued.session.id]);
        self.sessions.revoke(&target, None, &Sessions::revocation(None, None)).await.unwrap();
    }

    /// Sends bytes as they are, and answers all that comes until the connection closes.
    pub(crate) async fn raw(&self, request: &str) -> String {
        send(self.address, request).await
    }

    /// A request without a body, with these lines of header, on a connection of its own.
    pub(crate) async fn get(&self, path: &str, lines: &[&str]) -> Reply {
        self.ask("GET", path, lines, "").await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, lines: &[&str], body: &str) -> Reply {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: tenure.test\r\nconnection: close\r\n");
        for line in lines {
            request += &format!("{line}\r\n");
        }
        if !body.is_empty() {
            request += &format!("content-length: {}\r\n", body.len());
        }
        Reply::parse(&self.raw(&format!("{request}\r\n{body}")).await)
    }

    /// Stops the gateway, and waits until it has.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        tokio::time::timeout(TEST_TIMEOUT, self.running).await.expect("an end").unwrap();
    }

    /// The end of the gateway begins.
    pub(crate) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }
}

/// Sends bytes as they are, and answers all that comes until the connection closes.
pub(crate) async fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that is reset has been answered all the same.
    let _ = tokio::time::timeout(TEST_TIMEOUT, stream.read_to_end(&mut answer)).await.expect("an end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// An answer, taken apart.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Reply {
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = if chunked { unchunk(body) } else { body.to_owned() };
        Self { status, headers, body }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.json()["code"], code, "{self:?}");
    }
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            break;
        }
        whole += &rest[..size];
        body = &rest[size + 2..];
    }
    whole
}

/// An upstream that tells what it was asked.
pub(crate) async fn echo() -> SocketAddr {
    serve(Router::new().fallback(any(tell))).await
}

pub(crate) async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

async fn tell(request: Request) -> axum::Json<Value> {
    let (parts, body) = request.into_parts();
    let bytes = Body::new(body).collect().await.unwrap().to_bytes();
    let mut headers = serde_json::Map::new();
    for name in parts.headers.keys() {
        let values: Vec<_> =
            parts.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        headers.insert(name.to_string(), json!(values.join(" | ")));
    }
    axum::Json(json!({
        "method": parts.method.as_str(),
        "target": parts.uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(&bytes),
    }))
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = tokio::time::Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < TEST_TIMEOUT, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
