//! A cluster of three nodes: every key where it belongs, also while it moves there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use tenure_adapter_redis::{Options, RedisStore};
use tenure_conformance::SystemClock;
use tenure_domain::{Bucket, Filter, Millis, Policy, PolicySettings, Scope, Session, SessionId, Touch};
use tenure_ports::{CommitError, FindOptions, StoreError, StoreEvent, prelude::*};
use tenure_redis_test_server::{BUSY, Cluster, free_port};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{
    DEADLINE, SOON, brief, device, eventually, issue, keep, new_session, open, policy, purge_now, revocation_under,
    revoke, store_at, walk,
};

/// How long a session may be used that a node has kept, once nothing more is heard of it.
const BOUND: Duration = Duration::from_millis(500).saturating_add(BUSY);

async fn all(store: &RedisStore, filter: &Filter) -> BTreeSet<SessionId> {
    let sessions = walk(store, filter, store.clock().now(), 100).await;
    sessions.iter().map(|session| session.id).collect()
}

#[tokio::test]
async fn a_cluster_is_one_store() {
    let cluster = Cluster::start();
    let (ours, theirs) = (store_at(&cluster.url()).await, store_at(&cluster.url()).await);
    let mut feed = theirs.subscribe().await.unwrap();
    let names: Vec<String> = (0..60).map(|number| format!("device {number}")).collect();
    let policy = Policy::default();
    let issues = names.iter().map(|name| issue(&ours, name, &policy));
    let issued: Vec<Session> =
        futures_util::future::join_all(issues).await.into_iter().map(|(session, _)| session).collect();
    let owners: BTreeSet<usize> =
        names.iter().map(|name| cluster.owner(cluster.slot(&format!("{{{}}}", Bucket::of(&device(name)))))).collect();
    assert_eq!(owners.len(), 3, "the sessions are on all three nodes");
    let mut told = BTreeSet::new();
    while told.len() < issued.len() {
        match timeout(SOON, feed.next()).await.unwrap().unwrap() {
            StoreEvent::Changed { session, .. } => told.insert(session),
            StoreEvent::Lagged => panic!("nothing was missed"),
        };
    }
    for session in &issued {
        assert_eq!(theirs.find(session.id, FindOptions::EXACT).await.unwrap().as_ref(), Some(session));
    }
    let ids: BTreeSet<_> = issued.iter().map(|session| session.id).collect();
    assert_eq!(all(&theirs, &Filter::default()).await, ids);
    let at = ours.clock().now().plus(Millis::seconds(1));
    let touches: Vec<_> = ids.iter().map(|id| Touch { session: *id, at }).collect();
    ours.touch(&touches).await.unwrap();
    for id in &ids {
        assert_eq!(theirs.find(*id, FindOptions::EXACT).await.unwrap().unwrap().last_activity, at);
        revoke(&theirs, *id).await;
    }
    assert!(all(&ours, &Filter::default()).await.is_empty());
    assert_eq!(all(&ours, &Filter { scope: Scope::Retained, ..Filter::default() }).await, ids);
    assert_eq!(purge_now(&ours).await, ids.len() as u64);
}

#[tokio::test]
async fn no_cluster_is_unavailable_and_named() {
    let port = free_port();
    let began = Instant::now();
    let options = brief(&format!("redis+cluster://:hunter2@127.0.0.1:{port}"));
    let error = RedisStore::connect(options, Arc::new(SystemClock)).await.err().unwrap();
    assert!(began.elapsed() < DEADLINE);
    let text = error.to_string();
    assert!(text.contains(&port.to_string()) && !text.contains("hunter2"), "{text}");
    let server = tenure_redis_test_server::Server::start();
    let options = Options::new(&format!("redis+cluster://127.0.0.1:{}", server.port()));
    let error = RedisStore::connect(options, Arc::new(SystemClock)).await.err().unwrap().to_string();
    assert!(error.contains("cluster"), "{error}");
}

