//! Targets that parsers read differently: never public, whoever names them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::any;
use tenure_domain::Policy;
use tenure_tower::PublicPath;

use crate::support::site::{GatewayFixture, Reply, send, serve};

async fn site(upstream: Option<std::net::SocketAddr>) -> GatewayFixture {
    GatewayFixture::with(upstream, Policy::default(), |options| {
        options.public_paths = vec![PublicPath("/public/".to_owned())];
    })
    .await
}

/// What follows a public path and leads a server out of it.
const TAILS: [&str; 12] = [
    "#",
    "#/../../admin",
    "a?b#/../../admin",
    "\\../admin",
    "..\\..\\admin",
    "a?b\\c",
    "\u{e9}",
    "%2e%2e/admin",
    "..%2fadmin",
    "%252e%252e/admin",
    "..;/admin",
    "%c0%ae%c0%ae/admin",
];

#[tokio::test]
async fn a_proxy_is_told_no_for_every_target_that_is_not_plainly_public() {
    let site = site(None).await;
    for header in ["x-original-url", "x-original-uri", "x-rewrite-url", "x-forwarded-uri"] {
        for start in ["/public/", "http://x/public/", "HTTPS://x.test:8443/public/"] {
            for tail in TAILS {
                let reply = site.get("/_tenure/auth", &[&format!("{header}: {start}{tail}")]).await;
                reply.is_problem(401, "token_required");
            }
            let reply = site.get("/_tenure/auth", &[&format!("{header}: {start}a/b?c=d")]).await;
            assert_eq!(reply.status, 204, "{header} {start}");
        }
        for url in ["http://u@x/public/", "http:///public/", "http://x#/public/", "http://x?/public/", "//x/public/"] {
            site.get("/_tenure/auth", &[&format!("{header}: {url}")]).await.is_problem(401, "token_required");
        }
    }
    for tail in TAILS {
        let reply = site.get(&format!("/_tenure/auth/public/{tail}"), &[]).await;
        assert!([400, 401].contains(&reply.status), "{tail}: {reply:?}");
    }
    assert_eq!(site.get("/_tenure/auth/public/a?b", &[]).await.status, 200);
    site.stop().await;
}

#[tokio::test]
async fn a_target_with_a_fragment_is_refused_and_no_upstream_sees_what_is_not_plainly_public() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let upstream = serve(Router::new().fallback(any(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { "asked" }
    })))
    .await;
    let site = site(Some(upstream)).await;
    let (_, token) = site.issue("laptop").await;
    for tail in TAILS {
        let reply = site.get(&format!("/public/{tail}"), &[]).await;
        assert!([400, 401].contains(&reply.status), "{tail}: {reply:?}");
    }
    let bearer = format!("authorization: Bearer {token}");
    for target in ["#", "*#", "http#://a/"] {
        assert_eq!(site.get(target, &[&bearer]).await.status, 400, "{target}");
    }
    for target in ["/#", "/a#b", "/a?b#c", "http://tenure.test/#x", "/_tenure/auth#"] {
        let reply = site.get(target, &[&bearer]).await;
        reply.is_problem(400, "bad_request");
        assert_eq!(reply.header("connection"), Some("close"));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0, "the upstream was asked");
    let fine =
        format!("GET /public/a HTTP/1.1\r\nhost: a\r\nx-a: #\r\n\r\nGET /#b HTTP/1.1\r\nhost: a\r\n{bearer}\r\n\r\n");
    let answers = send(site.address, &fine).await;
    let second = answers.rfind("HTTP/1.1 ").unwrap();
    assert_eq!(answers[..12], *"HTTP/1.1 200", "{answers}");
    Reply::parse(&answers[second..]).is_problem(400, "bad_request");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    site.stop().await;
}
