//! `/_tenure/v1`: what clients ask of their own sessions.

use http::Method;
use serde_json::json;

use crate::support::{ENROL, House, ask};

#[tokio::test]
async fn a_client_enrols_rotates_lists_and_logs_out() {
    let house = House::new();
    let body = json!({"deviceId": "laptop", "clientInfo": {"id": "cli", "platform": "linux"}, "ttl": "90m"});
    let enrolled = ask(Method::POST, "/_tenure/v1/sessions")
        .bearer(ENROL)
        .json(&body)
        .header("user-agent", "curl/8.7")
        .send(&house.api)
        .await;
    assert_eq!(enrolled.status, 201, "{enrolled:?}");
    assert_eq!(enrolled.header("cache-control"), "no-store");
    let found = enrolled.json();
    assert_eq!(found["session"]["subject"], "alice");
    assert_eq!(found["session"]["clientInfo"], json!({"id": "cli", "platform": "linux", "userAgent": "curl/8.7"}));
    assert_eq!(found["evicted"], json!([]));
    let old = found["token"].as_str().unwrap();

    let rotated = ask(Method::POST, "/_tenure/v1/token/rotate").bearer(old).send(&house.api).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert_eq!(rotated.header("cache-control"), "no-store");
    assert_eq!(rotated.json()["session"]["tokenGeneration"], 2);
    let new = rotated.json()["token"].as_str().unwrap().to_owned();
    ask(Method::GET, "/_tenure/v1/sessions").bearer(old).send(&house.api).await.is_problem(401, "rotated");

    house.issue("phone", "alice").await;
    house.issue("phone", "bob").await;
    let listed = ask(Method::GET, "/_tenure/v1/sessions").bearer(&new).send(&house.api).await;
    let listed = listed.json();
    let current: Vec<_> =
        listed["sessions"].as_array().unwrap().iter().map(|s| (&s["deviceId"], &s["current"])).collect();
    assert_eq!(current.len(), 2, "only the subject's own: {listed}");
    assert!(current.contains(&(&json!("laptop"), &json!(true))) && current.contains(&(&json!("phone"), &json!(false))));

    let out = ask(Method::DELETE, "/_tenure/v1/session").bearer(&new).send(&house.api).await;
    assert_eq!((out.status.as_u16(), out.text.as_str()), (204, ""));
    assert!(out.all("set-cookie").iter().all(|cookie| cookie.contains("Max-Age=0")));
    ask(Method::GET, "/_tenure/v1/sessions").bearer(&new).send(&house.api).await.is_problem(401, "logged_out");
}

#[tokio::test]
async fn a_store_that_is_down_is_a_503_that_says_nothing_of_its_place() {
    let house = House::new();
    let (_, token) = house.issue("laptop", "alice").await;
    house.memory.set_down(true);
    for ask in [
        ask(Method::GET, "/_tenure/v1/sessions").bearer(&token),
        ask(Method::POST, "/_tenure/v1/token/rotate").bearer(&token),
        ask(Method::DELETE, "/_tenure/v1/session").bearer(&token),
        ask(Method::POST, "/_tenure/v1/sessions").bearer(ENROL).json(&json!({"deviceId": "laptop"})),
    ] {
        let answer = ask.send(&house.api).await;
        answer.is_problem(503, "store_unavailable");
        assert_eq!(answer.header("retry-after"), "1");
        assert!(!answer.text.contains("secret-place"), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_token_that_may_hold_comes_with_the_error() {
    let house = House::new();
    let (_, token) = house.issue("laptop", "alice").await;
    house.memory.set_unsafe();
    let rotated = ask(Method::POST, "/_tenure/v1/token/rotate").bearer(&token).send(&house.api).await;
    rotated.is_problem(500, "outcome_uncertain");
    let new = rotated.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(ask(Method::GET, "/_tenure/v1/sessions").bearer(&new).send(&house.api).await.status, 200);

    let enrolled = ask(Method::POST, "/_tenure/v1/sessions")
        .bearer(ENROL)
        .json(&json!({"deviceId": "phone"}))
        .send(&house.api)
        .await;
    enrolled.is_problem(500, "outcome_uncertain");
    let new = enrolled.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(ask(Method::GET, "/_tenure/v1/sessions").bearer(&new).send(&house.api).await.status, 200);
}

#[tokio::test]
async fn what_a_body_gets_wrong_is_named() {
    let house = House::new();
    let wrong = [
        (json!({}), "deviceId"),
        (json!({"deviceId": ""}), "deviceId"),
        (json!({"deviceId": "x".repeat(129)}), "deviceId"),
        (json!({"deviceId": 7}), "deviceId"),
        (json!({"deviceId": "a", "ttl": "soon"}), "ttl"),
        (json!({"deviceId": "a", "ttl": "25h"}), "ttl"),
        (json!({"deviceId": "a", "subject": "root"}), "subject"),
        (json!({"deviceId": "a", "clientInfo": {"address": "10.0.0.1"}}), "address"),
        (json!({"deviceId": "a", "clientInfo": {"platform": "a\u{7}"}}), "clientInfo.platform"),
    ];
    for (body, field) in wrong {
        let answer = ask(Method::POST, "/_tenure/v1/sessions").bearer(ENROL).json(&body).send(&house.api).await;
        answer.is_problem(400, "bad_request");
        assert!(answer.json()["detail"].as_str().unwrap().contains(field), "{body}: {}", answer.text);
    }
    let large = ask(Method::POST, "/_tenure/v1/sessions").bearer(ENROL).header("content-type", "application/json");
    large.body(" ".repeat(16 * 1024 + 1)).send(&house.api).await.is_problem(413, "too_large");
    let typeless = ask(Method::POST, "/_tenure/v1/sessions").bearer(ENROL).body("{}");
    typeless.send(&house.api).await.is_problem(415, "unsupported_media_type");
}
