//! `GET /events`: news of changes as server-sent events.

use std::time::Duration;

use axum::body::BodyDataStream;
use futures_util::StreamExt as _;
use http::Method;
use tenure_service::Target;

use crate::support::{ADMIN, ApiFixture, ask};

/// What has come of a stream so far.
struct Follower {
    body: BodyDataStream,
    text: String,
}

impl Follower {
    async fn of(house: &ApiFixture) -> Self {
        let response = ask(Method::GET, "/events").bearer(ADMIN).open(&house.admin).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self { body: response.into_body().into_data_stream(), text: String::new() }
    }

    /// Reads on until the text is there.
    async fn until(&mut self, part: &str) {
        while !self.text.contains(part) {
            let next = tokio::time::timeout(Duration::from_secs(60), self.body.next()).await;
            let bytes = next.unwrap_or_else(|_| panic!("{part:?} did not come: {}", self.text));
            self.text += std::str::from_utf8(&bytes.unwrap().unwrap()).unwrap();
        }
    }
}

#[tokio::test]
async fn changes_are_told_as_they_happen_without_any_secret() {
    let house = ApiFixture::new();
    let mut follower = Follower::of(&house).await;
    follower.until(": following\n\n").await;
    let (issued, token) = house.issue("laptop", "alice").await;
    let id = issued.session.id;
    follower
        .until(&format!("event: change\ndata: {{\"sessionId\":\"{id}\",\"kind\":\"issued\",\"at\":\"2026-11-18T"))
        .await;
    ask(Method::POST, "/_tenure/v1/token/rotate").bearer(&token).send(&house.api).await;
    follower.until("\"kind\":\"rotated\"").await;
    house.sessions.revoke(&Target::All, None, &tenure_service::Sessions::revocation(None, None)).await.unwrap();
    follower.until("\"kind\":\"revoked\"").await;
    assert!(!follower.text.contains("tnr_"));
}

#[tokio::test]
async fn who_reads_too_slowly_is_told_that_something_is_missing() {
    let house = ApiFixture::new();
    let mut follower = Follower::of(&house).await;
    follower.until(": following\n\n").await;
    // As a store does that has more events than it holds for one who does not read.
    house.store.send_lagged();
    follower.until("event: missed\ndata: {}\n\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_comment_shows_that_the_stream_is_alive() {
    let house = ApiFixture::new();
    let mut follower = Follower::of(&house).await;
    follower.until(": alive\n\n").await;
}

#[tokio::test]
async fn streams_are_bounded_and_an_abandoned_one_makes_room() {
    let house = ApiFixture::new();
    let mut streams = Vec::new();
    for _ in 0..64 {
        streams.push(Follower::of(&house).await);
    }
    ask(Method::GET, "/events").bearer(ADMIN).send(&house.admin).await.is_problem(429, "too_many_requests");
    streams.pop();
    Follower::of(&house).await;
}
