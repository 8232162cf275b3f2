//! Stores, sessions and raw commands for the tests.

use std::sync::Arc;
use std::time::Duration;

use tenure_adapter_redis::{Options, RedisStore};
use tenure_conformance::{SeededRandom, SystemClock};
use tenure_domain::{
    ClientField, ClientInfo, Commit, Device, DeviceId, EndCause, EndReason, Family, Filter, Millis, NewSession, Policy,
    PolicySettings, RotationSecret, Selection, Session, SessionId, Subject, Timestamp, Token,
};
use tenure_ports::{CommitError, Diagnosis, FindOptions, Purge, Severity, prelude::*};
use tenure_redis_test_server::{BUSY, Server, patient};
use tokio::time::Instant;

/// For what waits until the limits are reached: short ones, which a busy machine hardly reaches by itself.
pub(crate) fn brief(url: &str) -> Options {
    Options {
        response_timeout: Millis::seconds(1),
        connect_timeout: Millis::seconds(1),
        operation_timeout: Millis::seconds(3),
        ..Options::new(url)
    }
}

/// The longest that any call takes with [`brief`] limits.
pub(crate) const DEADLINE: Duration = Duration::from_secs(3).saturating_add(BUSY);
/// Whatever is waited for comes sooner.
pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) async fn open(options: Options) -> Arc<RedisStore> {
    RedisStore::connect(options, Arc::new(SystemClock)).await.unwrap()
}

pub(crate) async fn store_at(url: &str) -> Arc<RedisStore> {
    open(patient(url)).await
}

pub(crate) async fn store(server: &Server) -> Arc<RedisStore> {
    store_at(&server.url()).await
}

pub(crate) fn device(name: &str) -> DeviceId {
    DeviceId::new(name).unwrap()
}

/// The source of all ids and secrets in these tests, so that no two sessions of a process share any.
static RANDOM: SeededRandom = SeededRandom::new(1);

pub(crate) fn new_session(policy: &Policy) -> NewSession {
    let client = ClientInfo::default().with(ClientField::DisplayName, "Test client").unwrap();
    NewSession {
        id: RANDOM.bytes(),
        family: Family::new(RANDOM.bytes()),
        rotation_secret: RotationSecret::new(RANDOM.bytes()),
        subject: Subject::default(),
        client: Arc::new(client),
        terms: policy.terms(None).unwrap(),
        expires_by: None,
    }
}

pub(crate) fn policy(settings: PolicySettings) -> Policy {
    Policy::new(&settings).unwrap()
}

/// Issues a session as the use case does.
pub(crate) async fn issue(store: &RedisStore, name: &str, policy: &Policy) -> (Session, Token) {
    issue_as(store, name, policy, Subject::default()).await
}

pub(crate) async fn issue_as(store: &RedisStore, name: &str, policy: &Policy, subject: Subject) -> (Session, Token) {
    let new_session = NewSession { subject, ..new_session(policy) };
    for _ in 0..100 {
        let loaded = store.load(&device(name)).await.unwrap();
        let issue = loaded.issue(new_session.clone(), policy, store.clock().now()).unwrap();
        match store.commit(&issue.commit).await {
            Ok(_) => return (issue.session, issue.token),
            Err(CommitError::Conflict) => {}
            Err(error) => panic!("issue failed: {error}"),
        }
    }
    panic!("a hundred conflicts in a row");
}

pub(crate) fn revocation(device: &Device, id: SessionId, now: Timestamp) -> Commit {
    revocation_under(device, id, &Policy::default(), now)
}

pub(crate) fn revocation_under(device: &Device, id: SessionId, policy: &Policy, now: Timestamp) -> Commit {
    let cause = EndCause::by_rule(EndReason::Revoked);
    device.revoke(&Selection::one(id), &cause, policy, now).commit.unwrap()
}

pub(crate) async fn revoke(store: &RedisStore, id: SessionId) {
    let loaded = store.load_by_session(id).await.unwrap().unwrap();
    store.commit(&revocation(&loaded, id, store.clock().now())).await.unwrap();
}

/// All sessions that a filter means, page by page.
pub(crate) async fn walk(store: &RedisStore, filter: &Filter, now: Timestamp, limit: usize) -> Vec<Session> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.page(filter, now, cursor, limit).await.unwrap();
        assert!(page.sessions.len() <= limit);
        all.extend(page.sessions);
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

/// Reads a session until it is kept in memory.
pub(crate) async fn keep(store: &RedisStore, id: SessionId) {
    eventually("the session is kept", SOON, async || {
        store.find(id, FindOptions::EXACT).await.unwrap();
        store.cache().unwrap().find_cached(id).is_some()
    })
    .await;
}

/// Removes what is over, to the end, and says how much that was.
pub(crate) async fn purge(store: &RedisStore, what: Purge) -> u64 {
    let (mut removed, mut cursor) = (0, None);
    loop {
        let part = store.purge(&what, cursor).await.unwrap();
        removed += part.removed;
        cursor = part.next;
        if cursor.is_none() {
            return removed;
        }
    }
}

/// What was over by now, to the end.
pub(crate) async fn purge_now(store: &RedisStore) -> u64 {
    let now = store.clock().now();
    purge(store, Purge { now, inactive_by: now, dry_run: false }).await
}

/// A finding that is only about how slow a busy machine is.
pub(crate) fn is_of_speed(found: &Diagnosis) -> bool {
    found.finding.contains("a round trip takes") && found.severity == Severity::Warning
}

/// A command sent past the store.
pub(crate) async fn raw<T: redis::FromRedisValue>(server: &Server, words: &[&[u8]]) -> T {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = redis::cmd(std::str::from_utf8(words[0]).unwrap());
    for word in &words[1..] {
        command.arg(*word);
    }
    command.query_async(&mut connection).await.unwrap()
}

pub(crate) async fn keys(server: &Server) -> Vec<String> {
    raw(server, &[b"KEYS", b"*"]).await
}

/// Waits until a condition holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, limit: Duration, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + limit;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
