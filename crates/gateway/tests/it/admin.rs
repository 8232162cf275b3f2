//! The admin listener.

mod admin_events;
mod admin_oauth;

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use tenure_domain::{Millis, Policy, PolicySettings};
use tenure_gateway::SharedSecret;

use crate::support::{ADMIN, ApiFixture, Ask, ask, lock_out};

#[tokio::test]
async fn what_needs_the_secret_is_refused_without_it() {
    let house = ApiFixture::new();
    for (method, path) in [
        (Method::GET, "/api/v1/sessions"),
        (Method::GET, "/api/v1/sessions/k3f9"),
        (Method::DELETE, "/api/v1/sessions/k3f9"),
        (Method::POST, "/api/v1/sessions/revoke"),
        (Method::GET, "/events"),
        (Method::GET, "/metrics"),
    ] {
        ask(method.clone(), path).send(&house.admin).await.is_problem(401, "secret_required");
        ask(method, path).bearer("wrong").send(&house.admin).await.is_problem(401, "secret_required");
    }
    for path in ["/", "/static/admin.js", "/static/admin.css", "/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(ask(Method::GET, path).send(&house.admin).await.status, 200, "{path}");
    }
    assert_eq!(ask(Method::GET, "/metrics").bearer(ADMIN).send(&house.admin).await.status, 200);
}

#[tokio::test]
async fn introspection_tells_a_token_that_holds_from_one_that_does_not() {
    let house = ApiFixture::new();
    let (issued, token) = house.issue("laptop", "alice").await;
    let introspect = |token: &str| ask(Method::POST, "/oauth2/introspect").bearer(ADMIN).form(&[("token", token)]);
    let answer = introspect(&token).send(&house.admin).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.json(),
        serde_json::json!({
            "active": true, "username": "alice", "sub": "alice", "token_type": "Bearer", "iat": 1_795_000_000,
            "exp": 1_795_086_400, "jti": issued.session.id.to_string(), "device_id": "laptop",
        })
    );
    house.clock.pass(Millis::new(24 * 3_600_000));
    let answer = introspect(&token).send(&house.admin).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "{\"active\":false}"));
}

/// An operator's question.
fn operator(method: Method, path: &str) -> Ask {
    ask(method, path).bearer(ADMIN)
}

/// The first members of the sessions of a page.
fn devices(page: &Value) -> Vec<&str> {
    page["sessions"].as_array().unwrap().iter().map(|session| session["deviceId"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_foreign_name_or_another_sites_page_is_let_in_nowhere() {
    let house = ApiFixture::new();
    for path in ["/api/v1/sessions", "/", "/healthz", "/openapi.json", "/nothing"] {
        for host in ["evil.test:8471", "localhost.evil.test", ""] {
            let answer = Ask::of(Method::GET, path).header("host", host).bearer(ADMIN).send(&house.admin).await;
            answer.is_problem(403, "forbidden");
        }
        Ask::of(Method::GET, path).bearer(ADMIN).send(&house.admin).await.is_problem(403, "forbidden");
    }
    for host in ["localhost:9000", "[::1]:8471", "192.0.2.7"] {
        let ask = Ask::of(Method::GET, "/api/v1/sessions").header("host", host).bearer(ADMIN);
        assert_eq!(ask.send(&house.admin).await.status, 200, "{host}");
    }
    for (name, value) in [("origin", "https://evil.test"), ("origin", "null"), ("sec-fetch-site", "same-site")] {
        for (method, path) in
            [(Method::GET, "/api/v1/sessions"), (Method::POST, "/oauth2/introspect"), (Method::GET, "/readyz")]
        {
            operator(method, path).header(name, value).send(&house.admin).await.is_problem(403, "forbidden");
        }
    }
    let own = operator(Method::GET, "/api/v1/sessions").header("origin", "http://127.0.0.1:8470");
    assert_eq!(own.send(&house.admin).await.status, 200);
    let link = ask(Method::GET, "/").header("sec-fetch-site", "cross-site").send(&house.admin).await;
    assert_eq!(link.status, 200, "a link may lead to the page");
}

#[tokio::test]
async fn sessions_are_filtered_sorted_and_paged_to_the_last() {
    let house = ApiFixture::new();
    for n in 0..23 {
        house.clock.pass(Millis::new(1_000));
        house.issue(&format!("device-{n:02}"), if n % 2 == 0 { "alice" } else { "bob" }).await;
    }
    for (sort, first) in [("created", "device-22"), ("last-activity", "device-22"), ("expires", "device-00")] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/sessions?sort={sort}&limit=5{cursor}");
            let page = operator(Method::GET, &path).send(&house.admin).await.json();
            assert!(devices(&page).len() <= 5);
            seen.extend(devices(&page).into_iter().map(str::to_owned));
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen[0], first);
        let mut sorted = seen.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!((seen.len(), sorted.len()), (23, 23), "each once: {seen:?}");
    }
    let page = operator(Method::GET, "/api/v1/sessions?subject=bob").send(&house.admin).await.json();
    assert_eq!((devices(&page).len(), page.get("next")), (11, None));
    let page = operator(Method::GET, "/api/v1/sessions?deviceId=device-07&subject=bob").send(&house.admin).await.json();
    assert_eq!(devices(&page), ["device-07"]);
    let page = operator(Method::GET, "/api/v1/sessions?deviceId=device-07&subject=alice").send(&house.admin).await;
    assert_eq!(page.text, "{\"sessions\":[]}");
    assert_eq!(page.header("cache-control"), "no-store");
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("state=dead", "state"),
        ("sort=age", "sort"),
        ("cursor=nonsense", "cursor"),
        ("deviceId=", "deviceId"),
        ("subject=%00", "subject"),
        ("color=red", "color"),
    ] {
        let answer = operator(Method::GET, &format!("/api/v1/sessions?{query}")).send(&house.admin).await;
        answer.is_problem(400, "bad_request");
        assert!(answer.json()["detail"].as_str().unwrap().contains(name), "{query}: {}", answer.text);
    }
}

