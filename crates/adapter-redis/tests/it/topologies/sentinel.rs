//! A primary behind sentinels, and what happens when it is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use tenure_adapter_redis::RedisStore;
use tenure_conformance::SystemClock;
use tenure_domain::Policy;
use tenure_ports::{FindOptions, StoreError, StoreEvent, prelude::*};
use tenure_redis_test_server::{Sentinels, Server, free_port};
use tokio::time::{Instant, sleep};

use crate::support::{DEADLINE, brief, device, eventually, issue, new_session, open, revoke, store_at};

/// A failover: half a second until the sentinels call the primary down, and what they need to agree.
const FAILOVER: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_primary_is_found_through_any_sentinel() {
    let sentinels = Sentinels::start();
    let store = store_at(&sentinels.url()).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    assert_eq!(store.find(session.id, FindOptions::EXACT).await.unwrap(), Some(session.clone()));
    store.check_writable().await.unwrap();
    // One sentinel is enough, also where others cannot be reached.
    let (_, rest) = sentinels.url().split_once("://").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    let (first, service) = rest.split_once(',').map(|(a, b)| (a, b.rsplit_once('/').unwrap().1)).unwrap();
    let one = store_at(&format!("redis+sentinel://127.0.0.1:{},{first}/{service}", free_port())).await;
    assert_eq!(one.find(session.id, FindOptions::EXACT).await.unwrap(), Some(session));
    let url = format!("redis+sentinel://{first}/other");
    let error = RedisStore::connect(brief(&url), Arc::new(SystemClock)).await.err().unwrap().to_string();
    assert!(error.contains("knows no service other"), "{error}");
}

#[tokio::test]
async fn no_sentinel_is_unavailable_and_named() {
    let port = free_port();
    let began = Instant::now();
    let options = brief(&format!("redis+sentinel://:hunter2@127.0.0.1:{port}/main"));
    let error = RedisStore::connect(options, Arc::new(SystemClock)).await.err().unwrap();
    assert!(began.elapsed() < DEADLINE);
    let text = error.to_string();
    assert!(text.contains(&format!("sentinel at 127.0.0.1:{port}")) && !text.contains("hunter2"), "{text}");
}

#[tokio::test]
async fn a_server_that_is_no_sentinel_is_told_so() {
    let server = Server::start();
    let options = brief(&format!("redis+sentinel://127.0.0.1:{}/main", server.port()));
    let error = RedisStore::connect(options, Arc::new(SystemClock)).await.err().unwrap().to_string();
    assert!(error.contains("sentinel at"), "{error}");
}

/// Issues without end, and notes how long the longest call took and when the last one succeeded.
async fn write_on(store: Arc<RedisStore>, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Duration {
    let policy = Policy::default();
    let mut longest = Duration::ZERO;
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let name = device(&format!("device {number}"));
        let began = Instant::now();
        let loaded = store.load(&name).await;
        longest = longest.max(began.elapsed());
        let Ok(loaded) = loaded else {
            assert!(matches!(loaded, Err(StoreError::Unavailable { .. })), "{loaded:?}");
            continue;
        };
        let issue = loaded.issue(new_session(&policy), &policy, store.clock().now()).unwrap();
        let began = Instant::now();
        if store.commit(&issue.commit).await.is_ok() {
            done.fetch_add(1, Ordering::Relaxed);
        }
        longest = longest.max(began.elapsed());
        sleep(Duration::from_millis(1)).await;
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_go_on_by_themselves_after_a_failover() {
    let mut sentinels = Sentinels::start();
    let store = open(brief(&sentinels.url())).await;
    let mut feed = store.subscribe().await.unwrap();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = tokio::spawn(write_on(open(brief(&sentinels.url())).await, Arc::clone(&stop), Arc::clone(&done)));
    eventually("writes are made", FAILOVER, async || done.load(Ordering::Relaxed) > 20).await;
    let primary = sentinels.primary();
    sentinels.server_mut(primary).kill();
    let killed = Instant::now();
    sleep(Duration::from_millis(300)).await;
    let before = done.load(Ordering::Relaxed);
    eventually("writes are made again", FAILOVER, async || done.load(Ordering::Relaxed) > before + 20).await;
    println!("writes went on {:?} after the kill", killed.elapsed());
    stop.store(true, Ordering::Relaxed);
    let longest = writer.await.unwrap();
    assert!(longest < DEADLINE, "{longest:?}");
    // The feed says that news was missed, and has the news of the new primary from then on.
    let mut next = async || tokio::time::timeout(FAILOVER, feed.next()).await.unwrap().unwrap();
    while next().await != StoreEvent::Lagged {}
    let mut issued = issue(&store, "laptop", &Policy::default()).await.0.id;
    loop {
        match next().await {
            StoreEvent::Lagged => issued = issue(&store, "laptop", &Policy::default()).await.0.id,
            StoreEvent::Changed { session: told, .. } if told == issued => break,
            StoreEvent::Changed { .. } => {}
        }
    }
    sentinels.server_mut(primary).restart();
    sentinels.wait_until_settled();
    store.check_writable().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_replaced_while_it_hung_is_left() {
    let sentinels = Sentinels::start();
    let store = open(brief(&sentinels.url())).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    let primary = sentinels.primary();
    eventually("the replica has it", FAILOVER, async || {
        let sizes = [0, 1].map(|number| sentinels.server(number).ask::<usize>(&["DBSIZE"]));
        sizes[0] == sizes[1]
    })
    .await;
    sentinels.server(primary).freeze();
    let began = Instant::now();
    let found = store.find(session.id, FindOptions::EXACT).await;
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    match found {
        Err(StoreError::Unavailable { .. }) => {}
        // Within the limits another may have taken its place already; only that one may answer.
        Ok(found) => {
            assert_eq!(found.as_ref(), Some(&session));
            eventually("another is the primary", FAILOVER, async || sentinels.primary() != primary).await;
        }
        other => panic!("{other:?}"),
    }
    eventually("another process can revoke", FAILOVER, async || {
        match RedisStore::connect(brief(&sentinels.url()), Arc::new(SystemClock)).await {
            Ok(other) if other.check_writable().await.is_ok() => {
                revoke(&other, session.id).await;
                true
            }
            _ => false,
        }
    })
    .await;
    sentinels.server(primary).thaw();
    // Whatever the old primary still says, it is not asked any more.
    for _ in 0..50 {
        let found = store.find(session.id, FindOptions::EXACT).await.unwrap().unwrap();
        assert!(found.end.is_some());
        sleep(Duration::from_millis(10)).await;
    }
}
