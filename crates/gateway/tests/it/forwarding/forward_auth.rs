//! The answers to other proxies, and the others themselves with the configurations of docs/forward-auth.

use std::net::SocketAddr;

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::AUTHORIZATION;
use serde_json::Value;
use tenure_domain::{Millis, Policy, PolicySettings};
use tenure_tower::PublicPath;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::programs::{Other, Program};
use crate::support::site::{GatewayFixture, TEST_TIMEOUT, echo};

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

#[tokio::test]
async fn an_answer_says_whose_session_it_is_or_why_there_is_none() {
    let site = GatewayFixture::with(None, Policy::default(), |_| {}).await;
    let (issued, token) = site.issue("laptop").await;
    let reply = site.get("/_tenure/auth", &[&bearer(&token)]).await;
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("x-forwarded-user"), Some("alice"));
    assert_eq!(reply.header("x-tenure-session"), Some(&*issued.session.id.to_string()));
    assert_eq!(reply.header("x-tenure-device"), Some("laptop"));
    assert_eq!(reply.header("tenure-rotate"), None);
    assert!(reply.body.is_empty());
    assert_eq!(site.get("/_tenure/auth/some/path", &[&bearer(&token)]).await.status, 200, "as Envoy asks");
    let refused = site.get("/_tenure/auth", &[]).await;
    refused.is_problem(401, "token_required");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"tenure\""));
    site.get("/", &[&bearer(&token)]).await.is_problem(404, "not_found");
    site.store.set_down(true);
    site.get("/_tenure/auth", &[&bearer(&token)]).await.is_problem(503, "store_unavailable");
    site.store.set_down(false);
    site.revoke(&issued).await;
    site.get("/_tenure/auth", &[&bearer(&token)]).await.is_problem(401, "revoked");
    site.stop().await;
}

#[tokio::test]
async fn a_person_is_shown_the_way_to_the_login_page() {
    let site = GatewayFixture::with(None, Policy::default(), |_| {}).await;
    let html = "accept: text/html";
    let way = Some("/_tenure/login?return=%2Fa%3Fb%3D%2526");
    for (path, line, status) in [
        ("/_tenure/auth", "x-original-url: https://a.test:8443/a?b=%26", 401),
        ("/_tenure/auth", "x-original-uri: /a?b=%26", 401),
        ("/_tenure/auth", "x-forwarded-uri: /a?b=%26", 303),
        ("/_tenure/auth/a?b=%26", "x-a: 1", 303),
    ] {
        let reply = site.get(path, &[html, line]).await;
        assert_eq!((reply.status, reply.header("location")), (status, way), "{line}");
        for other in ["accept: */*", "accept: text/html\r\nx-forwarded-method: POST"] {
            let reply = site.get(path, &[other, line]).await;
            assert_eq!((reply.status, reply.header("location")), (401, None), "{line} {other}");
        }
    }
    for odd in ["x-forwarded-uri: //evil.test/", "x-forwarded-uri: /\\evil.test", "x-original-url: https://a.test"] {
        let reply = site.get("/_tenure/auth", &[html, odd]).await;
        assert_eq!(reply.header("location"), Some("/_tenure/login?return=%2F"), "{odd}");
    }
    assert_eq!(site.get("/_tenure/auth", &[html]).await.header("location"), None, "nobody says where he was");
    site.stop().await;
}

#[tokio::test]
async fn a_token_that_is_due_is_said_to_be() {
    let settings = PolicySettings { token_ttl: Some(Millis::new(120_000)), ..PolicySettings::default() };
    let site = GatewayFixture::with(None, Policy::new(&settings).unwrap(), |_| {}).await;
    let (_, token) = site.issue("laptop").await;
    site.clock.pass(Millis::new(115_000));
    let reply = site.get("/_tenure/auth", &[&bearer(&token)]).await;
    assert_eq!((reply.status, reply.header("tenure-rotate")), (204, Some("due")));
    site.stop().await;
}