#[tokio::test]
async fn each_state_is_listed_under_its_name_and_idle_stays_so() {
    let settings = PolicySettings { idle_timeout: Some(Millis::minutes(5)), ..PolicySettings::default() };
    let house = ApiFixture::with(Policy::new(&settings).unwrap(), |_| {});
    let (idle, token) = house.issue("idle", "alice").await;
    house.clock.pass(Millis::new(5 * 60_000));
    let (revoked, _) = house.issue("revoked", "alice").await;
    house.issue("active", "alice").await;
    let id = revoked.session.id;
    let path = format!("/api/v1/sessions/{id}?reason=lost");
    let ended = operator(Method::DELETE, &path).send(&house.admin).await.json();
    assert_eq!((&ended["endedCount"], &ended["dryRun"]), (&json!(1), &json!(false)));
    let session = &ended["ended"][0];
    assert_eq!((&session["endText"], &session["endActor"]), (&json!("lost"), &json!("admin")));
    for (state, expected) in [
        ("active", vec!["active"]),
        ("revoked", vec!["revoked"]),
        ("idle", vec!["idle"]),
        ("expired", vec![]),
        ("logged_out", vec![]),
    ] {
        let path = format!("/api/v1/sessions?state={state}");
        let page = operator(Method::GET, &path).send(&house.admin).await.json();
        assert_eq!(devices(&page), expected, "{state}");
    }
    let page = operator(Method::GET, "/api/v1/sessions?state=all&sort=created").send(&house.admin).await.json();
    assert_eq!(devices(&page).len(), 3);
    let shown = house.sessions.get(idle.session.id).await.unwrap().unwrap();
    assert_eq!(shown.end.as_ref().unwrap().reason.code(), "idle", "what was shown as idle is recorded so");
    ask(Method::GET, "/_tenure/v1/sessions").bearer(&token).send(&house.api).await.is_problem(401, "idle");
}

#[tokio::test]
async fn a_session_is_shown_by_a_start_of_its_id_that_no_other_has() {
    let house = ApiFixture::new();
    let (one, _) = house.issue("laptop", "alice").await;
    let (two, _) = house.issue("laptop", "alice").await;
    let (one, two) = (one.session.id.to_string(), two.session.id.to_string());
    let common = one.bytes().zip(two.bytes()).take_while(|(a, b)| a == b).count();
    let show = |start: &str| operator(Method::GET, &format!("/api/v1/sessions/{start}"));
    let found = show(&one[..=common]).send(&house.admin).await.json();
    assert_eq!(found["sessionId"], one.as_str());
    assert!(!found.to_string().contains("credential"));
    show(&one[..common]).send(&house.admin).await.is_problem(409, "conflict");
    show("zzzz").send(&house.admin).await.is_problem(404, "not_found");
    show("ill").send(&house.admin).await.is_problem(400, "bad_request");
}

