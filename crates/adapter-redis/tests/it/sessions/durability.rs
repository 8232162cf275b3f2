//! Changes that a replica must have, and servers that forget.

use std::sync::Arc;

use tenure_adapter_redis::{Durability, Options, RedisStore};
use tenure_domain::{Policy, SessionId};
use tenure_ports::{CommitError, Diagnosis, FindOptions, Severity, StoreError, prelude::*};
use tenure_redis_test_server::{Server, patient};
use tokio::time::Instant;

use crate::support::{
    DEADLINE, SOON, brief, device, eventually, is_of_speed, issue, new_session, open, raw, revocation, revoke, store,
};

async fn replicated(url: &str) -> Arc<RedisStore> {
    open(Options { durability: Durability::Replicated, ..patient(url) }).await
}

/// The same where the replica is not going to answer.
async fn replicated_in_vain(url: &str) -> Arc<RedisStore> {
    open(Options { durability: Durability::Replicated, ..brief(url) }).await
}

/// A replica that has caught up, and has told the primary so.
async fn replica_of(primary: &Server) -> Server {
    let replica = primary.start_replica();
    eventually("the replica is connected", SOON, async || {
        let info: String = raw(primary, &[b"INFO", b"replication"]).await;
        info.contains("state=online")
    })
    .await;
    replica
}

/// Whether the session has ended as a server by itself knows it.
async fn ended_on(server: &Server, id: SessionId) -> bool {
    let key = format!("tenure:{{{}}}:s:{id}", id.bucket());
    let head: Vec<u8> = raw(server, &[b"GETRANGE", key.as_bytes(), b"0", b"1"]).await;
    head == b"1e"
}

#[tokio::test]
async fn what_is_acknowledged_is_on_the_replica() {
    let primary = Server::start_primary();
    let replica = replica_of(&primary).await;
    let store = replicated(&primary.url()).await;
    for _ in 0..50 {
        let (session, _) = issue(&store, "laptop", &Policy::default()).await;
        revoke(&store, session.id).await;
        assert!(ended_on(&replica, session.id).await);
    }
    // Many at once share rounds.
    let many = (0..100).map(|number| {
        let store = &store;
        async move {
            let (session, _) = issue(store, &format!("device {number}"), &Policy::default()).await;
            revoke(store, session.id).await;
            session.id
        }
    });
    for id in futures_util::future::join_all(many).await {
        assert!(ended_on(&replica, id).await);
    }
}

#[tokio::test]
async fn without_a_replica_a_change_is_not_durable_and_holds_here_all_the_same() {
    let primary = Server::start_primary();
    let replica = replica_of(&primary).await;
    let (session, _) = issue(&*replicated(&primary.url()).await, "laptop", &Policy::default()).await;
    let store = replicated_in_vain(&primary.url()).await;
    let loaded = store.load_by_session(session.id).await.unwrap().unwrap();
    replica.freeze();
    let began = Instant::now();
    let revocation = revocation(&loaded, session.id, store.clock().now());
    let mut commit = store.commit(&revocation);
    // Verification goes on meanwhile.
    tokio::select! {
        outcome = &mut commit => panic!("{outcome:?} before a verification of the same time"),
        found = store.find(session.id, FindOptions::EXACT) => assert!(found.unwrap().is_some()),
    }
    match commit.await {
        Err(CommitError::NotDurable { location, message }) => {
            assert!(location.contains("127.0.0.1") && message.contains("no replica"), "{location}: {message}");
        }
        other => panic!("{other:?}"),
    }
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    assert!(store.find(session.id, FindOptions::EXACT).await.unwrap().unwrap().end.is_some());
    // That it has ended is no fact yet that could be told.
    let told = store.load_by_session(session.id).await;
    assert!(matches!(told, Err(StoreError::Unavailable { .. })), "{told:?}");
    replica.thaw();
    eventually("it can be told", SOON, async || store.load_by_session(session.id).await.is_ok()).await;
    assert!(ended_on(&replica, session.id).await);
}

