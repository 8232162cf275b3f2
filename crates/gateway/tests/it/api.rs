//! `/_tenure/v1`: what clients ask of their own sessions.

mod api_login;
mod enrolment;
mod lockouts;

use http::Method;
use serde_json::json;
use tenure_domain::{Millis, Policy, PolicySettings};

use crate::support::{ADMIN, ApiFixture, ENROL, ask};

#[tokio::test]
async fn a_client_enrols_rotates_lists_and_logs_out() {
    let house = ApiFixture::new();
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
    assert_eq!(
        found["session"]["clientInfo"],
        json!({"id": "cli", "platform": "linux", "address": "203.0.113.7", "userAgent": "curl/8.7"})
    );
    assert_eq!(found["evicted"], json!([]));
    let old = found["token"].as_str().unwrap();

    let rotated = ask(Method::POST, "/_tenure/v1/token/rotate").bearer(old).send(&house.api).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert_eq!(rotated.header("cache-control"), "no-store");
    assert_eq!(rotated.json()["session"]["tokenGeneration"], 2);
    let new = rotated.json()["token"].as_str().unwrap().to_owned();
    ask(Method::GET, "/_tenure/v1/sessions").bearer(old).send(&house.api).await.is_problem(401, "rotated");

    house.issue("phone", "alice").await;
    house.issue("tablet", "bob").await;
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
    let house = ApiFixture::new();
    let (_, token) = house.issue("laptop", "alice").await;
    house.store.set_down(true);
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
    let house = ApiFixture::new();
    let (_, token) = house.issue("laptop", "alice").await;
    house.store.set_not_durable(true);
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
    let house = ApiFixture::new();
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
        (
            json!({"deviceId": "lap\u{200b}top"}),
            "deviceId: device id has an invisible character (U+200B) at position 4",
        ),
        (json!({"deviceId": "laptop\u{202e}"}), "deviceId"),
        (json!({"deviceId": "laptop "}), "deviceId: device id ends with a space"),
        (json!({"deviceId": "a", "clientInfo": {"displayName": "\u{feff}b"}}), "clientInfo.displayName"),
        (json!({"deviceId": "a", "clientInfo": {"id": " b"}}), "clientInfo.id"),
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

#[tokio::test]
async fn enrolling_needs_its_own_secret_and_is_off_without_one() {
    let house = ApiFixture::new();
    let (_, token) = house.issue("laptop", "alice").await;
    let body = json!({"deviceId": "laptop"});
    for presented in ["wrong", ADMIN, &token] {
        let answer = ask(Method::POST, "/_tenure/v1/sessions").bearer(presented).json(&body).send(&house.api).await;
        answer.is_problem(401, "secret_required");
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"tenure\"");
    }
    ask(Method::POST, "/_tenure/v1/sessions").json(&body).send(&house.api).await.is_problem(401, "secret_required");
    let off = ApiFixture::with(Policy::default(), |options| options.enrolment = None);
    ask(Method::POST, "/_tenure/v1/sessions")
        .bearer(ENROL)
        .json(&body)
        .send(&off.api)
        .await
        .is_problem(404, "not_found");
}

#[tokio::test]
async fn the_cap_holds_for_whoever_enrols_and_says_whom_it_displaced() {
    let settings = PolicySettings { max_sessions_per_device: Some(2), ..PolicySettings::default() };
    let house = ApiFixture::with(Policy::new(&settings).unwrap(), |_| {});
    let mut ids = Vec::new();
    for n in 0..3 {
        house.clock.pass(Millis::new(1));
        let body = json!({"deviceId": "laptop"});
        let answer = ask(Method::POST, "/_tenure/v1/sessions").bearer(ENROL).json(&body).send(&house.api).await.json();
        assert_eq!(answer["evicted"], if n < 2 { json!([]) } else { json!([ids[0]]) });
        ids.push(answer["session"]["sessionId"].clone());
    }
}

#[tokio::test]
async fn who_enrols_displaces_nobody_else_and_does_not_learn_whom() {
    let settings = PolicySettings { max_sessions_per_device: Some(1), ..PolicySettings::default() };
    let house = ApiFixture::with(Policy::new(&settings).unwrap(), |_| {});
    let (bobs, _) = house.issue("laptop", "bob").await;
    let enrol = || ask(Method::POST, "/_tenure/v1/sessions").bearer(ENROL).json(&json!({"deviceId": "laptop"}));
    let refused = enrol().send(&house.api).await;
    refused.is_problem(409, "conflict");
    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.starts_with("the device has active sessions of another subject"), "{detail}");
    let told = refused.text.replace("ask an operator", "");
    assert!(!told.contains("bob") && !told.contains(&bobs.session.id.to_string()), "{told}");
    let kept = house.sessions.get(bobs.session.id).await.unwrap().unwrap();
    assert!(kept.end.is_none());
    // Another device is free; so is this one, once nobody's session is active there.
    let other = ask(Method::POST, "/_tenure/v1/sessions").bearer(ENROL).json(&json!({"deviceId": "phone"}));
    assert_eq!(other.send(&house.api).await.status, 201);
    house.sessions.log_out(&kept).await.unwrap();
    let answer = enrol().send(&house.api).await.json();
    assert_eq!((&answer["session"]["subject"], &answer["evicted"]), (&json!("alice"), &json!([])));
}

