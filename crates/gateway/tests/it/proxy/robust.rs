//! Whatever comes in, an answer goes out, and never one that blames the gateway.

use http::Method;
use proptest::prelude::*;

use crate::support::{ADMIN, ApiFixture, Ask, ENROL};

const PATHS: [&str; 14] = [
    "/_tenure/v1/sessions",
    "/_tenure/v1/sessions/",
    "/_tenure/v1/sessions/revoke-others",
    "/_tenure/v1/token/rotate",
    "/_tenure/v1/session",
    "/_tenure/login",
    "/_tenure/logout",
    "/api/v1/sessions",
    "/api/v1/sessions/",
    "/api/v1/sessions/revoke",
    "/oauth2/introspect",
    "/oauth2/revoke",
    "/readyz",
    "/",
];
const TYPES: [&str; 4] =
    ["application/json", "application/x-www-form-urlencoded", "application/json; charset=\"", "text/plain"];

/// Text of a header's value: what a client can send, and not only what it should.
fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,80}",
        Just(format!("Bearer {ADMIN}")),
        Just(format!("Bearer {ENROL}")),
        "Bearer tnr_[ -~]{0,80}",
        "Basic [A-Za-z0-9+/=]{0,40}"
    ]
}

/// A body: noise, or nearly what an endpoint wants.
fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "(token|client_secret|token_type_hint|return)=[ -~]{0,40}(&(token|client_id)=[ -~]{0,20}){0,2}"
            .prop_map(String::into_bytes),
        "\\{\"(deviceId|ids|all|ttl|subject|clientInfo)\": ?(\"[ -~]{0,20}\"|\\[\\]|\\{\\}|true|1e999|null)\\}"
            .prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_in_an_answer_goes_out(
        path in prop::sample::select(&PATHS[..]),
        tail in "[A-Za-z0-9%&=?/._~+-]{0,40}",
        method in prop::sample::select(vec![Method::GET, Method::POST, Method::DELETE, Method::PUT, Method::OPTIONS]),
        kind in prop::sample::select(&TYPES[..]),
        authorization in value(),
        cookie in value(),
        origin in value(),
        body in body(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let house = ApiFixture::new();
            for router in [&house.api, &house.admin] {
                let Ok(uri) = format!("{path}{tail}").parse::<http::Uri>() else { return Ok(()) };
                let ask = Ask::of(method.clone(), &uri.to_string()).header("host", "127.0.0.1:8471");
                let ask = ask.header("content-type", kind).header("authorization", authorization.trim());
                let ask = ask.header("cookie", &format!("tenure={}", cookie.trim())).header("origin", origin.trim());
                let answer = ask.body(body.clone()).send(router).await;
                prop_assert!(answer.status.as_u16() < 500, "{answer:?}");
                if answer.status.is_client_error() && answer.header("content-type") == "application/problem+json" {
                    prop_assert_eq!(answer.header("cache-control"), "no-store");
                    prop_assert!(answer.json()["detail"].is_string());
                }
            }
            Ok(())
        })?;
    }
}
