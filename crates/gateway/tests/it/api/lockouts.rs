//! Who is told to wait after guesses, and who never is.

use std::net::{IpAddr, Ipv4Addr};

use http::Method;
use serde_json::json;
use tenure_domain::{Family, Millis, Policy, RotationSecret, Secret, Token};
use tenure_service::{Issued, Sessions, Target};

use crate::support::site::{GatewayFixture, echo};
use crate::support::{ADMIN, ApiFixture, Ask, ENROL, ask, lock_out};

const ORIGIN: &str = "http://127.0.0.1:8470";
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fn sessions() -> Ask {
    ask(Method::GET, "/_tenure/v1/sessions")
}

fn cookie(ask: Ask, token: &str) -> Ask {
    ask.header("cookie", &format!("theme=dark; tenure={token}"))
}

fn enrol(secret: &str) -> Ask {
    ask(Method::POST, "/_tenure/v1/sessions").bearer(secret).json(&json!({"deviceId": "laptop"}))
}

fn form(token: &str) -> Ask {
    ask(Method::POST, "/_tenure/login").header("origin", ORIGIN).form(&[("token", token)])
}

/// A token of the session's with a secret that never was its own.
fn guess(issued: &Issued, n: u8) -> String {
    let secret = Secret::new(&Family::new([n; 16]), &RotationSecret::new([n; 16]));
    Token::new(issued.session.id, secret).to_text().expose().to_owned()
}

/// Tokens of sessions that are over, each with the code of its refusal.
async fn over(house: &ApiFixture) -> Vec<(String, &'static str)> {
    let (revoked, one) = house.issue("revoked", "alice").await;
    let cause = Sessions::revocation(None, None);
    house.sessions.revoke(&Target::Ids(vec![revoked.session.id]), None, &cause).await.unwrap();
    let (left, two) = house.issue("left", "alice").await;
    house.sessions.log_out(&left.session).await.unwrap();
    let (rotated, three) = house.issue("rotated", "alice").await;
    house.sessions.rotate(&rotated.token).await.unwrap();
    vec![(one, "revoked"), (two, "logged_out"), (three, "rotated")]
}

#[tokio::test]
async fn a_token_that_was_a_sessions_own_is_no_guess_however_often_it_is_shown() {
    let house = ApiFixture::new();
    for (token, code) in over(&house).await {
        for _ in 0..30 {
            sessions().bearer(&token).send(&house.api).await.is_problem(401, code);
            cookie(sessions(), &token).send(&house.api).await.is_problem(401, code);
        }
    }
    let (_, expired) = house.issue("expired", "alice").await;
    house.clock.pass(Millis::new(24 * 3_600_000));
    for _ in 0..30 {
        cookie(sessions(), &expired).send(&house.api).await.is_problem(401, "expired");
        assert_eq!(form(&expired).send(&house.api).await.status, 401);
    }
    sessions().bearer("tnr_wrong").send(&house.api).await.is_problem(401, "malformed");
    // Nor does it become one while others of its address are locked out.
    lock_out(&house.api, || form("tnr_wrong")).await;
    for n in 0..10 {
        let status = sessions().bearer("tnr_wrong").send(&house.api).await.status;
        assert_eq!(status, if n < 9 { 401 } else { 429 }, "{n}");
    }
    cookie(sessions(), &expired).send(&house.api).await.is_problem(401, "expired");
}

#[tokio::test]
async fn a_wrong_secret_of_a_session_that_there_is_is_a_guess() {
    let house = ApiFixture::new();
    let (issued, token) = house.issue("laptop", "alice").await;
    for n in 1..=10 {
        cookie(sessions(), &guess(&issued, n)).send(&house.api).await.is_problem(401, "unknown");
    }
    cookie(sessions(), &guess(&issued, 11)).send(&house.api).await.is_problem(429, "too_many_requests");
    sessions().bearer(&guess(&issued, 12)).send(&house.api).await.is_problem(429, "too_many_requests");
    assert_eq!(sessions().bearer(&token).send(&house.api).await.status, 200);
    // As a header, the same again is another attempt: no browser sends it by itself.
    let house = ApiFixture::new();
    let (issued, _) = house.issue("laptop", "alice").await;
    let wrong = guess(&issued, 1);
    lock_out(&house.api, || sessions().bearer(&wrong)).await;
}

#[tokio::test]
async fn a_tab_with_the_cookie_of_a_forgotten_session_makes_one_guess() {
    let house = ApiFixture::new();
    let (_, forgotten) = house.issue("laptop", "alice").await;
    // Its time and the retention are over: nothing is known of it any more.
    house.clock.pass(Millis::new(49 * 3_600_000));
    let (_, token) = house.issue("laptop", "alice").await;
    for text in [&*forgotten, "someone-elses-cookie"] {
        for _ in 0..50 {
            assert_eq!(cookie(sessions(), text).send(&house.api).await.status, 401, "{text}");
        }
    }
    for n in 0..8 {
        sessions().bearer(&format!("tnr_{n}")).send(&house.api).await.is_problem(401, "malformed");
    }
    sessions().bearer("tnr_8").send(&house.api).await.is_problem(429, "too_many_requests");
    cookie(sessions(), &forgotten).send(&house.api).await.is_problem(401, "unknown");
    assert_eq!(cookie(sessions(), &token).send(&house.api).await.status, 200);
}

