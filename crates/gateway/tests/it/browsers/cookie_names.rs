//! Which cookie counts: over TLS only the one that no other host and no clear connection can set.

use tenure_domain::{Millis, Policy, PolicySettings};
use tenure_tower::CookieName;

use crate::support::site::{GatewayFixture, Reply, echo, serve};

/// The browser came over TLS, as a trusted proxy says.
const TLS: &str = "x-forwarded-proto: https";

async fn site(name: &str) -> GatewayFixture {
    let settings = PolicySettings { token_ttl: Some(Millis::new(120_000)), ..PolicySettings::default() };
    let policy = Policy::new(&settings).unwrap();
    GatewayFixture::with(Some(echo().await), policy, |options| {
        options.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        options.auto_rotate_cookies = true;
        options.cookie_name = CookieName::new(name).unwrap();
    })
    .await
}

fn given(reply: &Reply) -> Vec<&str> {
    reply.headers.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| &**value).collect()
}

const PLAIN_EXPIRED: &str = "tenure=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax";
const HOST_EXPIRED: &str = "__Host-tenure=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax; Secure";

#[tokio::test]
async fn over_tls_a_planted_cookie_is_neither_believed_nor_in_the_way() {
    let site = site("tenure").await;
    let ((_, own), (_, planted)) = (site.issue("laptop").await, site.issue("attacker").await);
    site.get("/", &[TLS, &format!("cookie: tenure={planted}")]).await.is_problem(401, "token_required");
    for path in ["/", "/_tenure/auth"] {
        for cookies in [
            format!("tenure={planted}; __Host-tenure={own}"),
            format!("__Host-tenure={own}; tenure={planted}; tenure=x"),
            format!("__HOST-TENURE={planted}; __Host-tenure={own}; Tenure={planted}"),
        ] {
            let reply = site.get(path, &[TLS, &format!("cookie: a=1; {cookies}")]).await;
            assert!(reply.status < 300, "{path} {cookies}: {reply:?}");
            if path == "/" {
                assert_eq!(reply.json()["headers"]["x-tenure-device"], "laptop", "{cookies}");
                assert_eq!(reply.json()["headers"]["cookie"], "a=1", "{cookies}");
            } else {
                assert_eq!(reply.header("x-tenure-device"), Some("laptop"), "{cookies}");
            }
        }
    }
    // In clear the cookie counts that was given in clear.
    let both = format!("cookie: __Host-tenure={planted}; tenure={own}");
    assert_eq!(site.get("/", &[&both]).await.json()["headers"]["x-tenure-device"], "laptop");
    site.stop().await;
}

#[tokio::test]
async fn over_tls_the_plain_cookie_is_expired_when_one_is_given_or_taken() {
    let site = site("tenure").await;
    let origin = "origin: https://tenure.test";
    let form = "content-type: application/x-www-form-urlencoded";
    let (_, token) = site.issue("laptop").await;
    let entered = site.ask("POST", "/_tenure/login", &[TLS, origin, form], &format!("token={token}")).await;
    let host = format!("__Host-tenure={token}; Max-Age=120; Path=/; HttpOnly; SameSite=Lax; Secure");
    assert_eq!((entered.status, given(&entered)), (303, vec![&*host, PLAIN_EXPIRED]));

    site.clock.pass(Millis::new(115_000));
    let cookie = format!("cookie: __Host-tenure={token}");
    let renewed = site.get("/", &[TLS, &cookie]).await;
    assert!(given(&renewed)[0].starts_with("__Host-tenure=tnr_"), "{renewed:?}");
    assert_eq!(given(&renewed)[1..], [PLAIN_EXPIRED]);
    let fresh = format!("cookie: {}", given(&renewed)[0].split(';').next().unwrap());

    let out = site.ask("DELETE", "/_tenure/v1/session", &[TLS, origin, &fresh], "").await;
    assert_eq!((out.status, given(&out)), (204, vec![HOST_EXPIRED, PLAIN_EXPIRED]));
    site.stop().await;
}

#[tokio::test]
async fn two_gateways_on_one_host_keep_apart_by_the_names_of_their_cookies() {
    let (one, two) = (site("tenure").await, site("tenure-two").await);
    let ((_, first), (_, second)) = (one.issue("laptop").await, two.issue("laptop").await);
    for (tls, prefix) in [(vec![], ""), (vec![TLS], "__Host-")] {
        let jar = format!("cookie: {prefix}tenure={first}; a=1; {prefix}tenure-two={second}");
        let lines: Vec<&str> = tls.into_iter().chain([&*jar]).collect();
        for site in [&one, &two] {
            let reply = site.get("/", &lines).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(reply.json()["headers"]["cookie"], "a=1", "the token of the other gateway goes to no upstream");
        }
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn an_upstream_plants_no_cookie_of_ours() {
    let planting = axum::Router::new().fallback(axum::routing::any(|| async {
        let mut response = axum::response::Response::new(axum::body::Body::empty());
        for value in [
            &b"a=1"[..],
            b"tenure=x",
            b"tenure=\xff; Path=/",
            b" tenure =x",
            b"=__Host-tenure=x",
            b"TENURE=x",
            b"__HOST-tenure=x; Secure",
            b"b=\xff",
        ] {
            response.headers_mut().append("set-cookie", http::HeaderValue::from_bytes(value).unwrap());
        }
        response
    }));
    let site = GatewayFixture::before(serve(planting).await).await;
    let (_, token) = site.issue("laptop").await;
    let reply = site.get("/", &[&format!("authorization: Bearer {token}")]).await;
    assert_eq!(given(&reply), ["a=1", "b=\u{fffd}"]);
    site.stop().await;
}
