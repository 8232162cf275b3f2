//! The layer around an axum service.

use axum::body::Body;
use axum::response::IntoResponse as _;
use axum::routing::get;
use axum::{Router, extract::Request};
use bytes::Bytes;
use futures_util::stream;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, Full};
use std::net::{Ipv4Addr, SocketAddr};
use tenure_tower::Connection;
use tenure_tower::{CurrentSession, EnforcementConfig, PublicPath};
use tower::ServiceExt as _;

use crate::support::{LayerFixture, TEST_TIMEOUT};

fn config() -> EnforcementConfig {
    EnforcementConfig { public_paths: vec![PublicPath("/open".to_owned())], ..EnforcementConfig::default() }
}

fn app(site: &LayerFixture) -> Router {
    let whoami = async |current: CurrentSession, headers: HeaderMap| {
        assert!(headers.get("authorization").is_none() && headers.get("x-forwarded-user").is_none(), "{headers:?}");
        current.session().subject.to_string()
    };
    let open = async |current: Option<CurrentSession>| format!("{:?}", current.map(|_| "somebody"));
    let endless = async || {
        let ticks = stream::unfold((), |()| async {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            Some((Ok::<_, std::convert::Infallible>(Bytes::from_static(b"tick")), ()))
        });
        Body::from_stream(ticks).into_response()
    };
    Router::new().route("/", get(whoami)).route("/open", get(open)).route("/endless", get(endless)).layer(site.layer())
}

fn request(path: &str, token: Option<&str>) -> Request {
    let mut request = Request::builder().uri(path).header("x-forwarded-user", "root");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Body::empty()).unwrap()
}

async fn ask(app: &Router, path: &str, token: Option<&str>) -> (StatusCode, String) {
    let response = app.clone().oneshot(request(path, token)).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8_lossy(&bytes).into_owned())
}

#[tokio::test]
async fn a_service_sees_the_session_and_not_the_token() {
    let site = LayerFixture::new(config());
    let app = app(&site);
    let (issued, token) = site.issue("laptop").await;
    assert_eq!(ask(&app, "/", Some(&token)).await, (StatusCode::OK, "operator".to_owned()));
    let (status, problem) = ask(&app, "/", None).await;
    assert!(status == StatusCode::UNAUTHORIZED && problem.contains("token_required"), "{problem}");
    assert_eq!(ask(&app, "/open", None).await, (StatusCode::OK, "None".to_owned()));
    site.revoke(&issued).await;
    let (status, problem) = ask(&app, "/", Some(&token)).await;
    assert!(status == StatusCode::UNAUTHORIZED && problem.contains("revoked"), "{problem}");
}

/// What only the gateway or a trusted proxy may say. `header_fields` has every name and spelling.
const CLAIMS: [&str; 14] = [
    "X-Forwarded-User: root",
    "X_Forwarded_User: root",
    "X.Forwarded.User: root",
    "Remote-User: root",
    "X-Tenure-Session: s_1",
    "X_TENURE_ANYTHING: 1",
    "Tailscale-User-Login: root",
    "X-Original-URL: /admin",
    "X-HTTP-Method-Override: DELETE",
    "Forwarded: for=192.0.2.9;host=evil.test;proto=https",
    "X-Real-IP: 192.0.2.9",
    "X_Forwarded_For: 192.0.2.9",
    "Transfer_Encoding: chunked",
    "Cookie_: tenure=1",
];

#[tokio::test]
async fn a_service_is_told_nothing_that_a_client_made_up() {
    let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap()];
    let site = LayerFixture::new(EnforcementConfig { trusted_proxies, ..config() });
    let tell = async |request: Request| {
        let mut names: Vec<_> = request.headers().iter().map(|(name, value)| format!("{name}: {value:?}")).collect();
        names.sort_unstable();
        names.join("\n")
    };
    let app = Router::new().fallback(tell).layer(site.layer());
    let (_, token) = site.issue("laptop").await;
    for from in [None, Some("203.0.113.7"), Some("10.0.0.1")] {
        for path in ["/", "/open"] {
            let mut request = Request::builder().uri(format!("http://tenure.test{path}"));
            for claim in CLAIMS {
                let (name, value) = claim.split_once(": ").unwrap();
                request = request.header(name, value);
            }
            request = request.header("x-forwarded-for", "192.0.2.1").header("x-forwarded-proto", "wss");
            let mut request = request.header("authorization", format!("Bearer {token}")).body(Body::empty()).unwrap();
            if let Some(from) = from {
                let from = SocketAddr::new(from.parse().unwrap(), 1);
                request.extensions_mut().insert(axum::extract::ConnectInfo(from));
            }
            let response = app.clone().oneshot(request).await.unwrap();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            let told = String::from_utf8_lossy(&bytes).into_owned();
            let (address, scheme) = match from {
                None => {
                    assert_eq!(told, "host: \"tenure.test\"", "{path}");
                    continue;
                }
                Some("10.0.0.1") => ("192.0.2.1, 10.0.0.1", "https"),
                Some(other) => (other, "http"),
            };
            let expected = format!(
                "host: \"tenure.test\"\nx-forwarded-for: \"{address}\"\nx-forwarded-host: \"tenure.test\"\n\
                 x-forwarded-proto: \"{scheme}\""
            );
            assert_eq!(told, expected, "{path} from {from:?}");
        }
    }
    let (parts, ()) = http::Request::builder().uri("/open").header("host", "a/b@c d").body(()).unwrap().into_parts();
    let refused = app.oneshot(Request::from_parts(parts, Body::empty())).await.unwrap();
    assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_response_that_lasts_is_cut_when_its_session_ends() {
    let site = LayerFixture::new(config());
    let (issued, token) = site.issue("laptop").await;
    let response = app(&site).oneshot(request("/endless", Some(&token))).await.unwrap();
    let mut body = response.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "tick");
    site.revoke(&issued).await;
    let cut = tokio::time::timeout(TEST_TIMEOUT, async {
        loop {
            if let Err(error) = body.frame().await.expect("no end") {
                return error.to_string();
            }
        }
    });
    assert!(cut.await.expect("a cut").contains("revoked"));
}

