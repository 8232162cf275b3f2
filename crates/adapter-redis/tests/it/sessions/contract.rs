//! What the port promises of commits and activity.

use tenure_adapter_redis::RedisStore;
use tenure_domain::{
    ClientField, ClientInfo, Decision, Issue, Millis, Policy, PolicySettings, Revision, RotationSecret, SessionId,
    State, Timestamp, Touch,
};
use tenure_ports::{CommitError, FindOptions, prelude::*};
use tenure_redis_test_server::Server;

use crate::support::{device, issue, new_session, policy, raw, revocation, revoke, store};

#[tokio::test]
async fn what_is_issued_is_found_as_it_was() {
    let server = Server::start();
    let store = store(&server).await;
    let (session, _) = issue(&store, "laptop \u{1f4bb}", &Policy::default()).await;
    assert_eq!(store.find(session.id, FindOptions::EXACT).await.unwrap(), Some(session.clone()));
    let loaded = store.load(&session.device).await.unwrap();
    assert_eq!(loaded.sessions(), std::slice::from_ref(&session));
    assert_eq!(store.load_by_session(session.id).await.unwrap(), Some(loaded));
    let unknown = SessionId::new(session.id.bucket(), [7; 12]);
    assert_eq!(store.find(unknown, FindOptions::EXACT).await.unwrap(), None);
    assert_eq!(store.load_by_session(unknown).await.unwrap(), None);
    assert_eq!(store.load(&device("nowhere")).await.unwrap().revision(), Revision::NONE);
}

#[tokio::test]
async fn every_kind_of_record_reads_back() {
    let server = Server::start();
    let store = store(&server).await;
    let policy = policy(PolicySettings {
        idle_timeout: Some(Millis::hours(1)),
        rotation_overlap: Some(Millis::minutes(1)),
        ..PolicySettings::default()
    });
    let (session, token) = issue(&store, "laptop", &policy).await;
    let loaded = store.load(&session.device).await.unwrap();
    let Decision::Accept(rotation) = loaded.rotate(&token, &RotationSecret::new([9; 16]), &policy, store.clock().now())
    else {
        panic!("not rotated");
    };
    store.commit(&rotation.commit).await.unwrap();
    assert_eq!(store.find(session.id, FindOptions::EXACT).await.unwrap(), Some(rotation.session));
    let client = ClientInfo::default().with(ClientField::UserAgent, "curl/8").unwrap();
    let client = client.with(ClientField::Address, "127.0.0.1").unwrap();
    let loaded = store.load(&session.device).await.unwrap();
    let commit = loaded.update_client(session.id, &client, &policy, store.clock().now()).unwrap();
    store.commit(&commit).await.unwrap();
    assert_eq!(store.find(session.id, FindOptions::EXACT).await.unwrap().as_ref(), Some(commit.changes[0].session()));
    revoke(&store, session.id).await;
    let ended = store.find(session.id, FindOptions::EXACT).await.unwrap().unwrap();
    assert_eq!(ended.state(store.clock().now()).code(), "revoked");
    let loaded = store.load(&session.device).await.unwrap();
    assert!(loaded.sessions().is_empty());
    assert_eq!(loaded.revocation_watermark().unwrap().created_at, session.created_at);
    assert_eq!(store.load_by_session(session.id).await.unwrap().unwrap().sessions(), &[ended]);
}

#[tokio::test]
async fn a_stale_decision_conflicts_and_changes_nothing() {
    let server = Server::start();
    let store = store(&server).await;
    let (first, _) = issue(&store, "laptop", &Policy::default()).await;
    let stale = store.load(&first.device).await.unwrap();
    let (second, _) = issue(&store, "laptop", &Policy::default()).await;
    let commit = revocation(&stale, first.id, store.clock().now());
    assert_eq!(store.commit(&commit).await, Err(CommitError::Conflict));
    assert_eq!(store.find(first.id, FindOptions::EXACT).await.unwrap(), Some(first.clone()));
    assert_eq!(store.load(&first.device).await.unwrap().sessions().len(), 2);
    revoke(&store, first.id).await;
    let loaded = store.load(&first.device).await.unwrap();
    assert_eq!(loaded.sessions(), &[second]);
}

/// A session that is not issued yet.
async fn decided_issue(store: &RedisStore) -> Issue {
    let policy = Policy::default();
    let loaded = store.load(&device("laptop")).await.unwrap();
    loaded.issue(new_session(&policy), &policy, store.clock().now()).unwrap()
}

#[tokio::test]
async fn the_same_commit_again_is_applied_once() {
    let server = Server::start();
    let store = store(&server).await;
    let issue = decided_issue(&store).await;
    store.commit(&issue.commit).await.unwrap();
    assert_eq!(store.commit(&issue.commit).await, Err(CommitError::Conflict));
}

#[tokio::test]
async fn a_session_that_exists_is_not_issued_again_even_on_an_unknown_device() {
    let server = Server::start();
    let store = store(&server).await;
    let issue = decided_issue(&store).await;
    store.commit(&issue.commit).await.unwrap();
    let devices: Vec<String> = raw(&server, &[b"KEYS", b"*:d:laptop"]).await;
    let _: i64 = raw(&server, &[b"DEL", devices[0].as_bytes()]).await;
    assert_eq!(store.commit(&issue.commit).await, Err(CommitError::Conflict));
}

