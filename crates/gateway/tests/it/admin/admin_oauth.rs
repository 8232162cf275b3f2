//! RFC 7662 and RFC 7009, point by point.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::json;
use tenure_domain::{Millis, Policy, PolicySettings};

use crate::support::{ADMIN, Answer, ApiFixture, Ask, ask};

const BOTH: [&str; 2] = ["/oauth2/introspect", "/oauth2/revoke"];

fn post(path: &str, pairs: &[(&str, &str)]) -> Ask {
    ask(Method::POST, path).form(pairs)
}

fn basic(name: &str, secret: &str) -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("Basic {}", STANDARD.encode(format!("{}:{}", encoded(name), encoded(secret))))
}

#[track_caller]
fn is_error(answer: &Answer, status: u16, error: &str) {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    assert_eq!(answer.json()["error"], error, "{answer:?}");
    assert!(answer.json()["error_description"].is_string());
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[track_caller]
fn is_inactive(answer: &Answer) {
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "{\"active\":false}"));
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), ("no-store", "no-cache"));
}

async fn introspect(house: &ApiFixture, token: &str) -> Answer {
    post("/oauth2/introspect", &[("token", token)]).bearer(ADMIN).send(&house.admin).await
}

async fn revoke(house: &ApiFixture, token: &str) -> Answer {
    let answer = post("/oauth2/revoke", &[("token", token)]).header("authorization", &basic("app", ADMIN));
    answer.send(&house.admin).await
}

#[tokio::test]
async fn a_client_authenticates_in_any_of_three_ways_but_in_one() {
    let house = ApiFixture::new();
    let (_, token) = house.issue("laptop", "alice").await;
    let in_form = [("token", token.as_str()), ("client_id", "app"), ("client_secret", ADMIN)];
    for ask in [
        post("/oauth2/introspect", &[("token", &token)]).bearer(ADMIN),
        post("/oauth2/introspect", &[("token", &token)]).header("authorization", &basic("app", ADMIN)),
        post("/oauth2/introspect", &in_form),
    ] {
        assert_eq!(ask.send(&house.admin).await.json()["active"], true);
    }
    for path in BOTH {
        is_error(&post(path, &in_form).bearer(ADMIN).send(&house.admin).await, 400, "invalid_request");
        for ask in [
            post(path, &[("token", &token)]),
            post(path, &[("token", &token)]).bearer("wrong"),
            post(path, &[("token", &token)]).bearer(&token),
            post(path, &[("token", &token)]).header("authorization", &basic("app", "wrong")),
            post(path, &[("token", &token)]).header("authorization", "Basic !"),
            post(path, &[("token", &token)]).header("authorization", "Digest x"),
            post(path, &[("token", &token), ("client_id", "app"), ("client_secret", "wrong")]),
        ] {
            let answer = ask.send(&house.admin).await;
            is_error(&answer, 401, "invalid_client");
            let challenges = answer.all("www-authenticate");
            assert!(challenges.iter().any(|challenge| challenge.starts_with("Basic ")), "{challenges:?}");
            assert!(challenges.iter().any(|challenge| challenge.starts_with("Bearer ")), "{challenges:?}");
        }
    }
    assert_eq!(introspect(&house, &token).await.json()["active"], true, "nobody unauthenticated revoked it");
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_an_invalid_request() {
    let house = ApiFixture::new();
    for path in BOTH {
        for ask in [
            post(path, &[]),
            post(path, &[("token", "")]),
            post(path, &[("token", "a"), ("token", "b")]),
            post(path, &[("token", &"x".repeat(20_000))]),
            ask(Method::POST, path).json(&json!({"token": "a"})),
        ] {
            is_error(&ask.bearer(ADMIN).send(&house.admin).await, 400, "invalid_request");
        }
        let answer = ask(Method::GET, &format!("{path}?token=a")).bearer(ADMIN).send(&house.admin).await;
        answer.is_problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), "POST");
    }
}

#[tokio::test]
async fn of_a_token_that_does_not_hold_nothing_is_told() {
    let house = ApiFixture::new();
    let (_, revoked) = house.issue("laptop", "alice").await;
    assert_eq!(revoke(&house, &revoked).await.status, 200);
    let (_, rotated) = house.issue("phone", "alice").await;
    ask(Method::POST, "/_tenure/v1/token/rotate").bearer(&rotated).send(&house.api).await;
    let (_, expired) = house.issue("tablet", "alice").await;
    let (_, forged) = house.issue("watch", "alice").await;
    // The right session id, somebody else's secret, and a checksum that fits.
    let forged = tenure_domain::Token::parse(&forged).unwrap();
    let other = tenure_domain::Token::parse(&expired).unwrap();
    let forged = tenure_domain::Token::new(forged.session(), other.secret().clone()).to_text().expose().to_owned();
    for token in [&revoked, &rotated, &forged, "nonsense", "eyJhbGciOiJub25lIn0.e30."] {
        is_inactive(&introspect(&house, token).await);
    }
    house.clock.pass(Millis::new(24 * 3_600_000 - 1));
    assert_eq!(introspect(&house, &expired).await.json()["active"], true);
    house.clock.pass(Millis::new(1));
    is_inactive(&introspect(&house, &expired).await);
}