#[tokio::test]
async fn a_request_whose_body_lasts_is_cut_when_its_session_ends() {
    let site = LayerFixture::new(config());
    let (issued, token) = site.issue("laptop").await;
    let (arrived, mut arrives) = tokio::sync::mpsc::channel(64);
    // Answers at once, with a body that nobody reads, and goes on reading.
    let upload = async move |request: Request| {
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map(|frame| frame.into_data().unwrap()).map_err(|error| error.to_string());
                arrived.send(frame).await.unwrap();
            }
        });
        Body::from_stream(stream::pending::<Result<Bytes, std::convert::Infallible>>()).into_response()
    };
    let app = Router::new().route("/", axum::routing::post(upload)).layer(site.layer());
    let (chunks, body) = tokio::sync::mpsc::channel::<Result<Bytes, std::convert::Infallible>>(1);
    let body = stream::unfold(body, async |mut body| body.recv().await.map(|chunk| (chunk, body)));
    let mut request = request("/", Some(&token));
    *request.method_mut() = http::Method::POST;
    *request.body_mut() = Body::from_stream(Box::pin(body));
    let _unread = app.oneshot(request).await.unwrap();
    chunks.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
    assert_eq!(arrives.recv().await.unwrap().unwrap(), "first");
    site.watched(1).await;
    site.revoke(&issued).await;
    let cut = tokio::time::timeout(TEST_TIMEOUT, arrives.recv()).await.expect("a cut").unwrap();
    assert!(cut.unwrap_err().contains("revoked"));
    for _ in 0..28 {
        let _ = chunks.send(Ok(Bytes::from_static(b"later"))).await;
    }
    assert!(arrives.recv().await.is_none(), "nothing came after the end");
    assert!(chunks.is_closed(), "and whoever sends is told");
}

#[tokio::test]
async fn a_store_that_is_down_is_a_503_and_its_place_is_not_told() {
    let site = LayerFixture::new(config());
    let app = app(&site);
    let (_, token) = site.issue("laptop").await;
    site.sessions.store.set_down(true);
    let (status, problem) = ask(&app, "/", Some(&token)).await;
    assert!(status == StatusCode::SERVICE_UNAVAILABLE && !problem.contains("secret-place"), "{problem}");
    site.sessions.store.set_down(false);
    assert_eq!(ask(&app, "/", Some(&token)).await.0, StatusCode::OK);
}

#[tokio::test]
async fn trailers_of_a_service_pass_and_those_of_a_client_do_not() {
    let site = LayerFixture::new(config());
    let (_, token) = site.issue("laptop").await;
    let trailers =
        |name: &'static str| HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("1"))]);
    let echo = async move |request: Request| {
        let collected = request.into_body().collect().await.unwrap();
        assert!(collected.trailers().is_none(), "{:?}", collected.trailers());
        let body = Full::new(collected.to_bytes()).with_trailers(std::future::ready(Some(Ok(trailers("grpc-status")))));
        Body::new(body).into_response()
    };
    let app = Router::new().fallback(echo).layer(site.layer());
    let sent = Full::new(Bytes::from_static(b"sent"))
        .with_trailers(std::future::ready(Some(Ok(trailers("x-forwarded-user")))));
    let mut request = request("/", Some(&token));
    *request.method_mut() = http::Method::POST;
    *request.body_mut() = Body::new(sent);
    let response = app.oneshot(request).await.unwrap();
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["grpc-status"], "1");
    assert_eq!(collected.to_bytes(), "sent");
}

#[tokio::test]
async fn failed_attempts_are_counted_by_the_address_that_the_server_tells() {
    let site = LayerFixture::new(config());
    let read = |extensions: &Extensions| {
        Some(Connection::new(SocketAddr::from((extensions.get::<Ipv4Addr>().copied()?, 1)), false))
    };
    let app = Router::new().fallback(async || "in").layer(site.layer().with_connection(read));
    let guess = async |from: u8, n: usize| {
        let wrong = format!("tnr_{n:086}");
        let mut request = request("/", Some(&wrong));
        request.extensions_mut().insert(Ipv4Addr::new(203, 0, 113, from));
        app.clone().oneshot(request).await.unwrap().status()
    };
    for n in 0..10 {
        assert_eq!(guess(1, n).await, StatusCode::UNAUTHORIZED, "{n}");
    }
    assert_eq!(guess(1, 10).await, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(guess(2, 11).await, StatusCode::UNAUTHORIZED);
}