#[tokio::test]
async fn sessions_are_ended_by_device_by_subject_all_or_none_at_all() {
    let house = ApiFixture::new();
    let mut kept = String::new();
    for (device, subject) in [("laptop", "alice"), ("laptop", "alice"), ("phone", "alice"), ("tablet", "carol")] {
        kept = house.issue(device, subject).await.0.session.id.to_string();
    }
    let revoke = |body: Value| operator(Method::POST, "/api/v1/sessions/revoke").json(&body);
    for (body, field) in [
        (json!({}), "exactly one"),
        (json!({"all": true, "subject": "alice"}), "exactly one"),
        (json!({"ids": []}), "ids"),
        (json!({"ids": [kept], "dryRun": "yes"}), "dryRun"),
        (json!({"all": true, "reason": "x".repeat(257)}), "reason"),
        (json!({"all": true, "force": true}), "force"),
    ] {
        let answer = revoke(body).send(&house.admin).await;
        answer.is_problem(400, "bad_request");
        assert!(answer.json()["detail"].as_str().unwrap().contains(field), "{}", answer.text);
    }
    // One unknown name, and nothing of what was asked is done.
    revoke(json!({"ids": [kept, "zzzz"]})).send(&house.admin).await.is_problem(404, "not_found");
    let would = revoke(json!({"all": true, "dryRun": true})).send(&house.admin).await.json();
    assert_eq!((&would["endedCount"], &would["dryRun"]), (&json!(4), &json!(true)));
    for (body, count) in [
        (json!({"deviceId": "laptop", "reason": "lost"}), 2),
        (json!({"subject": "alice"}), 1),
        (json!({"all": true, "except": &kept[..10]}), 0),
        (json!({"ids": [&kept[..10], kept]}), 1),
    ] {
        let answer = revoke(body.clone()).send(&house.admin).await.json();
        assert_eq!(answer["endedCount"], count, "{body}: {answer}");
    }
    let page = operator(Method::GET, "/api/v1/sessions").send(&house.admin).await.json();
    assert_eq!(devices(&page).len(), 0);
}

#[tokio::test]
async fn readiness_follows_the_store_and_health_does_not() {
    let house = ApiFixture::new();
    assert_eq!(ask(Method::GET, "/readyz").send(&house.admin).await.text, "ready\n");
    house.store.set_down(true);
    until(async || ask(Method::GET, "/readyz").send(&house.admin).await.status == 503).await;
    let answer = ask(Method::GET, "/readyz").send(&house.admin).await;
    answer.is_problem(503, "store_unavailable");
    assert!(!answer.text.contains("secret-place"));
    assert_eq!(ask(Method::GET, "/healthz").send(&house.admin).await.text, "ok\n");
    operator(Method::GET, "/api/v1/sessions").send(&house.admin).await.is_problem(503, "store_unavailable");
    operator(Method::GET, "/events").send(&house.admin).await.is_problem(503, "store_unavailable");
    house.store.set_down(false);
    until(async || ask(Method::GET, "/readyz").send(&house.admin).await.status == 200).await;
}