#[tokio::test]
async fn each_purpose_is_counted_apart_and_what_is_right_is_let_in() {
    type Attempt = fn() -> Ask;
    let token: Attempt = || sessions().bearer("tnr_wrong");
    let wrong = [("token", token), ("form", || form("tnr_wrong")), ("enrolment", || enrol("wrong"))];
    for (locked, worn) in wrong {
        let house = ApiFixture::new();
        let (_, token) = house.issue("laptop", "alice").await;
        lock_out(&house.api, worn).await;
        for (name, other) in wrong.iter().filter(|(name, _)| *name != locked) {
            assert_eq!(other().send(&house.api).await.status, 401, "{locked} locks {name}");
        }
        assert_eq!(worn().send(&house.api).await.status, 429);
        assert_eq!(enrol(ENROL).send(&house.api).await.status, 201, "after {locked}");
        assert_eq!(form(&token).send(&house.api).await.status, 303, "after {locked}");
        assert_eq!(sessions().bearer(&token).send(&house.api).await.status, 200, "after {locked}");
        assert_eq!(ask(Method::GET, "/metrics").bearer(ADMIN).send(&house.admin).await.status, 200);
    }
}

#[tokio::test]
async fn a_forwarding_header_gives_nobody_who_guesses_the_operators_secret_another_counter() {
    let house = ApiFixture::new();
    let from = |n: u8, secret: &str| {
        ask(Method::GET, "/api/v1/sessions").bearer(secret).from(Ipv4Addr::new(198, 51, 100, n).into()).through(PROXY)
    };
    for n in 1..=10 {
        from(n, "wrong").send(&house.admin).await.is_problem(401, "secret_required");
    }
    from(11, "wrong").send(&house.admin).await.is_problem(429, "too_many_requests");
    assert_eq!(from(11, ADMIN).send(&house.admin).await.status, 200);
}

#[tokio::test]
async fn addresses_that_a_proxy_only_passes_on_are_locked_together_at_last() {
    let house = ApiFixture::new();
    let (_, token) = house.issue("laptop", "alice").await;
    let from = |n: u8, token: &str| sessions().bearer(token).from(Ipv4Addr::new(198, 51, 100, n).into()).through(PROXY);
    for n in 1..=100 {
        from(n, "tnr_wrong").send(&house.api).await.is_problem(401, "malformed");
    }
    from(101, "tnr_wrong").send(&house.api).await.is_problem(429, "too_many_requests");
    assert_eq!(from(102, &token).send(&house.api).await.status, 200);
}

#[tokio::test]
async fn a_person_always_gets_the_login_page_with_the_reason_in_words() {
    let site = GatewayFixture::before(echo().await).await;
    let (issued, token) = site.issue("laptop").await;
    let (other, _) = site.issue("other").await;
    site.revoke(&issued).await;
    let html = "accept: text/html,*/*;q=0.8";
    let dead = format!("cookie: tenure={token}");
    let unknown = format!("cookie: tenure={}", guess(&other, 1));
    for round in ["before", "after"] {
        let sent = site.get("/board?a=1", &[html, &dead]).await;
        assert_eq!(sent.status, 303, "{round}");
        assert_eq!(sent.header("location"), Some("/_tenure/login?return=%2Fboard%3Fa%3D1&reason=revoked"));
        let sent = site.get("/", &[html, &unknown]).await;
        assert_eq!(sent.header("location"), Some("/_tenure/login?return=%2F&reason=unknown"), "{round}");
        for (path, cookie) in [("/_tenure/login?reason=revoked", "x: y"), ("/_tenure/login", &*dead)] {
            let page = site.get(path, &[html, cookie]).await;
            assert_eq!(page.status, 200, "{round}");
            assert!(page.body.contains("your session was revoked") && page.body.contains("name=\"token\""), "{page:?}");
        }
        let page = site.get("/_tenure/login", &[&dead]).await;
        assert!(page.header("set-cookie").is_some_and(|set| set.starts_with("tenure=; Max-Age=0")), "{page:?}");
        let page = site.get("/_tenure/login", &[html, &unknown]).await;
        assert_eq!(page.status, 200, "{page:?}");
        assert!(page.header("set-cookie").is_some_and(|set| set.starts_with("tenure=; Max-Age=0")), "{page:?}");
        assert!(page.body.contains("not known here"), "{page:?}");
        // Another proxy's question is answered so that it can send the person there.
        assert_eq!(site.get("/_tenure/auth", &[html, &unknown]).await.status, 401, "{round}");
        for _ in 0..11 {
            site.get("/", &["authorization: Bearer tnr_wrong"]).await;
        }
        assert_eq!(site.get("/", &["authorization: Bearer tnr_wrong"]).await.status, 429);
    }
    let page = site.get("/_tenure/login?reason=%3Cscript%3E", &[]).await;
    assert!(!page.body.contains("role=\"alert\""), "{page:?}");
    site.stop().await;
}

#[tokio::test]
async fn the_lock_holds_behind_a_proxy_as_it_does_before_one() {
    let site = GatewayFixture::with(Some(echo().await), Policy::default(), |options| {
        options.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    // A client that writes the header itself through a proxy that adds to it is known by what the proxy added.
    for n in 0..11 {
        let chain = format!("x-forwarded-for: 203.0.113.{n}, 198.51.100.9");
        let reply = site.get("/", &["authorization: Bearer tnr_wrong", &chain]).await;
        assert_eq!(reply.status, if n < 10 { 401 } else { 429 }, "{n}");
    }
    site.stop().await;
}
