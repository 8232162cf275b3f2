//! What whoever holds the enrolment secret can reach: new sessions of one subject, and nothing of anybody else.

use http::Method;
use serde_json::{Value, json};
use tenure_domain::{Millis, Policy, PolicySettings, Session, Subject};

use crate::support::{Answer, ApiFixture, Ask, ENROL, ask};

const PATH: &str = "/_tenure/v1/sessions";

fn enrol(path: &str, body: &Value) -> Ask {
    ask(Method::POST, path).bearer(ENROL).json(body)
}

/// Everything that there is of a subject, ended or not.
async fn all_of(house: &ApiFixture, subject: &str) -> Vec<Session> {
    let filter = tenure_domain::Filter {
        device: None,
        subject: Some(Subject::new(subject).unwrap()),
        scope: tenure_domain::Scope::Retained,
    };
    house.sessions.list(&filter, tenure_domain::SortKey::Created, 1_000).await.unwrap()
}

/// A house of two sessions a device, with sessions of Bob on two devices and their ids.
async fn house() -> (ApiFixture, String, Vec<String>) {
    let settings = PolicySettings { max_sessions_per_device: Some(2), ..PolicySettings::default() };
    let house = ApiFixture::with(Policy::new(&settings).unwrap(), |_| {});
    let mut ids = Vec::new();
    let mut token = String::new();
    for device in ["desk", "desk", "phone"] {
        house.clock.pass(Millis::new(1));
        let (issued, text) = house.issue(device, "bob").await;
        ids.push(issued.session.id.to_string());
        token = text;
    }
    (house, token, ids)
}

/// The session that an answer tells, if it is one of the fixed subject and displaced nobody of these.
#[track_caller]
fn is_of_alice(answer: &Answer, others: &[String]) -> String {
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.json()["session"]["subject"], "alice", "{answer:?}");
    let mut told = answer.json();
    // It may have chosen an id for its device's name.
    told["session"]["deviceId"].take();
    assert!(others.iter().all(|id| !told.to_string().contains(id)), "{answer:?}");
    answer.json()["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn whatever_is_said_the_session_is_the_fixed_subjects() {
    let (house, token, ids) = house().await;
    let before = all_of(&house, "bob").await;
    let body = json!({"deviceId": "laptop", "clientInfo": {"id": "bob", "displayName": "bob", "deviceKey": "bob"}});
    let claims = [
        ("x-forwarded-user", "bob"),
        ("x_forwarded_user", "bob"),
        ("x-tenure-subject", "bob"),
        ("x-tenure-session", ids[0].as_str()),
        ("remote-user", "bob"),
        ("x-remote-user", "bob"),
        ("from", "bob"),
        ("forwarded", "for=bob;host=bob"),
        ("x-original-url", "/_tenure/v1/sessions?subject=bob"),
    ];
    for (name, value) in claims {
        for path in [PATH, "/_tenure/v1/sessions?subject=bob&enrolSubject=bob"] {
            is_of_alice(&enrol(path, &body).header(name, value).send(&house.api).await, &ids);
        }
    }
    // Beside a token of somebody else, however it comes.
    is_of_alice(&enrol(PATH, &body).header("cookie", &format!("tenure={token}")).send(&house.api).await, &ids);
    let two = enrol(PATH, &body).bearer(&token).send(&house.api).await;
    assert_eq!(two.status, 401, "{two:?}");
    // What has no place in the body is refused, not overlooked.
    for (place, value) in [("subject", json!("bob")), ("Subject", json!("bob")), ("session", json!({"subject": "bob"}))]
    {
        let mut outer = json!({"deviceId": "laptop"});
        outer[place] = value.clone();
        enrol(PATH, &outer).send(&house.api).await.is_problem(400, "bad_request");
        let inner = json!({"deviceId": "laptop", "clientInfo": {place: value}});
        enrol(PATH, &inner).send(&house.api).await.is_problem(400, "bad_request");
    }
    let typed = ask(Method::POST, PATH).bearer(ENROL).header("content-type", "application/json");
    let twice = typed.body("{\"deviceId\": \"laptop\", \"deviceId\": \"desk\"}").send(&house.api).await;
    twice.is_problem(400, "bad_request");
    assert_eq!(all_of(&house, "bob").await, before);
    assert!(all_of(&house, "alice").await.len() >= 2 * claims.len());
}

