//! What carries a token: found among whatever octets stand beside it, and taken out before the upstream.

use std::net::SocketAddr;

use tenure_domain::Policy;
use tenure_tower::PublicPath;

use crate::support::site::{GatewayFixture, echo};

async fn site(upstream: SocketAddr) -> GatewayFixture {
    GatewayFixture::with(Some(upstream), Policy::default(), |options| {
        options.public_paths = vec![PublicPath("/open/".to_owned())];
    })
    .await
}

/// Lines of headers that carry a token, odd ones among them.
fn carriers(token: &str) -> Vec<Vec<String>> {
    let many = "n=v; ".repeat(200);
    let cookies = [
        format!("tenure={token}"),
        format!("a=1; tenure={token}; b=2"),
        format!("a=\u{e9}; tenure={token}"),
        format!("tenure={token}; \u{ff}"),
        format!("tenure ={token}"),
        format!("tenure=\"{token}\""),
        format!("tenure={token};"),
        format!(";tenure={token};;"),
        format!("tenure={token}; tenure={token}"),
        format!("__Host-tenure={token}"),
        format!("Tenure=x; tenure={token}; TENURE={token}"),
        format!("{many}tenure={token}; {many}"),
    ];
    let mut all: Vec<Vec<String>> = cookies.iter().map(|cookie| vec![format!("cookie: {cookie}")]).collect();
    all.push(vec!["cookie: a=\u{e9}".to_owned(), format!("cookie: tenure={token}"), "cookie: b=1".to_owned()]);
    all.push(vec![format!("authorization: Bearer {token}")]);
    all.push(vec![format!("authorization: bearer \t {token}")]);
    all.push(vec![format!("sec-websocket-protocol: chat, tenure.bearer.{token}")]);
    all.push(vec![format!("sec-websocket-protocol: ch\u{e9}t,tenure.bearer.{token}, \u{ff}")]);
    let both = format!("cookie: \u{e9}=1; tenure={token}");
    all.push(vec![both, format!("authorization: Bearer {token}")]);
    all
}

/// The same for what is no credential, and still must not go on.
fn strays(token: &str) -> Vec<Vec<String>> {
    [
        format!("cookie: Tenure={token}"),
        format!("cookie: a=1, tenure={token}"),
        format!("cookie: __HOST-tenure={token}; b=2"),
        format!("cookie: \u{a0}tenure={token}"),
        format!("cookie: other={token}"),
        format!("cookie: tenure={token}\u{e9}"),
        format!("authorization: Token {token}"),
        format!("authorization: Bearer \"{token}\""),
        format!("authorization: \u{e9}Bearer {token}"),
        format!("authorization: Bearer {token}\u{e9}"),
        format!("sec-websocket-protocol: Tenure.Bearer.{token}"),
        format!("sec-websocket-protocol: \u{e9}tenure.bearer.{token}"),
    ]
    .map(|line| vec![line])
    .into()
}

#[tokio::test]
async fn a_token_is_found_among_any_octets_and_goes_no_further() {
    let site = site(echo().await).await;
    let (_, token) = site.issue("laptop").await;
    for lines in carriers(&token) {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        for path in ["/", "/open/a"] {
            let reply = site.get(path, &lines).await;
            assert_eq!(reply.status, 200, "{path} {lines:?}: {reply:?}");
            assert!(!reply.body.contains(&token), "the upstream got the token of {path} {lines:?}: {reply:?}");
            let who = reply.json()["headers"]["x-forwarded-user"].clone();
            assert_eq!(who, if path == "/" { "alice".into() } else { serde_json::Value::Null });
        }
        let asked = site.get("/_tenure/auth", &lines).await;
        assert_eq!(asked.status, 204, "{lines:?}: {asked:?}");
    }
    site.stop().await;
}

#[tokio::test]
async fn a_token_in_the_wrong_place_opens_nothing_and_goes_no_further() {
    let site = site(echo().await).await;
    let (_, token) = site.issue("laptop").await;
    let (_, other) = site.issue("phone").await;
    for lines in strays(&token) {
        let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let reply = site.get("/", &lines).await;
        assert!([400, 401].contains(&reply.status), "{lines:?}: {reply:?}");
        assert!(!reply.body.contains(&token), "{lines:?}: {reply:?}");
        let reply = site.get("/open/a", &lines).await;
        assert_eq!(reply.status, 200, "{lines:?}: {reply:?}");
        assert!(!reply.body.contains(&token), "the upstream got the token of {lines:?}: {reply:?}");
        // Beside another that is fine.
        let bearer = format!("authorization: Bearer {other}");
        lines.push(&bearer);
        let reply = site.get("/", &lines).await;
        assert!(!reply.body.contains(&token), "the upstream got the token of {lines:?}: {reply:?}");
    }
    site.stop().await;
}

#[tokio::test]
async fn every_carrier_logs_out_and_what_cannot_be_told_is_not_taken_for_nothing() {
    let site = site(echo().await).await;
    let (_, sample) = site.issue("sample").await;
    let origin = "origin: http://tenure.test";
    for place in 0..carriers(&sample).len() {
        let (issued, token) = site.issue(&format!("device-{place}")).await;
        let lines = carriers(&token).swap_remove(place);
        let lines: Vec<&str> = lines.iter().map(String::as_str).chain([origin]).collect();
        let out = site.ask("POST", "/_tenure/logout", &lines, "").await;
        assert_eq!(out.status, 303, "{lines:?}: {out:?}");
        let session = site.sessions.get(issued.session.id).await.unwrap().unwrap();
        assert_eq!(session.end.as_ref().expect("an end").reason.code(), "logged_out", "{lines:?}");
    }
    let (_, token) = site.issue("laptop").await;
    for line in [
        format!("cookie: tenure={token}\u{e9}"),
        format!("authorization: Token {token}"),
        format!("authorization: \u{e9}Bearer {token}"),
        format!("sec-websocket-protocol: \u{e9}tenure.bearer.{token}"),
    ] {
        let out = site.ask("POST", "/_tenure/logout", &[&line, origin], "").await;
        assert!([400, 401].contains(&out.status), "{line}: {out:?}");
    }
    site.stop().await;
}

#[tokio::test]
async fn cookies_in_several_fields_reach_the_upstream_as_one() {
    let site = site(echo().await).await;
    let (_, token) = site.issue("laptop").await;
    let cookie = format!("cookie: tenure={token}");
    for path in ["/", "/open/a"] {
        let told = site.get(path, &["cookie: a=1", &cookie, "cookie: b=\"2;3\"", "cookie: c=4"]).await.json();
        assert_eq!(told["headers"]["cookie"], "a=1; b=\"2;3\"; c=4", "{path}");
    }
    site.stop().await;
}
