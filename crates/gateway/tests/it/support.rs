//! A gateway's routers over a store in memory.

pub(crate) mod programs;
pub(crate) mod site;
pub(crate) mod witness;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::response::Response;
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::Value;
use tenure_adapter_memory::MemoryStore;
use tenure_conformance::{FaultyStore, SeededRandom, TestClock};
use tenure_domain::{ClientInfo, DeviceId, Policy, Subject, Timestamp};
use tenure_gateway::{EnrolmentOptions, Gateway, Options, SharedSecret};
use tenure_service::{IssueRequest, Issued, Sessions};
use tenure_tower::Peer;
use tower::ServiceExt as _;

/// The time at which every test begins: a day in 2026.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

pub(crate) const ADMIN: &str = "the admin secret of the house";
pub(crate) const ENROL: &str = "the enrolment secret of the house";

pub(crate) struct ApiFixture {
    pub(crate) store: Arc<FaultyStore>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) api: Router,
    pub(crate) admin: Router,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// All the values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("cache-control"), "no-store");
        assert_eq!(self.json()["code"], code, "{self:?}");
        assert_eq!(self.json()["status"], status);
    }
}

/// A request that is put together piece by piece.
pub(crate) struct Ask {
    request: http::request::Builder,
    body: Body,
    from: IpAddr,
    proxy: Option<IpAddr>,
}

/// Where requests come from, if nothing else is said.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

pub(crate) fn ask(method: Method, path: &str) -> Ask {
    Ask::of(method, path).header("host", "127.0.0.1:8470")
}

impl Ask {
    /// One without a host.
    pub(crate) fn of(method: Method, path: &str) -> Self {
        Self { request: Request::builder().method(method).uri(path), body: Body::empty(), from: ADDRESS, proxy: None }
    }

    /// From another address.
    pub(crate) const fn from(mut self, address: IpAddr) -> Self {
        self.from = address;
        self
    }

    /// Through a proxy that is trusted.
    pub(crate) const fn through(mut self, proxy: IpAddr) -> Self {
        self.proxy = Some(proxy);
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub(crate) fn bearer(self, text: &str) -> Self {
        self.header("authorization", &format!("Bearer {text}"))
    }

    pub(crate) fn json(mut self, value: &Value) -> Self {
        self.body = Body::from(value.to_string());
        self.header("content-type", "application/json")
    }

    pub(crate) fn form(mut self, pairs: &[(&str, &str)]) -> Self {
        let text = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.body = Body::from(text);
        self.header("content-type", "application/x-www-form-urlencoded")
    }

    pub(crate) fn body(mut self, text: impl Into<Body>) -> Self {
        self.body = text.into();
        self
    }

    /// The response as it comes, for what does not end.
    pub(crate) async fn open(self, router: &Router) -> Response {
        let mut request = self.request.body(self.body).unwrap();
        // As the listener does.
        let secure = request.headers().get("x-test-tls").is_some();
        let host = request.headers().get("host").cloned();
        let (remote, trusted) = (self.proxy.unwrap_or(self.from), self.proxy.is_some());
        request.extensions_mut().insert(Peer { address: self.from, remote, trusted, secure, host });
        router.clone().oneshot(request).await.unwrap()
    }

    pub(crate) async fn send(self, router: &Router) -> Answer {
        let (parts, body) = self.open(router).await.into_parts();
        let bytes = to_bytes(body, 16 << 20).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }
}

impl ApiFixture {
    pub(crate) fn new() -> Self {
        Self::with(Policy::default(), |_| {})
    }

    pub(crate) fn with(policy: Policy, change: impl FnOnce(&mut Options)) -> Self {
        let clock = TestClock::at(START);
        let store = FaultyStore::new(MemoryStore::new(clock.clone()));
        // Small pages, so that every walk has several steps.
        store.limit_pages(3);
        let random = Arc::new(SeededRandom::new(1));
        let sessions = Arc::new(Sessions::new(store.clone(), clock.clone(), random, policy));
        let mut options = Options::new(SharedSecret::new(ADMIN).unwrap());
        options.enrolment = Some(EnrolmentOptions {
            secret: SharedSecret::new(ENROL).unwrap(),
            subject: Subject::new("alice").unwrap(),
        });
        change(&mut options);
        let gateway = Gateway::new(sessions.clone(), options);
        let (api, admin) = (tenure_gateway::api::router(gateway.clone()), tenure_gateway::admin::router(gateway));
        Self { store, clock, sessions, api, admin }
    }

    /// A session, and its token's text.
    pub(crate) async fn issue(&self, device: &str, subject: &str) -> (Issued, String) {
        let issued = self
            .sessions
            .issue(IssueRequest {
                device: DeviceId::new(device).unwrap(),
                subject: Subject::new(subject).unwrap(),
                client: ClientInfo::default(),
                ttl: None,
            })
            .await
            .unwrap();
        let text = issued.token.to_text().expose().to_owned();
        (issued, text)
    }
}

/// Shows something wrong so often that its address must wait.
pub(crate) async fn lock_out(router: &Router, wrong: impl Fn() -> Ask) {
    for n in 1..=11 {
        let answer = wrong().send(router).await;
        assert_eq!(answer.status.as_u16(), if n <= 10 { 401 } else { 429 }, "failure {n}: {answer:?}");
    }
}
