//! Every key but a bounded number of small ones goes by itself.

use tenure_adapter_redis::RedisStore;
use tenure_conformance::{SystemClock, TestClock};
use tenure_domain::{Filter, Millis, PolicySettings, Scope, State, Touch};
use tenure_ports::{Clock as _, FindOptions, prelude::*};
use tenure_redis_test_server::{BUSY, Server, patient};

use crate::support::{SOON, eventually, issue, keys, policy, purge_now, raw, revoke, store};

/// Every key has a time to live, but the counters of buckets: at most 1,024 of a few bytes.
async fn assert_all_expire(server: &Server, within: Millis) {
    for key in keys(server).await {
        let left: i64 = raw(server, &[b"PTTL", key.as_bytes()]).await;
        if key.ends_with("}:n") {
            assert_eq!(left, -1, "{key}");
        } else {
            assert!(left > 0 && left.unsigned_abs() <= within.get(), "{key} lives {left} ms");
        }
    }
}

#[tokio::test]
async fn every_key_has_a_time_to_live() {
    let server = Server::start();
    let store = store(&server).await;
    let policy = policy(PolicySettings {
        token_ttl: Some(Millis::minutes(1)),
        max_lifetime: Some(Millis::minutes(2)),
        retention: Some(Millis::minutes(3)),
        max_sessions_per_device: Some(2),
        ..PolicySettings::default()
    });
    let within = Millis::minutes(4);
    let mut last = None;
    for number in 0..30 {
        let (session, _) = issue(&store, &format!("device {}", number % 3), &policy).await;
        store.touch(&[Touch { session: session.id, at: session.created_at.plus(Millis::new(1)) }]).await.unwrap();
        last = Some(session);
    }
    assert_all_expire(&server, within).await;
    revoke(&store, last.unwrap().id).await;
    assert_all_expire(&server, within).await;
    purge_now(&store).await;
    assert_all_expire(&server, within).await;
}

#[tokio::test]
async fn everything_is_gone_after_expiry_and_retention() {
    let server = Server::start();
    let store = store(&server).await;
    let policy = policy(PolicySettings {
        token_ttl: Some(Millis::seconds(3)),
        max_lifetime: Some(Millis::seconds(3)),
        retention: Some(Millis::ZERO),
        max_sessions_per_device: Some(2),
        ..PolicySettings::default()
    });
    for number in 0..12 {
        let (session, _) = issue(&store, &format!("device {}", number % 3), &policy).await;
        store.touch(&[Touch { session: session.id, at: session.created_at.plus(Millis::new(1)) }]).await.unwrap();
    }
    let (session, _) = issue(&store, "device 0", &policy).await;
    revoke(&store, session.id).await;
    drop(store);
    eventually("only counters are left", SOON, async || keys(&server).await.iter().all(|key| key.ends_with("}:n")))
        .await;
}

#[tokio::test]
async fn indexes_lose_what_expired_while_others_live() {
    let server = Server::start();
    let store = store(&server).await;
    let brief = policy(PolicySettings {
        token_ttl: Some(Millis::seconds(1)),
        max_lifetime: Some(Millis::seconds(1)),
        retention: Some(Millis::ZERO),
        max_sessions_per_device: Some(100),
        ..PolicySettings::default()
    });
    let long = policy(PolicySettings { max_sessions_per_device: Some(100), ..PolicySettings::default() });
    let mut gone = Vec::new();
    for _ in 0..30 {
        gone.push(issue(&store, "laptop", &brief).await.0);
    }
    let last = gone.last().unwrap().id;
    eventually("the brief ones are gone", SOON, async || store.find(last, FindOptions::EXACT).await.unwrap().is_none())
        .await;
    for _ in 0..60 {
        issue(&store, "laptop", &long).await;
    }
    let index: Vec<String> = raw(&server, &[b"KEYS", b"*}:i"]).await;
    let members: usize = raw(&server, &[b"ZCARD", index[0].as_bytes()]).await;
    assert!(members < 70, "{members} mentions of 60 sessions");
    let now = store.clock().now();
    let filter = Filter { scope: Scope::Retained, ..Filter::default() };
    assert_eq!(store.page(&filter, now, None, 1_000).await.unwrap().sessions.len(), 60);
}

#[tokio::test]
async fn machines_whose_clocks_are_two_minutes_apart_agree_about_expiry() {
    let server = Server::start();
    // Neither clock goes on: nothing may depend on it.
    let connect = async |wall| RedisStore::connect(patient(&server.url()), TestClock::at(wall)).await.unwrap();
    let (now, minute) = (SystemClock.now(), Millis::minutes(1));
    let (behind, ahead) = (connect(now.minus(minute)).await, connect(now.plus(minute)).await);
    let brief = policy(PolicySettings {
        token_ttl: Some(Millis::seconds(1)),
        max_lifetime: Some(Millis::seconds(1)),
        ..PolicySettings::default()
    });
    let (session, _) = issue(&behind, "laptop", &brief).await;
    let expired = async |store: &RedisStore| {
        eventually("it is expired", SOON, async || {
            let found = store.find(session.id, FindOptions::EXACT).await.unwrap().unwrap();
            found.state(store.clock().now()) == State::Expired
        })
        .await;
        std::time::Instant::now()
    };
    let (one, other) = tokio::join!(expired(&behind), expired(&ahead));
    let apart = one.max(other) - one.min(other);
    assert!(apart < BUSY, "{apart:?}");
}