/// Waits until something is so, and fails where it does not become so.
async fn until(is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so().await {
        assert!(Instant::now() < deadline, "it did not become so");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn counters_tell_outcomes_and_nothing_that_a_client_chose() {
    let house = ApiFixture::new();
    let (issued, token) = house.issue("laptop", "alice").await;
    for (token, status) in [(token.as_str(), 200), ("tnr_nonsense", 401)] {
        let answer = ask(Method::GET, "/_tenure/v1/sessions?limit=1").bearer(token).send(&house.api).await;
        assert_eq!(answer.status.as_u16(), status);
    }
    let metrics = operator(Method::GET, "/metrics").send(&house.admin).await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    for line in [
        "tenure_requests_total{outcome=\"admitted\"} 1",
        "tenure_requests_total{outcome=\"refused\"} 1",
        "tenure_refusals_total{code=\"malformed\"} 1",
        "tenure_verify_seconds_count 2",
    ] {
        assert!(metrics.text.lines().any(|found| found == line), "{line} is missing in\n{}", metrics.text);
    }
    for secret in [&token, &issued.session.id.to_string(), "laptop", "alice"] {
        assert!(!metrics.text.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn the_page_is_a_shell_that_runs_only_its_own_script() {
    let house = ApiFixture::new();
    let page = ask(Method::GET, "/").send(&house.admin).await;
    let policy = page.header("content-security-policy");
    for part in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"));
    // Neither script nor style nor handler in the markup: the policy would not run them.
    assert_eq!(page.text.matches("<script").count(), page.text.matches("<script src=\"/static/admin.js\"").count());
    assert!(!page.text.contains("style=") && !page.text.contains(" onclick"));
    let script = ask(Method::GET, "/static/admin.js").send(&house.admin).await;
    assert_eq!(script.header("content-type"), "text/javascript; charset=utf-8");
    assert!(!script.text.contains("innerHTML") && !script.text.contains("localStorage"));
}

#[tokio::test]
async fn after_ten_failures_wrong_secrets_have_to_wait_and_the_right_one_does_not() {
    let ways: [fn(&str) -> Ask; 2] = [
        |secret| ask(Method::GET, "/api/v1/sessions").bearer(secret),
        |secret| ask(Method::POST, "/oauth2/introspect").form(&[("token", "x"), ("client_secret", secret)]),
    ];
    for way in ways {
        let house = ApiFixture::new();
        lock_out(&house.admin, || way("wrong")).await;
        assert_eq!(way(ADMIN).send(&house.admin).await.status, 200);
        let elsewhere = "198.51.100.1".parse().unwrap();
        assert_eq!(way("wrong").from(elsewhere).send(&house.admin).await.status, 401);
        // Asking without any secret is no guess.
        ask(Method::GET, "/metrics").from(elsewhere).send(&house.admin).await.is_problem(401, "secret_required");
    }
}

#[tokio::test]
async fn whoever_guesses_tokens_locks_no_operator_out() {
    let house = ApiFixture::new();
    lock_out(&house.api, || ask(Method::GET, "/_tenure/v1/sessions").bearer("tnr_wrong")).await;
    let metrics = operator(Method::GET, "/metrics").send(&house.admin).await.text;
    for line in [
        "requests_total{outcome=\"refused\"} 10",
        "requests_total{outcome=\"limited\"} 1",
        "refusals_total{code=\"malformed\"} 11",
    ] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert_eq!(operator(Method::GET, "/api/v1/sessions").send(&house.admin).await.status, 200);
}

#[tokio::test]
async fn a_scrapers_secret_opens_the_counters_and_nothing_else() {
    let scraper = "the secret of the scraper";
    let house = ApiFixture::with(Policy::default(), |options| options.metrics_secret = SharedSecret::new(scraper));
    for secret in [scraper, ADMIN] {
        assert_eq!(ask(Method::GET, "/metrics").bearer(secret).send(&house.admin).await.status, 200);
    }
    for (method, path) in [
        (Method::GET, "/api/v1/sessions"),
        (Method::GET, "/api/v1/sessions/k3f9"),
        (Method::DELETE, "/api/v1/sessions/k3f9"),
        (Method::POST, "/api/v1/sessions/revoke"),
        (Method::GET, "/events"),
    ] {
        ask(method, path).bearer(scraper).send(&house.admin).await.is_problem(401, "secret_required");
    }
    let introspect = ask(Method::POST, "/oauth2/introspect").form(&[("token", "x"), ("client_secret", scraper)]);
    assert_eq!(introspect.send(&house.admin).await.status, 401);
    ask(Method::GET, "/metrics").bearer("wrong").send(&house.admin).await.is_problem(401, "secret_required");
    ask(Method::GET, "/metrics").send(&house.admin).await.is_problem(401, "secret_required");
    let house = ApiFixture::new();
    ask(Method::GET, "/metrics").bearer(scraper).send(&house.admin).await.is_problem(401, "secret_required");
}

#[tokio::test]
async fn names_that_are_set_are_answered_to_and_no_others() {
    let house = ApiFixture::with(Policy::default(), |options| options.admin_hosts = vec!["tenure".to_owned()]);
    let named = |host: &str| Ask::of(Method::GET, "/healthz").header("host", host);
    for (host, status) in [("tenure:8471", 200), ("TENURE", 200), ("localhost", 200), ("tenure.evil.test", 403)] {
        assert_eq!(named(host).send(&house.admin).await.status, status, "{host}");
    }
    named("tenure:8471").send(&ApiFixture::new().admin).await.is_problem(403, "forbidden");
}