#[tokio::test]
async fn a_foreign_session_is_as_good_as_none() {
    let house = ApiFixture::new();
    let (own, token) = house.issue("laptop", "alice").await;
    let (second, _) = house.issue("phone", "alice").await;
    let (foreign, _) = house.issue("tablet", "bob").await;
    let delete = |id: &str| ask(Method::DELETE, &format!("/_tenure/v1/sessions/{id}")).bearer(&token);
    let mut answers = Vec::new();
    let unknown = "00000000000000000000";
    for id in [&foreign.session.id.to_string(), unknown, "nonsense", &foreign.session.id.to_string()[..4]] {
        let answer = delete(id).send(&house.api).await;
        answer.is_problem(404, "not_found");
        answers.push(answer.text);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    let bobs = house.sessions.get(foreign.session.id).await.unwrap().unwrap();
    assert!(bobs.end.is_none());

    let id = second.session.id.to_string();
    let ended = delete(&id).send(&house.api).await.json();
    assert_eq!((&ended["endedCount"], &ended["ended"][0]["state"]), (&json!(1), &json!("revoked")));
    assert_eq!(ended["ended"][0]["endActor"], "alice");
    let again = delete(&id).send(&house.api).await.json();
    assert_eq!((&again["endedCount"], &again["already"][0]["sessionId"]), (&json!(0), &json!(id)));
    assert_eq!(delete(&own.session.id.to_string()).send(&house.api).await.status, 200);
    delete(&id).send(&house.api).await.is_problem(401, "revoked");
}

#[tokio::test]
async fn revoke_others_leaves_the_one_that_asks_and_other_subjects() {
    let house = ApiFixture::new();
    let (own, token) = house.issue("laptop", "alice").await;
    for device in ["laptop", "phone", "tablet"] {
        house.issue(device, "alice").await;
    }
    let (bobs, _) = house.issue("watch", "bob").await;
    let answer = ask(Method::POST, "/_tenure/v1/sessions/revoke-others").bearer(&token).send(&house.api).await.json();
    assert_eq!((&answer["endedCount"], answer["ended"].as_array().unwrap().len()), (&json!(3), 3));
    for id in [own.session.id, bobs.session.id] {
        assert!(house.sessions.get(id).await.unwrap().unwrap().end.is_none());
    }
    let listed = ask(Method::GET, "/_tenure/v1/sessions").bearer(&token).send(&house.api).await.json();
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 1);
    let all = ask(Method::GET, "/_tenure/v1/sessions?all=true&limit=3").bearer(&token).send(&house.api).await.json();
    assert_eq!(all["sessions"].as_array().unwrap().len(), 3);
    for query in ["limit=0", "limit=1001", "limit=x", "all=maybe", "state=all"] {
        let path = format!("/_tenure/v1/sessions?{query}");
        let answer = ask(Method::GET, &path).bearer(&token).send(&house.api).await;
        answer.is_problem(400, "bad_request");
        assert!(answer.json()["detail"].as_str().unwrap().contains(query.split('=').next().unwrap()), "{answer:?}");
    }
}

