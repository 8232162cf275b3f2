//! Browsers: cookies, what other sites may make them do, and tokens renewed on the way.

use std::sync::Arc;

use tenure_domain::{Millis, Policy, PolicySettings, Token};
use tenure_service::ActivityMode;

use crate::support::site::{GatewayFixture, Reply, echo};

/// A site whose tokens live two minutes and are due in the last ten seconds.
async fn renewing(overlap: u64) -> GatewayFixture {
    let settings = PolicySettings {
        token_ttl: Some(Millis::new(120_000)),
        rotation_overlap: Some(Millis::new(overlap)),
        ..PolicySettings::default()
    };
    GatewayFixture::with(Some(echo().await), Policy::new(&settings).unwrap(), |options| {
        options.auto_rotate_cookies = true
    })
    .await
}

fn given(reply: &Reply) -> Option<String> {
    let cookie = reply.header("set-cookie")?;
    let (pair, rest) = cookie.split_once(';').unwrap();
    assert!(rest.contains("HttpOnly") && rest.contains("SameSite=Lax") && rest.contains("Path=/"), "{cookie}");
    Some(pair.strip_prefix("tenure=").unwrap().to_owned())
}

#[tokio::test]
async fn a_due_cookie_is_renewed_and_a_due_header_is_only_told() {
    let site = renewing(0).await;
    let (_, token) = site.issue("laptop").await;
    let cookie = format!("cookie: tenure={token}");
    assert_eq!(given(&site.get("/", &[&cookie]).await), None, "not due yet");
    site.clock.pass(Millis::new(115_000));
    let told = site.get("/", &[&format!("authorization: Bearer {token}")]).await;
    assert_eq!((told.header("tenure-rotate"), given(&told)), (Some("due"), None));
    let renewed = site.get("/", &[&cookie]).await;
    assert_eq!((renewed.status, renewed.header("cache-control")), (200, Some("no-store")));
    let fresh = given(&renewed).expect("a new cookie");
    assert_eq!(site.get("/", &[&format!("cookie: tenure={fresh}")]).await.status, 200);
    site.get("/", &[&cookie]).await.is_problem(401, "rotated");
    site.stop().await;
}

#[tokio::test]
async fn of_many_requests_at_once_one_renews_and_none_loses_the_session() {
    for overlap in [0, 30_000] {
        let site = Arc::new(renewing(overlap).await);
        let (_, token) = site.issue("laptop").await;
        site.clock.pass(Millis::new(115_000));
        let asking: Vec<_> = (0..32)
            .map(|_| {
                let (site, cookie) = (site.clone(), format!("cookie: tenure={token}"));
                tokio::spawn(async move { site.get("/", &[&cookie]).await })
            })
            .collect();
        let mut fresh = Vec::new();
        for asked in asking {
            let reply = asked.await.unwrap();
            if overlap > 0 {
                assert_eq!(reply.status, 200, "{reply:?}");
            } else if reply.status != 200 {
                reply.is_problem(401, "rotated");
            }
            fresh.extend(given(&reply));
        }
        assert_eq!(fresh.len(), 1, "each new token replaces the one before");
        let token = Token::parse(&fresh[0]).unwrap();
        site.sessions.verify(&token, ActivityMode::Ignore).await.unwrap();
        Arc::into_inner(site).unwrap().stop().await;
    }
}

#[tokio::test]
async fn a_cookie_allows_no_change_and_no_websocket_for_another_site() {
    let site = GatewayFixture::before(echo().await).await;
    let (_, token) = site.issue("laptop").await;
    let cookie = format!("cookie: tenure={token}");
    let foreign = "origin: http://evil.test";
    site.ask("POST", "/", &[&cookie, foreign], "x=1").await.is_problem(403, "forbidden");
    site.ask("POST", "/", &[&cookie], "x=1").await.is_problem(403, "forbidden");
    assert_eq!(site.ask("POST", "/", &[&cookie, "origin: http://tenure.test"], "x=1").await.status, 200);
    assert_eq!(site.get("/", &[&cookie, foreign]).await.status, 200);
    let bearer = format!("authorization: Bearer {token}");
    assert_eq!(site.ask("POST", "/", &[&bearer, foreign], "x=1").await.status, 200);
    let upgrade = format!(
        "GET / HTTP/1.1\r\nhost: tenure.test\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{cookie}\r\n{foreign}\r\n\r\n"
    );
    let mut stream = tokio::net::TcpStream::connect(site.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, upgrade.as_bytes()).await.unwrap();
    let mut some = vec![0; 4096];
    let n = tokio::io::AsyncReadExt::read(&mut stream, &mut some).await.unwrap();
    Reply::parse(&String::from_utf8_lossy(&some[..n])).is_problem(403, "forbidden");
    drop(stream);
    site.stop().await;
}