#[tokio::test]
async fn a_conflict_is_told_only_of_what_a_replica_has() {
    let primary = Server::start_primary();
    let replica = replica_of(&primary).await;
    let (session, _) = issue(&*replicated(&primary.url()).await, "laptop", &Policy::default()).await;
    let (ours, theirs) = (replicated_in_vain(&primary.url()).await, store(&primary).await);
    let loaded = ours.load_by_session(session.id).await.unwrap().unwrap();
    replica.freeze();
    revoke(&theirs, session.id).await;
    let commit = revocation(&loaded, session.id, ours.clock().now());
    let outcome = ours.commit(&commit).await;
    assert!(matches!(outcome, Err(CommitError::Store(StoreError::Unavailable { .. }))), "{outcome:?}");
    replica.thaw();
    eventually("the conflict is told", SOON, async || ours.commit(&commit).await == Err(CommitError::Conflict)).await;
    assert!(ended_on(&replica, session.id).await);
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again_and_replicated() {
    let primary = Server::start_primary();
    let replica = replica_of(&primary).await;
    let store = replicated(&primary.url()).await;
    for _ in 0..20 {
        let (session, _) = issue(&store, "laptop", &Policy::default()).await;
        let () = raw(&primary, &[b"SCRIPT", b"FLUSH"]).await;
        revoke(&store, session.id).await;
        assert!(ended_on(&replica, session.id).await);
    }
}

/// A server that keeps only what it is told to save, and a session that it forgets to have ended.
async fn forgetful(ours: impl AsyncFnOnce(&str) -> Arc<RedisStore>) -> (Server, Arc<RedisStore>, SessionId) {
    let mut server = Server::start_with(&["--appendonly", "no"]);
    let ours = ours(&server.url()).await;
    let (session, _) = issue(&ours, "laptop", &Policy::default()).await;
    let () = raw(&server, &[b"SAVE"]).await;
    revoke(&ours, session.id).await;
    server.restart();
    (server, ours, session.id)
}

async fn impatient(url: &str) -> Arc<RedisStore> {
    open(brief(url)).await
}

#[tokio::test]
async fn an_end_that_the_server_forgot_is_refused_at_once_and_made_again() {
    let (server, ours, id) = forgetful(impatient).await;
    let began = Instant::now();
    loop {
        if let Ok(found) = ours.find(id, FindOptions::EXACT).await {
            assert!(found.unwrap().end.is_some(), "accepted what this process has ended");
        }
        if ended_on(&server, id).await {
            break;
        }
        assert!(began.elapsed() < SOON, "the end was not made again");
    }
    let theirs = store(&server).await;
    assert!(theirs.find(id, FindOptions::EXACT).await.unwrap().unwrap().end.is_some());
    let loaded = theirs.load_by_session(id).await.unwrap().unwrap();
    assert!(loaded.revocation_watermark().is_some(), "an older export could bring it back");
}

#[tokio::test]
async fn nothing_is_decided_on_a_device_of_which_an_end_was_forgotten() {
    let (_server, ours, id) = forgetful(impatient).await;
    let deadline = Instant::now() + SOON;
    let loaded = loop {
        match ours.load(&device("laptop")).await {
            Ok(loaded) => break loaded,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    };
    assert!(loaded.sessions().is_empty(), "{id} counts as active");
    let issue = loaded.issue(new_session(&Policy::default()), &Policy::default(), ours.clock().now()).unwrap();
    ours.commit(&issue.commit).await.unwrap();
    assert!(ours.find(id, FindOptions::EXACT).await.unwrap().unwrap().end.is_some());
}

#[tokio::test]
async fn what_the_near_cache_reads_after_that_is_not_kept() {
    let near = async |url: &str| open(Options { near_cache: true, ..brief(url) }).await;
    let (server, ours, id) = forgetful(near).await;
    let began = Instant::now();
    while !ended_on(&server, id).await {
        if let Ok(found) = ours.find(id, FindOptions::EXACT).await {
            assert!(found.unwrap().end.is_some());
        }
        assert_eq!(ours.cache().unwrap().find_cached(id), None);
        assert!(began.elapsed() < SOON, "the end was not made again");
    }
}

#[tokio::test]
async fn an_examination_wants_a_replica_where_the_settings_do() {
    let primary = Server::start_primary();
    let store = replicated(&primary.url()).await;
    let failed = store.diagnose().await.into_iter().find(|found| found.severity == Severity::Failure).unwrap();
    assert!(failed.finding.contains("no replica") && failed.advice.contains("replicaof"), "{failed:?}");
    let _replica = replica_of(&primary).await;
    let fine = |found: &Diagnosis| found.severity == Severity::Ok || is_of_speed(found);
    eventually("nothing is missing", SOON, async || store.diagnose().await.iter().all(fine)).await;
}
