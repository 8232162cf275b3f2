//! Pages of other origins: those that are named, and all others.

use axum::Router;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use axum::routing::any;
use tenure_domain::Policy;
use tenure_tower::PublicPath;

use crate::support::site::{GatewayFixture, Reply, echo, serve};

const BOARD: &str = "https://board.example";

async fn site(origins: &[&str]) -> GatewayFixture {
    GatewayFixture::with(Some(echo().await), Policy::default(), |options| {
        options.cors_origins = origins.iter().map(|&origin| origin.to_owned()).collect();
        options.public_paths = vec![PublicPath("/open/".to_owned())];
    })
    .await
}

fn cors_headers(reply: &Reply) -> Vec<&str> {
    let names = reply.headers.iter().map(|(name, _)| name.as_str());
    names.filter(|name| name.starts_with("access-control-")).collect()
}

/// All of the ways in, with the status that each comes to without a token.
const PATHS: [(&str, u16); 6] = [
    ("/", 401),
    ("/open/a", 200),
    ("/_tenure/v1/sessions", 401),
    ("/_tenure/login", 200),
    ("/_tenure/auth", 401),
    ("/_tenure/nothing", 404),
];

#[tokio::test]
async fn no_cors_header_is_sent_unless_an_origin_is_named() {
    let site = site(&[]).await;
    let (_, token) = site.issue("laptop").await;
    let bearer = format!("authorization: Bearer {token}");
    for origin in ["https://evil.test", "null", BOARD, "http://tenure.test"] {
        let line = format!("origin: {origin}");
        for (path, status) in PATHS {
            let reply = site.get(path, &[&line]).await;
            assert_eq!((reply.status, cors_headers(&reply)), (status, vec![]), "{origin} {path}");
        }
        assert_eq!(cors_headers(&site.get("/", &[&line, &bearer]).await), Vec::<&str>::new());
        let lines = [&*line, "access-control-request-method: POST", "access-control-request-headers: authorization"];
        for path in ["/", "/_tenure/v1/sessions"] {
            let reply = site.ask("OPTIONS", path, &lines, "").await;
            assert!(reply.status >= 400 && cors_headers(&reply).is_empty(), "{origin} {path}: {reply:?}");
        }
    }
    site.stop().await;
}

#[tokio::test]
async fn a_page_of_a_named_origin_may_ask_with_a_token_and_reads_also_why_not() {
    let site = site(&[BOARD, "http://localhost:5173"]).await;
    let (issued, token) = site.issue("laptop").await;
    let (origin, bearer) = (format!("origin: {BOARD}"), format!("authorization: Bearer {token}"));
    let preflight =
        [&*origin, "access-control-request-method: DELETE", "access-control-request-headers: authorization,x-mine"];
    for path in ["/", "/open/a", "/_tenure/v1/session"] {
        let reply = site.ask("OPTIONS", path, &preflight, "").await;
        assert_eq!((reply.status, reply.body.as_str()), (204, ""), "{path}: it reaches no upstream");
        for (name, value) in [
            ("access-control-allow-origin", BOARD),
            ("access-control-allow-methods", "DELETE"),
            ("access-control-allow-headers", "authorization,x-mine"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{path}");
        }
    }
    for (path, status) in PATHS {
        let reply = site.get(path, &[&origin]).await;
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (status, Some(BOARD)), "{path}");
        assert!(reply.headers.contains(&("vary".to_owned(), "origin".to_owned())), "{reply:?}");
        assert_eq!(reply.header("access-control-allow-credentials"), None, "no cookie goes along");
    }
    let reply = site.get("/", &[&origin, &bearer]).await;
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, Some(BOARD)));
    // A cache may keep what the upstream answers, and must not give it to a page of another origin.
    for line in ["x: y", "origin: https://evil.test"] {
        let reply = site.get("/open/a", &[line]).await;
        assert_eq!((reply.header("vary"), cors_headers(&reply)), (Some("origin"), vec![]), "{line}");
    }
    site.revoke(&issued).await;
    for _ in 0..11 {
        site.get("/", &[&origin, "authorization: Bearer tnr_wrong"]).await;
    }
    let limited = site.get("/", &[&origin, "authorization: Bearer tnr_wrong"]).await;
    site.store.set_down(true);
    let down = site.get("/", &[&origin, &bearer]).await;
    for (reply, status) in [(limited, 429), (down, 503)] {
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (status, Some(BOARD)));
        assert!(reply.header("access-control-expose-headers").unwrap().contains("Retry-After"));
    }
    site.stop().await;
}

#[tokio::test]
async fn origins_are_compared_whole_and_a_cookie_changes_nothing_for_them() {
    let site = site(&[BOARD]).await;
    let (issued, token) = site.issue("laptop").await;
    let preflight = "access-control-request-method: POST";
    for origin in ["http://board.example", "https://board.example:8443", "https://a.board.example", "null", "*"] {
        let line = format!("origin: {origin}");
        let reply = site.ask("OPTIONS", "/", &[&line, preflight], "").await;
        assert_eq!((reply.status, cors_headers(&reply)), (401, vec![]), "{origin}");
    }
    let twice = [&*format!("origin: {BOARD}"), "origin: https://evil.test", preflight];
    assert_eq!(cors_headers(&site.ask("OPTIONS", "/", &twice, "").await), Vec::<&str>::new());
    let (origin, cookie) = (format!("origin: {BOARD}"), format!("cookie: tenure={token}"));
    for line in [&*origin, "x: y"] {
        let reply = site.ask("DELETE", "/_tenure/v1/session", &[&origin, &cookie, line], "").await;
        assert!([400, 403].contains(&reply.status), "{reply:?}");
    }
    let refused = site.ask("DELETE", "/_tenure/v1/session", &[&origin, &cookie], "").await;
    refused.is_problem(403, "forbidden");
    assert_eq!(refused.header("access-control-allow-origin"), Some(BOARD), "the page may read why");
    assert!(site.sessions.get(issued.session.id).await.unwrap().unwrap().end.is_none());
    // Nor does the gateway answer another proxy's question as if it were its own.
    let asked = site.ask("OPTIONS", "/_tenure/auth/x", &[&origin, preflight], "").await;
    assert_eq!(asked.status, 401);
    site.stop().await;
}

#[tokio::test]
async fn what_the_upstream_says_of_origins_itself_stays() {
    let said = any(async || {
        let mut headers = HeaderMap::new();
        headers.insert("access-control-allow-origin", "https://other.example".parse().unwrap());
        headers.into_response()
    });
    let silent = any(async || [("access-control-allow-credentials", "true")]);
    let upstream = serve(Router::new().route("/said", said).route("/silent", silent)).await;
    let site = GatewayFixture::with(Some(upstream), Policy::default(), |options| {
        options.cors_origins = vec![BOARD.to_owned()];
    })
    .await;
    let (_, token) = site.issue("laptop").await;
    let lines = [&*format!("origin: {BOARD}"), &*format!("authorization: Bearer {token}")];
    let said = site.get("/said", &lines).await;
    assert_eq!(said.header("access-control-allow-origin"), Some("https://other.example"));
    let silent = site.get("/silent", &lines).await;
    assert_eq!(silent.header("access-control-allow-origin"), Some(BOARD));
    assert_eq!(silent.header("access-control-allow-credentials"), None);
    site.stop().await;
}
