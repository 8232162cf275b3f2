//! The admin listener.

use http::Method;

use crate::support::{ADMIN, House, ask};

#[tokio::test]
async fn what_needs_the_secret_is_refused_without_it() {
    let house = House::new();
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
    let house = House::new();
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
    house.clock.advance(24 * 3_600_000);
    let answer = introspect(&token).send(&house.admin).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, "{\"active\":false}"));
}