#[tokio::test]
async fn introspection_counts_as_no_use() {
    let house = ApiFixture::new();
    let (issued, token) = house.issue("laptop", "alice").await;
    house.clock.pass(Millis::new(60_000));
    assert_eq!(introspect(&house, &token).await.json()["active"], true);
    assert_eq!(house.sessions.flush_activity().await, Ok(0));
    let session = house.sessions.get(issued.session.id).await.unwrap().unwrap();
    assert_eq!(session.last_activity, issued.session.last_activity);
}

#[tokio::test]
async fn a_token_in_its_overlap_is_active_until_the_overlap_ends() {
    let settings = PolicySettings { rotation_overlap: Some(Millis::minutes(2)), ..PolicySettings::default() };
    let house = ApiFixture::with(Policy::new(&settings).unwrap(), |_| {});
    let (issued, old) = house.issue("laptop", "alice").await;
    house.clock.pass(Millis::new(5_000));
    let rotated = ask(Method::POST, "/_tenure/v1/token/rotate").bearer(&old).send(&house.api).await.json();
    let (new, now) = (rotated["token"].as_str().unwrap(), issued.session.created_at.as_millis() / 1_000 + 5);
    let (of_old, of_new) = (introspect(&house, &old).await.json(), introspect(&house, new).await.json());
    assert_eq!((&of_old["exp"], &of_old["iat"]), (&json!(now + 120), &json!(now - 5)));
    assert_eq!((&of_new["exp"], &of_new["iat"]), (&json!(now + 24 * 3_600), &json!(now)));
    assert_eq!(of_old["jti"], of_new["jti"]);
}

#[tokio::test]
async fn a_store_that_is_down_tells_nothing_of_a_token() {
    let house = ApiFixture::new();
    let (_, token) = house.issue("laptop", "alice").await;
    house.store.set_down(true);
    for answer in [introspect(&house, &token).await, revoke(&house, &token).await] {
        answer.is_problem(503, "store_unavailable");
        assert_eq!(answer.header("retry-after"), "1");
    }
}

#[tokio::test]
async fn revocation_ends_the_session_of_a_token_that_proves_it_and_of_no_other() {
    let house = ApiFixture::new();
    let (issued, token) = house.issue("laptop", "alice").await;
    let (_, other) = house.issue("phone", "alice").await;
    let guess =
        tenure_domain::Token::new(issued.session.id, tenure_domain::Token::parse(&other).unwrap().secret().clone());
    for token in [guess.to_text().expose(), "nonsense", "eyJhbGciOiJub25lIn0.e30."] {
        let answer = revoke(&house, token).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""), "{token}");
    }
    assert_eq!(introspect(&house, &token).await.json()["active"], true);
    for _ in 0..2 {
        assert_eq!(revoke(&house, &token).await.status, 200);
    }
    is_inactive(&introspect(&house, &token).await);
    let session = house.sessions.get(issued.session.id).await.unwrap().unwrap();
    let end = session.end.as_ref().unwrap();
    assert_eq!((end.reason.code(), end.actor.as_ref().unwrap().as_str()), ("revoked", "app"));
    assert_eq!(introspect(&house, &other).await.json()["active"], true);
}

#[tokio::test]
async fn a_hint_hides_no_token_and_a_refresh_token_is_of_no_supported_type() {
    let house = ApiFixture::new();
    for hint in ["access_token", "refresh_token", "pat"] {
        let (_, token) = house.issue("laptop", "alice").await;
        let pairs = [("token", token.as_str()), ("token_type_hint", hint)];
        let introspected = post("/oauth2/introspect", &pairs).bearer(ADMIN).send(&house.admin).await;
        assert_eq!(introspected.json()["active"], true, "{hint}");
        assert_eq!(post("/oauth2/revoke", &pairs).bearer(ADMIN).send(&house.admin).await.status, 200);
        is_inactive(&introspect(&house, &token).await);
    }
    let pairs = [("token", "8xLOxBtZp8"), ("token_type_hint", "refresh_token")];
    is_error(&post("/oauth2/revoke", &pairs).bearer(ADMIN).send(&house.admin).await, 400, "unsupported_token_type");
    is_inactive(&post("/oauth2/introspect", &pairs).bearer(ADMIN).send(&house.admin).await);
}