#[tokio::test]
async fn a_path_is_public_only_if_everybody_says_so() {
    let site = GatewayFixture::with(None, Policy::default(), |options| {
        options.public_paths = vec![PublicPath("/open/".to_owned())];
    })
    .await;
    for lines in [
        &["x-original-url: https://a.test/open/a?b"][..],
        &["x-forwarded-uri: /open/a"],
        &["x-original-uri: /open/a", "x-forwarded-uri: /open/b"],
    ] {
        let reply = site.get("/_tenure/auth", lines).await;
        assert_eq!((reply.status, reply.header("x-forwarded-user")), (204, None), "{lines:?}");
    }
    assert_eq!(site.get("/_tenure/auth/open/a", &[]).await.status, 200);
    for lines in [
        &["x-original-url: https://a.test/open/../a"][..],
        &["x-original-url: /open/a", "x-forwarded-uri: /secret"],
        &["x-original-url: /open/a", "x-original-url: /secret"],
        &["x-original-url: not a url /open/"],
        &["x-original-url: /open/a", "x-rewrite-url: /secret"],
        &[],
    ] {
        site.get("/_tenure/auth", lines).await.is_problem(401, "token_required");
    }
    site.get("/_tenure/auth/secret", &["x-original-url: /open/a"]).await.is_problem(401, "token_required");
    site.stop().await;
}

#[tokio::test]
async fn a_cookie_allows_no_change_for_another_site() {
    let site = GatewayFixture::with(None, Policy::default(), |_| {}).await;
    let (_, token) = site.issue("laptop").await;
    let cookie = format!("cookie: tenure={token}");
    let (post, foreign) = ("x-original-method: POST", "origin: http://evil.test");
    site.get("/_tenure/auth", &[&cookie, post, foreign]).await.is_problem(403, "forbidden");
    site.get("/_tenure/auth", &[&cookie, "x-forwarded-method: DELETE"]).await.is_problem(403, "forbidden");
    for lines in
        [&[post, "origin: http://tenure.test"][..], &["x-original-method: GET", foreign], &["x-original-method: GET"]]
    {
        let lines: Vec<&str> = [&*cookie].into_iter().chain(lines.iter().copied()).collect();
        assert_eq!(site.get("/_tenure/auth", &lines).await.status, 204, "{lines:?}");
    }
    assert_eq!(site.get("/_tenure/auth", &[&bearer(&token), post, foreign]).await.status, 204, "a header is no cookie");
    site.stop().await;
}

/// Whoever follows a link gets the login page, and whatever else asks gets the 401.
async fn sends_people_to_the_login_page(other: &Other, name: &str) {
    const HTML: &str = "accept: text/html,application/xhtml+xml,*/*;q=0.8";
    for (lines, reason) in [
        (&[HTML][..], ""),
        (&[HTML, "sec-fetch-mode: navigate"], ""),
        (&[HTML, "cookie: tenure=dead; a=1"], "&reason=malformed"),
    ] {
        let sent = other.get("/a/b?c=d&e=%2F", lines).await;
        let location = format!("/_tenure/login?return=%2Fa%2Fb%3Fc%3Dd%26e%3D%252F{reason}");
        assert_eq!(sent.status, 303, "{name} {lines:?}: {sent:?}");
        assert_eq!(sent.header("location"), Some(&*location), "{name} {lines:?}: {sent:?}");
        assert_eq!(sent.header("cache-control"), Some("no-store"), "{name} {lines:?}: {sent:?}");
    }
    let long = format!("/{}", "a".repeat(3_000));
    assert_eq!(other.get(&long, &[HTML]).await.header("location"), Some("/_tenure/login?return=%2F"), "{name}");
    for (method, lines) in [
        ("GET", &["accept: */*"][..]),
        ("GET", &[HTML, "sec-fetch-mode: cors"]),
        ("POST", &[HTML, "content-length: 0"]),
        ("DELETE", &[HTML]),
    ] {
        let refused = other.ask(method, "/a", lines).await;
        assert_eq!(refused.status, 401, "{name} {method} {lines:?}: {refused:?}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"tenure\""), "{name} {refused:?}");
    }
}

