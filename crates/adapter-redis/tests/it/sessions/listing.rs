//! Listing, prefixes and clean-up across buckets.

use std::collections::BTreeSet;

use tenure_adapter_redis::RedisStore;
use tenure_domain::{Filter, Millis, Policy, PolicySettings, Scope, Session, SortKey, Subject, Touch};
use tenure_ports::{FindOptions, Purge, prelude::*};
use tenure_redis_test_server::Server;

use crate::support::{device, issue, issue_as, new_session, policy, purge, revoke, store, walk};

async fn many(store: &RedisStore, devices: usize) -> Vec<Session> {
    let issues = (0..devices).map(|number| async move {
        let subject = Subject::new(if number % 3 == 0 { "alice" } else { "bob" }).unwrap();
        issue_as(store, &format!("device {number}"), &Policy::default(), subject).await.0
    });
    futures_util::future::join_all(issues).await
}

#[tokio::test]
async fn a_walk_sees_each_session_once_whatever_the_page() {
    let server = Server::start();
    let store = store(&server).await;
    let issued = many(&store, 700).await;
    let now = store.clock().now();
    let all: BTreeSet<_> = issued.iter().map(|session| session.id).collect();
    for limit in [1, 7, 300, 5_000] {
        let seen = walk(&store, &Filter::default(), now, limit).await;
        assert_eq!(seen.len(), all.len(), "pages of {limit}");
        assert_eq!(seen.iter().map(|session| session.id).collect::<BTreeSet<_>>(), all);
    }
    let alice = Filter { subject: Some(Subject::new("alice").unwrap()), ..Filter::default() };
    let seen = walk(&store, &alice, now, 100).await;
    assert_eq!(seen.len(), 234);
    assert!(seen.iter().all(|session| session.subject.as_str() == "alice"));
}

#[tokio::test]
async fn a_device_shows_its_past_too() {
    let server = Server::start();
    let store = store(&server).await;
    let (first, _) = issue(&store, "laptop", &Policy::default()).await;
    let (second, _) = issue(&store, "laptop", &Policy::default()).await;
    revoke(&store, first.id).await;
    let now = store.clock().now();
    let active = Filter { device: Some(device("laptop")), ..Filter::default() };
    let retained = Filter { scope: Scope::Retained, ..active.clone() };
    let ids = async |filter: &Filter| {
        walk(&store, filter, now, 1).await.iter().map(|session| session.id).collect::<BTreeSet<_>>()
    };
    assert_eq!(ids(&active).await, BTreeSet::from([second.id]));
    assert_eq!(ids(&retained).await, BTreeSet::from([first.id, second.id]));
}

#[tokio::test]
async fn the_top_is_sorted_by_what_was_asked() {
    let server = Server::start();
    let store = store(&server).await;
    let issued = many(&store, 50).await;
    let touches: Vec<_> = issued
        .iter()
        .enumerate()
        .map(|(number, session)| Touch {
            session: session.id,
            at: session.created_at.plus(Millis::seconds(1 + (number as u64 * 7) % 50)),
        })
        .collect();
    store.touch(&touches).await.unwrap();
    let now = store.clock().now();
    for sort in [SortKey::LastActivity, SortKey::Created, SortKey::Expires] {
        let mut all = walk(&store, &Filter::default(), now, 1_000).await;
        all.sort_by(|a, b| sort.compare(a, b));
        let top = store.list_sorted(&Filter::default(), now, sort, 10).await.unwrap();
        assert_eq!(top, all[..10]);
        assert_eq!(store.list_sorted(&Filter::default(), now, sort, 1_000).await.unwrap(), all);
        assert!(store.list_sorted(&Filter::default(), now, sort, 0).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_start_of_an_id_finds_it() {
    let server = Server::start();
    let store = store(&server).await;
    let issued = many(&store, 300).await;
    let mut ids: Vec<_> = issued.iter().map(|session| session.id).collect();
    ids.sort_unstable();
    for id in &ids[..20] {
        assert_eq!(store.ids_with_prefix(id.to_string().parse().unwrap(), 5).await.unwrap(), [*id]);
    }
    let wanted: Vec<_> = ids.iter().copied().filter(|id| id.to_string().starts_with('k')).collect();
    assert_eq!(store.ids_with_prefix("k".parse().unwrap(), 1_000).await.unwrap(), wanted);
    assert_eq!(store.ids_with_prefix("K".parse().unwrap(), 2).await.unwrap(), wanted[..2]);
}

#[tokio::test]
async fn a_purge_removes_what_is_over_and_nothing_else() {
    let server = Server::start();
    let store = store(&server).await;
    let issued = many(&store, 30).await;
    for session in &issued[..10] {
        revoke(&store, session.id).await;
    }
    let now = store.clock().now();
    let purge = async |what: Purge| purge(&store, what).await;
    assert_eq!(purge(Purge { now, inactive_by: now.minus(Millis::hours(1)), dry_run: false }).await, 0);
    assert_eq!(purge(Purge { now, inactive_by: now, dry_run: true }).await, 10);
    assert_eq!(purge(Purge { now, inactive_by: now, dry_run: false }).await, 10);
    assert_eq!(purge(Purge { now, inactive_by: now, dry_run: false }).await, 0);
    for (number, session) in issued.iter().enumerate() {
        assert_eq!(store.find(session.id, FindOptions::EXACT).await.unwrap().is_some(), number >= 10);
    }
    // What ended early is remembered beyond its record.
    assert!(store.load(&issued[0].device).await.unwrap().revocation_watermark().is_some());
    let retained = Filter { scope: Scope::Retained, ..Filter::default() };
    assert_eq!(walk(&store, &retained, now, 100).await.len(), 20);
}

#[tokio::test]
async fn a_purge_of_what_had_not_ended_makes_a_new_revision() {
    let server = Server::start();
    let store = store(&server).await;
    let policy = policy(PolicySettings { idle_timeout: Some(Millis::seconds(30)), ..PolicySettings::default() });
    let (session, _) = issue(&store, "laptop", &policy).await;
    let (kept, _) = issue(&store, "laptop", &Policy::default()).await;
    let before = store.load(&session.device).await.unwrap().revision();
    let now = store.clock().now().plus(Millis::minutes(1));
    purge(&store, Purge { now, inactive_by: now, dry_run: false }).await;
    let after = store.load(&session.device).await.unwrap();
    assert_eq!(after.sessions(), &[kept]);
    assert!(after.revision() > before);
}

#[tokio::test]
async fn no_more_than_the_retained_number_of_ended_sessions_stays() {
    let server = Server::start();
    let store = store(&server).await;
    let policy = policy(PolicySettings { max_sessions_per_device: Some(1), ..PolicySettings::default() });
    let began = store.clock().now();
    let mut ids = Vec::new();
    for number in 0..16 {
        let loaded = store.load(&device("laptop")).await.unwrap();
        // Sessions that ended in the same millisecond would go by their ids.
        let issue = loaded.issue(new_session(&policy), &policy, began.plus(Millis::new(number))).unwrap();
        store.commit(&issue.commit).await.unwrap();
        ids.push(issue.session.id);
    }
    // One active and ten ended ones: the latest.
    for (number, id) in ids.iter().enumerate() {
        assert_eq!(store.find(*id, FindOptions::EXACT).await.unwrap().is_some(), number >= 5, "session {number}");
    }
}