#[tokio::test]
async fn no_device_however_it_is_named_displaces_or_shows_anothers_session() {
    let (house, _, ids) = house().await;
    let before = all_of(&house, "bob").await;
    for device in ["desk", "phone"] {
        let refused = enrol(PATH, &json!({"deviceId": device})).send(&house.api).await;
        refused.is_problem(409, "conflict");
        assert!(!refused.text.contains("bob") && ids.iter().all(|id| !refused.text.contains(id)), "{refused:?}");
    }
    // Near it, inside of it, and as if it were a subject, a session or a key of the store.
    let near =
        ["Desk", "DESK", "desk\u{441}", "desk/", "desk:bob", "bob", ids[0].as_str(), "*", "../desk", "desk}{desk"];
    for device in near {
        for _ in 0..4 {
            house.clock.pass(Millis::new(1));
            is_of_alice(&enrol(PATH, &json!({"deviceId": device})).send(&house.api).await, &ids);
        }
    }
    for device in ["desk ", " desk", "desk\u{200b}", "desk\0", "de\nsk", ""] {
        enrol(PATH, &json!({"deviceId": device})).send(&house.api).await.is_problem(400, "bad_request");
    }
    assert_eq!(all_of(&house, "bob").await, before);
    // Its own it does displace: the cap holds for each device.
    let active = all_of(&house, "alice").await.iter().filter(|session| session.end.is_none()).count();
    assert_eq!(active, 2 * near.len());
}

#[tokio::test]
async fn a_session_that_was_enrolled_sees_and_ends_its_own_subjects_only() {
    let (house, _, ids) = house().await;
    let before = all_of(&house, "bob").await;
    let token = is_of_alice(&enrol(PATH, &json!({"deviceId": "laptop"})).send(&house.api).await, &ids);
    for path in [PATH, "/_tenure/v1/sessions?all=true&limit=1000"] {
        let listed = ask(Method::GET, path).bearer(&token).send(&house.api).await;
        assert_eq!((listed.status.as_u16(), listed.json()["sessions"].as_array().unwrap().len()), (200, 1));
    }
    let unknown = format!("{PATH}/00000000000000000000");
    let nothing = ask(Method::DELETE, &unknown).bearer(&token).send(&house.api).await.text;
    for id in &ids {
        let foreign = ask(Method::DELETE, &format!("{PATH}/{id}")).bearer(&token).send(&house.api).await;
        foreign.is_problem(404, "not_found");
        assert_eq!(foreign.text, nothing, "a session of another subject is as good as none");
    }
    let others = ask(Method::POST, "/_tenure/v1/sessions/revoke-others").bearer(&token).send(&house.api).await;
    assert_eq!(others.json()["endedCount"], 0);
    assert_eq!(ask(Method::DELETE, "/_tenure/v1/session").bearer(&token).send(&house.api).await.status, 204);
    assert_eq!(all_of(&house, "bob").await, before);

    // The secret itself is no token, and not the operators' secret.
    let listed = ask(Method::GET, PATH).bearer(ENROL).send(&house.api).await;
    assert_eq!(listed.status, 401, "{listed:?}");
    for (method, path) in [(Method::GET, "/api/v1/sessions"), (Method::POST, "/api/v1/sessions/revoke")] {
        let refused = ask(method, path).bearer(ENROL).send(&house.admin).await;
        assert_eq!(refused.status, 401, "{refused:?}");
    }
    assert_eq!(all_of(&house, "bob").await, before);
}