async fn holds_the_rules(program: Program) {
    let name = program.names().0;
    let site = GatewayFixture::with(None, Policy::default(), |options| {
        options.public_paths = vec![PublicPath("/open/".to_owned())];
        options.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let other = Other::start(program, site.address, echo().await).await;
    let (issued, token) = site.issue("laptop").await;

    let lines = [&*bearer(&token), "x-forwarded-user: root", "x-tenure-device: root", "x-original-url: /open/"];
    let reply = other.get("/some/path?q=1", &lines).await;
    assert_eq!(reply.status, 200, "{name}: {reply:?}");
    let told = reply.json();
    assert_eq!(told["target"], "/some/path?q=1");
    assert_eq!(told["headers"]["x-forwarded-user"], "alice");
    assert_eq!(told["headers"]["x-tenure-session"], issued.session.id.to_string());
    assert_eq!(told["headers"]["x-tenure-device"], "laptop");
    assert!(!reply.body.contains(&token), "{name} passed the token on");

    let by_cookie = other.get("/", &[&format!("cookie: a=1; tenure={token}; b=2")]).await;
    assert_eq!(by_cookie.status, 200, "{by_cookie:?}");
    // Traefik cannot take one cookie out of several.
    let left = if program == Program::Traefik { Value::Null } else { "a=1; b=2".into() };
    assert_eq!(by_cookie.json()["headers"]["cookie"], left, "{name}");

    let open = other.get("/open/a", &["x-forwarded-user: root", "x-tenure-device: root"]).await;
    assert_eq!(open.status, 200, "{open:?}");
    for absent in ["x-forwarded-user", "x-tenure-device"] {
        assert!(open.json()["headers"].get(absent).is_none(), "{name}: {open:?}");
    }

    for (path, lines) in [
        ("/", &[][..]),
        ("/", &["x-original-url: /open/a", "x-original-uri: /open/a", "x-forwarded-uri: /open/a"]),
        ("/open/../secret", &[]),
        ("/open/%2e%2e/secret", &[]),
        ("/open//../secret", &[]),
    ] {
        let refused = other.get(path, lines).await;
        assert_eq!(refused.status, 401, "{name} {path} {lines:?}: {refused:?}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"tenure\""));
    }
    sends_people_to_the_login_page(&other, name).await;
    let page = other.get("/_tenure/login", &["accept: text/html"]).await;
    assert!(page.status == 200 && page.body.contains("<form"), "{page:?}");

    site.revoke(&issued).await;
    let refused = other.get("/", &[&bearer(&token)]).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(refused.header("www-authenticate").unwrap().contains("token revoked"), "{refused:?}");
    site.store.set_down(true);
    let down = other.get("/", &[&bearer(&token)]).await;
    assert_eq!(down.status, 503, "{name}: {down:?}");
    // Envoy's own answer to every 5xx has no header of Tenure's.
    let retry = (program != Program::Envoy).then_some("1");
    assert_eq!(down.header("retry-after"), retry, "{name}: {down:?}");
    drop(other);
    site.stop().await;
}

/// An app that sends back whatever text comes in a WebSocket.
async fn parrot() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

impl Other {
    async fn open(&self, token: &str) -> Result<WebSocketStream<TcpStream>, Error> {
        let mut request = format!("ws://{}/live", self.address).into_client_request()?;
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        let stream = TcpStream::connect(self.address).await?;
        Ok(client_async(request, stream).await?.0)
    }
}

/// WebSockets are let in by the same rules, and then left alone.
async fn opens_websockets(program: Program) {
    let site = GatewayFixture::with(None, Policy::default(), |_| {}).await;
    let other = Other::start(program, site.address, parrot().await).await;
    let (issued, token) = site.issue("laptop").await;
    let mut socket = other.open(&token).await.unwrap();
    site.revoke(&issued).await;
    match other.open(&token).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 401, "{program:?}"),
        opened => panic!("{program:?}: {opened:?}"),
    }
    socket.send(Message::text("still here")).await.unwrap();
    let back = tokio::time::timeout(TEST_TIMEOUT, socket.next()).await.expect("an answer").unwrap().unwrap();
    assert_eq!(back, Message::text("still here"));
    drop((socket, other));
    site.stop().await;
}

#[tokio::test]
async fn nginx_holds_the_rules() {
    holds_the_rules(Program::Nginx).await;
    opens_websockets(Program::Nginx).await;
}

#[tokio::test]
async fn caddy_holds_the_rules() {
    holds_the_rules(Program::Caddy).await;
    opens_websockets(Program::Caddy).await;
}

#[tokio::test]
#[ignore = "no package manager that the tests know has Traefik: `cargo xtask proxies` brings it"]
async fn traefik_holds_the_rules() {
    holds_the_rules(Program::Traefik).await;
    opens_websockets(Program::Traefik).await;
}

#[tokio::test]
#[ignore = "no package manager that the tests know has Envoy: `cargo xtask proxies` brings it"]
async fn envoy_holds_the_rules() {
    holds_the_rules(Program::Envoy).await;
    opens_websockets(Program::Envoy).await;
}
