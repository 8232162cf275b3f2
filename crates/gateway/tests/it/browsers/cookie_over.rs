//! A cookie is taken from the browser once its session is over, and only then.

use tenure_domain::{Family, Millis, Policy, PolicySettings, RotationSecret, Secret, Token};
use tenure_tower::TenureLayer;
use tower::ServiceExt as _;

use crate::support::site::{GatewayFixture, Reply, echo, serve, until};

async fn site(policy: Policy) -> GatewayFixture {
    GatewayFixture::with(Some(echo().await), policy, |options| {
        options.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await
}

fn is_cleared(reply: &Reply) -> bool {
    reply.headers.iter().any(|(name, value)| name == "set-cookie" && value.starts_with("tenure=; Max-Age=0"))
}

/// Every kind of path with what a browser sends there.
const WAYS: [(&str, &str, &[&str], u16); 7] = [
    ("GET", "/", &[], 401),
    ("GET", "/", &["accept: text/html"], 303),
    ("GET", "/_tenure/auth", &[], 401),
    ("GET", "/_tenure/v1/sessions", &[], 401),
    ("POST", "/_tenure/v1/token/rotate", &["origin: http://tenure.test"], 401),
    ("DELETE", "/_tenure/v1/session", &["origin: http://tenure.test"], 401),
    ("GET", "/_tenure/login", &["accept: text/html"], 200),
];

/// Shows this cookie on each kind of path, from an address of its own, and in the layer.
async fn show(site: &GatewayFixture, cookie: &str, from: u8, over: bool) {
    let (line, from) = (format!("cookie: {cookie}"), format!("x-forwarded-for: 203.0.113.{from}"));
    for (method, path, lines, status) in WAYS {
        let lines: Vec<&str> = lines.iter().copied().chain([&*line, &*from]).collect();
        let reply = site.ask(method, path, &lines, "").await;
        assert_eq!((reply.status, is_cleared(&reply)), (status, over), "{method} {path} {cookie}: {reply:?}");
    }
    let app = axum::Router::new().fallback(async || "in").layer(TenureLayer::new(site.gateway.enforcer().clone()));
    let request = http::Request::builder().uri("/").header("cookie", cookie);
    let response = app.oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().contains_key("set-cookie")), (401, over), "{cookie}");
}

#[tokio::test]
async fn a_cookie_is_taken_when_its_session_is_over() {
    let settings = PolicySettings { max_sessions_per_device: Some(1), ..PolicySettings::default() };
    let site = site(Policy::new(&settings).unwrap()).await;
    let (revoked, revoked_token) = site.issue("revoked").await;
    site.revoke(&revoked).await;
    let (out, out_token) = site.issue("out").await;
    site.sessions.log_out(&out.session).await.unwrap();
    let (_, evicted) = site.issue("evicted").await;
    site.issue("evicted").await;
    let (replayed, replayed_token) = site.issue("replayed").await;
    site.sessions.rotate(&replayed.token).await.unwrap();
    let (_, expired) = site.issue("expired").await;
    let (other, _) = site.issue("other").await;
    let unknown = Token::new(revoked.session.id, other.token.secret().clone()).to_text().expose().to_owned();
    site.clock.pass(Millis::new(60_000));
    let ended =
        [("revoked", revoked_token), ("logged_out", out_token), ("evicted", evicted), ("replayed", replayed_token)];
    for (n, (code, token)) in (1..).zip(ended.into_iter().chain([("unknown", unknown)])) {
        let line = format!("cookie: tenure={token}");
        site.get("/", &[&line, &format!("x-forwarded-for: 203.0.113.{n}")]).await.is_problem(401, code);
        show(&site, &format!("a=1; tenure={token}"), n, true).await;
    }
    site.clock.pass(Millis::new(24 * 3_600_000));
    show(&site, &format!("tenure={expired}"), 99, true).await;
    site.stop().await;
}

#[tokio::test]
async fn a_session_that_ends_while_its_request_waits_takes_its_cookie_along() {
    let settings = PolicySettings { idle_timeout: Some(Millis::seconds(30)), ..PolicySettings::default() };
    let site = site(Policy::new(&settings).unwrap()).await;
    let (_, idle) = site.issue("idle").await;
    site.clock.pass(Millis::new(31_000));
    show(&site, &format!("tenure={idle}"), 1, true).await;
    site.stop().await;

    let never = axum::Router::new().fallback(async || std::future::pending::<()>().await);
    let site = GatewayFixture::before(serve(never).await).await;
    let (issued, token) = site.issue("laptop").await;
    let line = format!("cookie: tenure={token}");
    let lines = [&*line];
    let (reply, ()) = tokio::join!(site.get("/", &lines), async {
        until("the request", async || site.gateway.enforcer().connections().counts().connections == 1).await;
        site.revoke(&issued).await;
    });
    assert_eq!((reply.status, is_cleared(&reply)), (401, true), "{reply:?}");
    site.stop().await;
}

#[tokio::test]
async fn a_cookie_stays_where_its_session_may_live_on() {
    let site = site(Policy::default()).await;
    let (rotated, old) = site.issue("rotated").await;
    site.sessions.rotate(&rotated.token).await.unwrap();
    show(&site, &format!("tenure={old}"), 1, false).await;
    show(&site, "tenure=nonsense", 2, false).await;
    // A log-out with a token that was replaced ends nothing, and says so.
    let lines = [&*format!("cookie: tenure={old}"), "origin: http://tenure.test"];
    let out = site.ask("POST", "/_tenure/logout", &lines, "").await;
    assert_eq!((out.status, is_cleared(&out)), (401, false), "{out:?}");
    assert!(out.body.contains("has not ended"), "{out:?}");

    let (_, token) = site.issue("laptop").await;
    let line = format!("cookie: tenure={token}");
    site.store.set_down(true);
    for (method, path, lines, _) in WAYS {
        let lines: Vec<&str> = lines.iter().copied().chain([&*line]).collect();
        let reply = site.ask(method, path, &lines, "").await;
        assert_eq!((reply.status, is_cleared(&reply)), (503, false), "{method} {path}: {reply:?}");
    }
    site.store.set_down(false);
    // Whoever guesses is told to wait, and what he shows is not judged.
    let mut statuses = Vec::new();
    for n in 0..30 {
        let secret = Secret::new(&Family::new([n; 16]), &RotationSecret::new([n; 16]));
        let forged = Token::new(rotated.session.id, secret);
        let reply = site.get("/", &[&format!("cookie: tenure={}", forged.to_text().expose())]).await;
        assert_eq!(is_cleared(&reply), reply.status == 401, "{reply:?}");
        statuses.push(reply.status);
    }
    assert!(statuses.contains(&401) && statuses.contains(&429), "{statuses:?}");
    site.stop().await;
}