#[tokio::test]
async fn a_cookie_alone_changes_nothing_that_another_site_asks_for() {
    let house = ApiFixture::new();
    let (issued, token) = house.issue("laptop", "alice").await;
    let cookie = format!("tenure={token}");
    house.clock.pass(Millis::new(1_000));
    for (method, path) in [
        (Method::POST, "/_tenure/v1/token/rotate"),
        (Method::POST, "/_tenure/v1/sessions/revoke-others"),
        (Method::DELETE, "/_tenure/v1/session"),
        (Method::DELETE, "/_tenure/v1/sessions/00000000000000000000"),
    ] {
        for headers in [&[][..], &[("origin", "https://evil.test")], &[("sec-fetch-site", "cross-site")]] {
            let ask = ask(method.clone(), path).header("cookie", &cookie);
            let ask = headers.iter().fold(ask, |ask, (name, value)| ask.header(name, value));
            ask.send(&house.api).await.is_problem(403, "forbidden");
        }
    }
    let session = house.sessions.get(issued.session.id).await.unwrap().unwrap();
    assert_eq!((session.end.is_none(), session.generation), (true, 1));
    assert_eq!(house.sessions.flush_activity().await, Ok(0), "and it keeps no session alive");
    assert_eq!(ask(Method::GET, "/_tenure/v1/sessions").header("cookie", &cookie).send(&house.api).await.status, 200);

    // A page of this host may: and the new token goes where the old one was, out of scripts' reach.
    let rotated = ask(Method::POST, "/_tenure/v1/token/rotate").header("cookie", &cookie);
    let rotated = rotated.header("sec-fetch-site", "same-origin").send(&house.api).await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    assert!(rotated.json().get("token").is_none());
    let set = rotated.header("set-cookie");
    assert!(set.starts_with("tenure=tnr_") && set.contains("; HttpOnly; SameSite=Lax"), "{set}");
    let new = set.split(';').next().unwrap();
    assert_eq!(ask(Method::GET, "/_tenure/v1/sessions").header("cookie", new).send(&house.api).await.status, 200);
}

#[tokio::test]
async fn of_many_rotations_of_one_token_one_is_made() {
    let house = ApiFixture::new();
    let (_, token) = house.issue("laptop", "alice").await;
    let rotations = (0..16).map(|_| ask(Method::POST, "/_tenure/v1/token/rotate").bearer(&token).send(&house.api));
    let mut codes: Vec<_> = futures_util::future::join_all(rotations).await.iter().map(|a| a.status.as_u16()).collect();
    codes.sort_unstable();
    assert_eq!((codes[0], &codes[1..]), (200, &[401; 15][..]));
}

#[tokio::test]
async fn a_session_that_asks_too_fast_is_told_to_wait() {
    let house = ApiFixture::new();
    let (_, token) = house.issue("laptop", "alice").await;
    let (_, other) = house.issue("laptop", "alice").await;
    let mut limited = None;
    for _ in 0..2_000 {
        let answer = ask(Method::GET, "/_tenure/v1/sessions").bearer(&token).send(&house.api).await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
        assert_eq!(answer.status, 200);
    }
    let limited = limited.expect("2,000 calls in a row are too fast");
    limited.is_problem(429, "too_many_requests");
    assert!(limited.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(ask(Method::GET, "/_tenure/v1/sessions").bearer(&other).send(&house.api).await.status, 200);
}

#[tokio::test]
async fn what_is_not_there_and_what_is_ambiguous_is_said_as_a_problem() {
    let house = ApiFixture::new();
    let (_, one) = house.issue("laptop", "alice").await;
    let (_, two) = house.issue("laptop", "alice").await;
    ask(Method::GET, "/_tenure/v1/nothing").send(&house.api).await.is_problem(404, "not_found");
    let wrong = ask(Method::GET, "/_tenure/v1/token/rotate").send(&house.api).await;
    wrong.is_problem(405, "method_not_allowed");
    assert_eq!(wrong.header("allow"), "POST");
    let both = ask(Method::GET, "/_tenure/v1/sessions").bearer(&one).header("cookie", &format!("tenure={two}"));
    both.send(&house.api).await.is_problem(400, "bad_request");
    let none = ask(Method::GET, "/_tenure/v1/sessions").send(&house.api).await;
    none.is_problem(401, "token_required");
    assert_eq!(none.header("www-authenticate"), "Bearer realm=\"tenure\"");
}

#[tokio::test]
async fn that_a_rotation_is_due_is_said_in_a_header() {
    let house = ApiFixture::new();
    let (_, token) = house.issue("laptop", "alice").await;
    for (advance, due) in [(0, ""), (22 * 3_600_000 - 1, ""), (1, "due")] {
        house.clock.pass(Millis::new(advance));
        let answer = ask(Method::GET, "/_tenure/v1/sessions").bearer(&token).send(&house.api).await;
        assert_eq!((answer.status.as_u16(), answer.header("tenure-rotate")), (200, due));
    }
}

#[tokio::test]
async fn health_is_told_without_a_token_and_without_a_look_at_the_store() {
    let house = ApiFixture::new();
    house.store.set_down(true);
    let health = ask(Method::GET, "/_tenure/healthz").send(&house.api).await;
    assert_eq!((health.status.as_u16(), health.text.as_str()), (200, "ok\n"));
    ask(Method::GET, "/_tenure/readyz").send(&house.api).await.is_problem(503, "store_unavailable");
    let house = ApiFixture::new();
    let ready = ask(Method::GET, "/_tenure/readyz").send(&house.api).await;
    assert_eq!((ready.status.as_u16(), ready.text.as_str()), (200, "ready\n"));
}
