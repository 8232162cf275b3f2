//! Servers that stop, hang, come back or lose answers.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenure_adapter_redis::{Options, RedisStore};
use tenure_conformance::{SystemClock, TestClock};
use tenure_domain::{Applied, Millis, Policy, Timestamp};
use tenure_ports::{Clock as _, CommitError, FindOptions, Severity, StoreError, prelude::*};
use tenure_redis_test_server::{BUSY, Server, free_port};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use crate::support::{DEADLINE, brief, device, eventually, issue, new_session, open, revoke, store, store_at};

/// How soon a server that is back is found again.
const RECOVERY: Duration = Duration::from_secs(1).saturating_add(BUSY);

fn assert_unavailable<T: std::fmt::Debug>(outcome: Result<T, StoreError>) {
    assert!(matches!(outcome, Err(StoreError::Unavailable { .. })), "{outcome:?}");
}

#[tokio::test]
async fn no_server_is_unavailable_and_named() {
    let url = format!("redis://:hunter2@127.0.0.1:{}/0", free_port());
    let began = Instant::now();
    let error = RedisStore::connect(brief(&url), Arc::new(SystemClock)).await.err().unwrap();
    assert!(began.elapsed() < DEADLINE);
    let text = format!("{error} {error:?}");
    assert!(text.contains("127.0.0.1") && text.contains("is the server running?"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    let beneath = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(beneath.map(io::Error::kind), Some(io::ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn a_killed_server_is_unavailable_at_once_and_found_again_within_a_second() {
    let mut server = Server::start();
    let store = open(brief(&server.url())).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    server.kill();
    for _ in 0..5 {
        let began = Instant::now();
        assert_unavailable(store.find(session.id, FindOptions::EXACT).await);
        assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    }
    server.restart();
    eventually("it is found again", RECOVERY, async || store.find(session.id, FindOptions::EXACT).await.is_ok()).await;
    assert_eq!(store.find(session.id, FindOptions::EXACT).await.unwrap(), Some(session));
}

#[tokio::test]
async fn a_hanging_server_is_unavailable_within_the_deadline() {
    let server = Server::start();
    let store = open(brief(&server.url())).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    server.freeze();
    let calls = (0..8).map(|_| async {
        for _ in 0..3 {
            let began = Instant::now();
            assert_unavailable(store.find(session.id, FindOptions::EXACT).await);
            assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
        }
    });
    futures_util::future::join_all(calls).await;
    let began = Instant::now();
    let fresh = RedisStore::connect(brief(&server.url()), Arc::new(SystemClock)).await;
    assert_unavailable(fresh.map(drop));
    assert!(began.elapsed() < DEADLINE);
    server.thaw();
    eventually("it answers again", RECOVERY, async || store.find(session.id, FindOptions::EXACT).await.is_ok()).await;
}

#[tokio::test]
async fn a_commit_to_a_hanging_server_is_of_unknown_outcome() {
    let server = Server::start();
    let store = open(brief(&server.url())).await;
    let policy = Policy::default();
    let loaded = store.load(&device("laptop")).await.unwrap();
    let issue = loaded.issue(new_session(&policy), &policy, store.clock().now()).unwrap();
    server.freeze();
    let began = Instant::now();
    let outcome = store.commit(&issue.commit).await;
    assert!(matches!(outcome, Err(CommitError::OutcomeUnknown { .. })), "{outcome:?}");
    assert!(began.elapsed() < DEADLINE);
    // With no connection left, nothing is sent, so nothing can have happened.
    let again = store.commit(&issue.commit).await;
    assert!(matches!(again, Err(CommitError::Store(StoreError::Unavailable { .. }))), "{again:?}");
    server.thaw();
    eventually("it answers again", RECOVERY, async || store.check_writable().await.is_ok()).await;
    match store.commit(&issue.commit).await {
        Ok(_) => {}
        Err(CommitError::Conflict) => {
            let found = store.find(issue.session.id, FindOptions::EXACT).await.unwrap();
            assert_eq!(issue.commit.applied(|_| found.clone()), Applied::Yes);
        }
        other => panic!("{other:?}"),
    }
}

/// Passes bytes on both ways; the answer to the first script that is sent after `armed` is cut off.
async fn cut_after_commit(server: u16, armed: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let armed = Arc::clone(&armed);
            tokio::spawn(async move {
                let mut upstream = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let (mut up, mut down) = ([0; 65_536], [0; 65_536]);
                let mut cut = false;
                loop {
                    tokio::select! {
                        count = client.read(&mut up) => {
                            let count = count.unwrap_or(0);
                            if count == 0 { return; }
                            let text = String::from_utf8_lossy(&up[..count]).into_owned();
                            cut = text.contains("EVAL") && armed.swap(false, Ordering::SeqCst);
                            upstream.write_all(&up[..count]).await.unwrap();
                        }
                        count = upstream.read(&mut down) => {
                            let count = count.unwrap_or(0);
                            if count == 0 || cut { return; }
                            client.write_all(&down[..count]).await.unwrap();
                        }
                    }
                }
            });
        }
    });
    port
}

#[tokio::test]
async fn a_lost_answer_is_never_taken_for_a_failure() {
    let server = Server::start();
    let armed = Arc::new(AtomicBool::new(false));
    let port = cut_after_commit(server.port(), Arc::clone(&armed)).await;
    let store = store_at(&format!("redis://127.0.0.1:{port}")).await;
    let policy = Policy::default();
    // The script must be known, or the first try would be the one that sends it.
    issue(&store, "warm up", &policy).await;
    let loaded = store.load(&device("laptop")).await.unwrap();
    let issue = loaded.issue(new_session(&policy), &policy, store.clock().now()).unwrap();
    armed.store(true, Ordering::SeqCst);
    let outcome = store.commit(&issue.commit).await;
    assert!(matches!(outcome, Err(CommitError::OutcomeUnknown { .. })), "{outcome:?}");
    assert_eq!(store.commit(&issue.commit).await, Err(CommitError::Conflict));
    let found = store.find(issue.session.id, FindOptions::EXACT).await.unwrap();
    assert_eq!(issue.commit.applied(|_| found.clone()), Applied::Yes);
    // A read whose answer is lost is simply made again.
    armed.store(true, Ordering::SeqCst);
    assert_eq!(store.load(&device("laptop")).await.unwrap().sessions().len(), 1);
    assert!(!armed.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_password_is_used_and_never_told() {
    let server = Server::start_with(&["--requirepass", "correct horse"]);
    let wall = || Arc::new(SystemClock);
    let mut options = Options::new(&server.url());
    let error = RedisStore::connect(options.clone(), wall()).await.err().unwrap().to_string();
    assert!(error.contains("redis.password_file"), "{error}");
    let file = server.dir().join("password");
    std::fs::write(&file, "battery staple\n").unwrap();
    options.password_file = Some(file.clone());
    let error = RedisStore::connect(options.clone(), wall()).await.err().unwrap();
    let told = format!("{error} {error:?} {options:?}");
    assert!(matches!(error, StoreError::Unavailable { .. }) && !told.contains("battery"), "{told}");
    std::fs::write(&file, "correct horse\n").unwrap();
    let store = RedisStore::connect(options, wall()).await.unwrap();
    issue(&store, "laptop", &Policy::default()).await;
    let in_url = Options::new(&format!("redis://:correct%20horse@127.0.0.1:{}", server.port()));
    RedisStore::connect(in_url, wall()).await.unwrap().check_writable().await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_a_database_and_a_prefix_keep_stores_apart() {
    let server = Server::start();
    let over_tcp = store(&server).await;
    let over_unix = store_at(&server.unix_url()).await;
    let (session, _) = issue(&over_tcp, "laptop", &Policy::default()).await;
    assert_eq!(over_unix.find(session.id, FindOptions::EXACT).await.unwrap(), Some(session.clone()));
    let database = store_at(&format!("{}/3", server.url())).await;
    assert_eq!(database.find(session.id, FindOptions::EXACT).await.unwrap(), None);
    let options = Options { prefix: "other".to_owned(), ..Options::new(&server.url()) };
    let prefixed = RedisStore::connect(options, Arc::new(SystemClock)).await.unwrap();
    assert_eq!(prefixed.find(session.id, FindOptions::EXACT).await.unwrap(), None);
    for prefix in ["", "a{b}", "with space", "x*"] {
        let options = Options { prefix: prefix.to_owned(), ..Options::new(&server.url()) };
        assert_unavailable(RedisStore::connect(options, Arc::new(SystemClock)).await.map(drop));
    }
}

fn apart(one: Timestamp, other: Timestamp) -> Duration {
    Duration::from_millis(one.since(other).get().max(other.since(one).get()))
}

#[tokio::test]
async fn the_fleets_time_is_the_servers() {
    let server = Server::start();
    let store = store(&server).await;
    let (now, wall) = (store.clock().now(), SystemClock.now());
    assert!(apart(now, wall) < BUSY);
    // A clock of this machine that is a year off changes nothing.
    let off = TestClock::at(SystemClock.now().plus(Millis::days(365)));
    let off = RedisStore::connect(Options::new(&server.url()), off).await.unwrap();
    let (ours, theirs) = (off.clock().now(), store.clock().now());
    assert!(apart(ours, theirs) < BUSY);
    let findings = off.diagnose().await;
    assert!(
        findings.iter().any(|found| found.severity == Severity::Warning && found.finding.contains("clock")),
        "{findings:?}"
    );
}

#[tokio::test]
async fn an_examination_tells_what_is_missing() {
    let server = Server::start();
    let findings = store(&server).await.diagnose().await;
    assert!(findings.iter().all(|found| found.severity != Severity::Failure), "{findings:?}");
    let server = Server::start_with(&["--appendonly", "no", "--maxmemory-policy", "allkeys-lru"]);
    let store = open(brief(&server.url())).await;
    let failed: Vec<_> =
        store.diagnose().await.into_iter().filter(|found| found.severity == Severity::Failure).collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed.iter().all(|found| !found.advice.is_empty()));
    server.freeze();
    let findings = timeout(DEADLINE, store.diagnose()).await.unwrap();
    assert_eq!((findings.len(), findings[0].severity), (1, Severity::Failure));
    server.thaw();
}

#[tokio::test]
async fn a_revoke_is_seen_by_a_process_that_verified_before() {
    let server = Server::start();
    let (ours, theirs) = (store(&server).await, store(&server).await);
    for _ in 0..50 {
        let (session, _) = issue(&ours, "laptop", &Policy::default()).await;
        assert!(theirs.find(session.id, FindOptions::EXACT).await.unwrap().unwrap().end.is_none());
        revoke(&ours, session.id).await;
        assert!(theirs.find(session.id, FindOptions::EXACT).await.unwrap().unwrap().end.is_some());
    }
}