#[tokio::test]
async fn one_node_addressed_as_a_server_says_what_to_do() {
    let cluster = Cluster::start();
    let store = store_at(&cluster.nodes()[0].url()).await;
    for number in 0..20 {
        if let Err(error) = store.load(&device(&format!("device {number}"))).await {
            let text = error.to_string();
            assert!(text.contains("redis+cluster://") && !text.contains("MOVED"), "{text}");
            return;
        }
    }
    panic!("one node of three served twenty devices");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_under_load_gives_no_wrong_answer() {
    let cluster = Arc::new(Cluster::start());
    let store = open(brief(&cluster.url())).await;
    // Ten times as many ended ones are kept: more than are issued here.
    let policy = policy(PolicySettings { max_sessions_per_device: Some(100), ..PolicySettings::default() });
    let (held, _) = issue(&store, "laptop", &policy).await;
    let (ended, _) = issue(&store, "laptop", &policy).await;
    let slot = cluster.slot(&format!("{{{}}}", held.id.bucket()));
    revoke(&store, ended.id).await;
    store.touch(&[Touch { session: held.id, at: store.clock().now() }]).await.unwrap();
    let (held, ended) = (held.id, ended.id);
    let stop = Arc::new(AtomicBool::new(false));
    let verify = {
        let (store, stop) = (open(brief(&cluster.url())).await, Arc::clone(&stop));
        tokio::spawn(async move {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let found = store.find(held, FindOptions::EXACT).await.unwrap().expect("it holds");
                assert!(found.end.is_none());
                let found = store.find(ended, FindOptions::EXACT).await.unwrap().expect("it is kept");
                assert!(found.end.is_some(), "what has ended came back");
                assert!(began.elapsed() < 2 * DEADLINE, "{:?}", began.elapsed());
                count += 2;
            }
            count
        })
    };
    // Issues sessions on the same device and revokes them: each revocation that was acknowledged must hold.
    let write = {
        let (store, stop) = (open(brief(&cluster.url())).await, Arc::clone(&stop));
        tokio::spawn(async move {
            let (mut done, mut refused) = (0, 0);
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let Ok(loaded) = store.load(&device("laptop")).await else {
                    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
                    refused += 1;
                    continue;
                };
                assert!(loaded.sessions().iter().any(|session| session.id == held), "a load without {}", held);
                let issue = loaded.issue(new_session(&policy), &policy, store.clock().now()).unwrap();
                let began = Instant::now();
                let outcome = store.commit(&issue.commit).await;
                assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
                match outcome {
                    Ok(_) => {}
                    Err(CommitError::Store(StoreError::Unavailable { message, .. })) => {
                        assert!(!message.contains("TRYAGAIN") && !message.contains("MOVED"), "{message}");
                        refused += 1;
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                }
                let Ok(Some(loaded)) = store.load_by_session(issue.session.id).await else {
                    refused += 1;
                    continue;
                };
                let commit = revocation_under(&loaded, issue.session.id, &policy, store.clock().now());
                if store.commit(&commit).await.is_ok() {
                    assert!(store.find(issue.session.id, FindOptions::EXACT).await.unwrap().unwrap().end.is_some());
                    done += 1;
                    sleep(Duration::from_millis(2)).await;
                } else {
                    refused += 1;
                    // So that the device is not filled up by what could not be revoked.
                    eventually("it is revoked", SOON, async || match store.load_by_session(issue.session.id).await {
                        Ok(Some(loaded)) => {
                            let now = store.clock().now();
                            let commit = revocation_under(&loaded, issue.session.id, &policy, now);
                            store.commit(&commit).await.is_ok()
                        }
                        _ => false,
                    })
                    .await;
                }
            }
            (done, refused)
        })
    };
    for round in 0..6 {
        let cluster = Arc::clone(&cluster);
        let moved = tokio::task::spawn_blocking(move || {
            let to = (cluster.owner(slot) + 1) % 3;
            cluster.move_slot(slot, to, 1, Duration::from_millis(if round % 2 == 0 { 1 } else { 15 }));
        });
        moved.await.unwrap();
        sleep(Duration::from_millis(100)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let (verified, (done, refused)) = (verify.await.unwrap(), write.await.unwrap());
    println!("{verified} verifications, {done} sessions issued and revoked, {refused} refused while their slot moved");
    assert!(verified > 100 && done > 10, "{verified} {done}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_takes_over_from_a_node_that_is_gone() {
    let mut cluster = Cluster::start_with(true, &[]);
    let store = open(brief(&cluster.url())).await;
    let mut feed = store.subscribe().await.unwrap();
    let mut sessions = Vec::new();
    for number in 0..30 {
        sessions.push(issue(&store, &format!("device {number}"), &Policy::default()).await.0);
    }
    sleep(Duration::from_millis(200)).await;
    cluster.node_mut(0).kill();
    let killed = Instant::now();
    let mut left: Vec<_> = sessions.clone();
    while !left.is_empty() {
        assert!(killed.elapsed() < SOON, "{} sessions are not served again", left.len());
        let finds = left.into_iter().map(async |session| {
            let began = Instant::now();
            let found = store.find(session.id, FindOptions::EXACT).await;
            assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
            match found {
                Ok(found) => {
                    assert_eq!(found, Some(session));
                    None
                }
                Err(StoreError::Unavailable { .. }) => Some(session),
                Err(error) => panic!("{error}"),
            }
        });
        left = futures_util::future::join_all(finds).await.into_iter().flatten().collect();
    }
    println!("all sessions were served again {:?} after the kill", killed.elapsed());
    for session in &sessions {
        revoke(&store, session.id).await;
    }
    // Whichever node the feed followed, the news comes.
    let last = sessions[29].id;
    loop {
        match timeout(SOON, feed.next()).await.unwrap().unwrap() {
            StoreEvent::Changed { session, kind: tenure_ports::ChangeKind::Ended(_), .. } if session == last => break,
            _ => {}
        }
    }
}

/// A device whose sessions are on this node.
fn device_on(cluster: &Cluster, node: usize) -> String {
    let on = |name: &String| cluster.owner(cluster.slot(&format!("{{{}}}", Bucket::of(&device(name))))) == node;
    (0..).map(|number| format!("device {number}")).find(on).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_kept_by_the_news_of_their_node() {
    let mut cluster = Cluster::start();
    let ours = open(Options { near_cache: true, ..brief(&cluster.url()) }).await;
    let theirs = open(brief(&cluster.url())).await;
    let mut sessions = Vec::new();
    for node in 0..3 {
        let session = issue(&theirs, &device_on(&cluster, node), &Policy::default()).await.0;
        keep(&ours, session.id).await;
        sessions.push(session.id);
    }
    // Each node tells of its own.
    for id in &sessions {
        assert!(ours.cache().unwrap().find_cached(*id).is_some());
        revoke(&theirs, *id).await;
        eventually("its end is told", SOON, async || ours.cache().unwrap().find_cached(*id).is_none()).await;
        assert!(ours.find(*id, FindOptions::EXACT).await.unwrap().unwrap().end.is_some());
    }
    // A slot that moves takes its news along.
    let moved = issue(&theirs, &device_on(&cluster, 1), &Policy::default()).await.0;
    keep(&ours, moved.id).await;
    let slot = cluster.slot(&format!("{{{}}}", moved.id.bucket()));
    tokio::task::block_in_place(|| cluster.move_slot(slot, 2, 10, Duration::ZERO));
    keep(&ours, moved.id).await;
    revoke(&theirs, moved.id).await;
    eventually("its end is told", SOON, async || ours.cache().unwrap().find_cached(moved.id).is_none()).await;
    // A node that hangs is not believed for longer than the lease.
    let held = issue(&theirs, &device_on(&cluster, 0), &Policy::default()).await.0;
    keep(&ours, held.id).await;
    cluster.nodes()[0].freeze();
    let frozen = Instant::now();
    eventually("it is not used any more", SOON, async || ours.cache().unwrap().find_cached(held.id).is_none()).await;
    assert!(frozen.elapsed() < BOUND, "{:?}", frozen.elapsed());
    cluster.nodes()[0].thaw();
    cluster.wait_until_whole();
    keep(&ours, held.id).await;
    // Nor is one that answers, but is cut off from the rest: another may have taken its place.
    cluster.node_mut(1).kill();
    cluster.node_mut(2).kill();
    eventually("the node calls the cluster down", SOON, async || {
        matches!(theirs.find(held.id, FindOptions::EXACT).await, Err(StoreError::Unavailable { .. }))
    })
    .await;
    let down = Instant::now();
    eventually("it is not used any more", SOON, async || ours.cache().unwrap().find_cached(held.id).is_none()).await;
    assert!(down.elapsed() < BOUND, "{:?}", down.elapsed());
    assert!(matches!(ours.find(held.id, FindOptions::EXACT).await, Err(StoreError::Unavailable { .. })));
}