#[tokio::test]
async fn a_change_of_a_session_that_is_gone_conflicts() {
    let server = Server::start();
    let store = store(&server).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    let loaded = store.load(&session.device).await.unwrap();
    let records: Vec<String> = raw(&server, &[b"KEYS", b"*:s:*"]).await;
    let _: i64 = raw(&server, &[b"DEL", records[0].as_bytes()]).await;
    let commit = revocation(&loaded, session.id, store.clock().now());
    assert_eq!(store.commit(&commit).await, Err(CommitError::Conflict));
}

#[tokio::test]
async fn a_decision_is_not_applied_after_its_time() {
    let server = Server::start();
    let store = store(&server).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    let loaded = store.load(&session.device).await.unwrap();
    let mut commit = revocation(&loaded, session.id, store.clock().now());
    commit.not_after = store.clock().now().minus(Millis::new(50));
    assert_eq!(store.commit(&commit).await, Err(CommitError::TooLate));
    assert_eq!(
        store.find(session.id, FindOptions::EXACT).await.unwrap().unwrap().state(store.clock().now()),
        State::Active
    );
    commit.not_after = Timestamp::MAX;
    store.commit(&commit).await.unwrap();
}

#[tokio::test]
async fn a_guard_fails_when_its_session_was_used() {
    let server = Server::start();
    let store = store(&server).await;
    let policy = policy(PolicySettings { idle_timeout: Some(Millis::seconds(30)), ..PolicySettings::default() });
    let (session, _) = issue(&store, "laptop", &policy).await;
    let idle_at = session.idle_at().unwrap();
    let loaded = store.load(&session.device).await.unwrap();
    let settle = loaded.end_idle(&policy, idle_at).unwrap();
    let used = session.last_activity.plus(Millis::new(5));
    store.touch(&[Touch { session: session.id, at: used }]).await.unwrap();
    assert_eq!(store.commit(&settle).await, Err(CommitError::Conflict));
    let loaded = store.load(&session.device).await.unwrap();
    assert_eq!(loaded.sessions()[0].last_activity, used);
    let settle = loaded.end_idle(&policy, idle_at.plus(Millis::new(5))).unwrap();
    store.commit(&settle).await.unwrap();
    let ended = store.find(session.id, FindOptions::EXACT).await.unwrap().unwrap();
    assert_eq!((ended.state(store.clock().now()).code(), ended.last_activity), ("idle", used));
}

#[tokio::test]
async fn touches_only_go_forward_and_never_resurrect() {
    let server = Server::start();
    let store = store(&server).await;
    let (session, token) = issue(&store, "laptop", &Policy::default()).await;
    let at = |millis| Touch { session: session.id, at: session.created_at.plus(Millis::new(millis)) };
    let activity = async || store.find(session.id, FindOptions::EXACT).await.unwrap().map(|found| found.last_activity);
    let before = store.load(&session.device).await.unwrap().revision();
    store.touch(&[at(20), at(10)]).await.unwrap();
    store.touch(&[at(15)]).await.unwrap();
    assert_eq!(activity().await, Some(at(20).at));
    assert_eq!(store.load(&session.device).await.unwrap().revision(), before);
    // A rotation that knew less keeps what is stored.
    let loaded = store.load(&session.device).await.unwrap();
    store.touch(&[at(60_000)]).await.unwrap();
    let Decision::Accept(rotation) =
        loaded.rotate(&token, &RotationSecret::new([1; 16]), &Policy::default(), store.clock().now())
    else {
        panic!("not rotated");
    };
    store.commit(&rotation.commit).await.unwrap();
    assert_eq!(activity().await, Some(at(60_000).at));
    revoke(&store, session.id).await;
    store.touch(&[at(70_000)]).await.unwrap();
    assert_eq!(activity().await, Some(at(60_000).at));
    let unknown = SessionId::new(session.id.bucket(), [7; 12]);
    store.touch(&[Touch { session: unknown, at: at(1).at }]).await.unwrap();
    assert_eq!(store.find(unknown, FindOptions::EXACT).await.unwrap(), None);
}

#[tokio::test]
async fn concurrent_issues_never_exceed_the_cap() {
    let server = Server::start();
    let store = store(&server).await;
    let policy = policy(PolicySettings { max_sessions_per_device: Some(3), ..PolicySettings::default() });
    let issues = (0..16).map(|_| issue(&store, "laptop", &policy));
    futures_util::future::join_all(issues).await;
    let loaded = store.load(&device("laptop")).await.unwrap();
    assert_eq!(loaded.sessions().len(), 3);
}

#[tokio::test]
async fn revisions_grow_even_when_everything_was_forgotten() {
    let server = Server::start();
    let store = store(&server).await;
    let mut last = Revision::NONE;
    for _ in 0..5 {
        let (session, _) = issue(&store, "laptop", &Policy::default()).await;
        let revision = store.load(&session.device).await.unwrap().revision();
        assert!(revision > last);
        last = revision;
        let _: String = raw(&server, &[b"FLUSHALL"]).await;
    }
}

#[tokio::test]
async fn a_server_that_forgets_its_scripts_is_not_noticed() {
    let server = Server::start();
    let store = store(&server).await;
    let flushes = async {
        loop {
            let _: String = raw(&server, &[b"SCRIPT", b"FLUSH"]).await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    let work = async {
        for _ in 0..100 {
            let (session, _) = issue(&store, "laptop", &Policy::default()).await;
            store.touch(&[Touch { session: session.id, at: session.created_at.plus(Millis::new(1)) }]).await.unwrap();
            revoke(&store, session.id).await;
            store.check_writable().await.unwrap();
        }
    };
    tokio::select! {
        () = flushes => {}
        () = work => {}
    }
}
