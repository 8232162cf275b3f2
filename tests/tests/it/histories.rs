//! Histories of concurrent clients are linearizable, and a history that is not is found out.
//!
//! `TEST_HISTORIES` says how many are recorded on each store (300 where it does not).

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tenure_adapter_memory::MemoryStore;
use tenure_conformance::SystemRandom;
use tenure_conformance::TestClock;
use tenure_domain::{
    Commit, Device, DeviceId, Filter, IdPrefix, Revision, Session, SessionId, SortKey, Timestamp, Touch,
};
use tenure_ports::{
    CommitError, Cursor, EventStream, FindOptions, Page, Purge, Purged, RandomSource as _, SessionCache,
    SessionCommits, SessionQueries, SessionRepository, SessionUpkeep, StoreError,
};
use tenure_redis_test_server::Server;
use tenure_tests::history::{Handles, Op, Ret, is_linearizable, judge};

fn histories() -> u64 {
    std::env::var("TEST_HISTORIES").map_or(300, |count| count.parse().unwrap())
}

fn seed() -> u64 {
    let mut bytes = [0; 8];
    SystemRandom.fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes) >> 8
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_one_journal_opened_by_each_client() {
    let seed = seed();
    let calls = judge(&Handles::json(seed), histories(), seed).await.unwrap();
    assert_eq!(calls, 24 * histories());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_one_redis_with_a_connection_of_each_client() {
    let (seed, server) = (seed(), Server::start());
    let calls = judge(&Handles::redis(&server.url(), seed).await, histories(), seed).await.unwrap();
    assert_eq!(calls, 24 * histories());
}

#[test]
fn a_token_that_is_accepted_after_its_revocation_is_found_out() {
    let show = Op::Verify { session: 0, token: 0 };
    let begin = [(0, Ok(Op::Issue(0))), (0, Err(Ret::Issued(vec![]))), (1, Ok(show)), (1, Err(Ret::Accepted))];
    let then = |rest: &[(usize, Result<Op, Ret>)]| is_linearizable(&[&begin[..], rest].concat());
    let (revoke, revoked) = ((0, Ok(Op::Revoke(0))), (0, Err(Ret::Ended)));
    let (shown, accepted, refused) = ((1, Ok(show)), (1, Err(Ret::Accepted)), (1, Err(Ret::Refused("revoked"))));
    assert!(then(&[revoke.clone(), revoked.clone(), shown.clone(), refused.clone()]));
    assert!(!then(&[revoke.clone(), revoked.clone(), shown.clone(), accepted.clone()]));
    // While the revocation is under way, either may be answered; but not first the one and then the other.
    let (again, still) = ((2, Ok(show)), (2, Err(Ret::Accepted)));
    assert!(then(&[revoke.clone(), shown.clone(), accepted, revoked.clone()]));
    assert!(then(&[revoke.clone(), shown.clone(), refused.clone(), revoked.clone()]));
    assert!(!then(&[revoke, shown, refused, again, still, revoked]));
}

#[test]
fn two_rotations_of_one_token_are_found_out() {
    let rotate = |new| Ok(Op::Rotate { session: 0, shown: 0, new });
    let with = |second: Ret| {
        is_linearizable(&[
            (0, Ok(Op::Issue(0))),
            (0, Err(Ret::Issued(vec![]))),
            (0, rotate(1)),
            (1, rotate(2)),
            (1, Err(Ret::Rotated)),
            (0, Err(second)),
        ])
    };
    assert!(with(Ret::Refused("rotated")));
    assert!(!with(Ret::Rotated));
}

/// Answers from what it found before: what a cache that nobody invalidates would do.
struct Stale {
    store: Arc<MemoryStore>,
    found: Mutex<std::collections::BTreeMap<SessionId, Session>>,
}

#[async_trait]
impl SessionCommits for Stale {
    async fn find(&self, id: SessionId, _options: FindOptions) -> Result<Option<Session>, StoreError> {
        if let Some(found) = self.found.lock().get(&id) {
            return Ok(Some(found.clone()));
        }
        let found = self.store.find(id, FindOptions::EXACT).await?;
        self.found.lock().extend(found.iter().map(|session| (id, session.clone())));
        Ok(found)
    }

    async fn load(&self, device: &DeviceId) -> Result<Device, StoreError> {
        self.store.load(device).await
    }

    async fn load_by_session(&self, session: SessionId) -> Result<Option<Device>, StoreError> {
        self.store.load_by_session(session).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Revision, CommitError> {
        self.store.commit(commit).await
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), StoreError> {
        self.store.touch(touches).await
    }
}

#[async_trait]
impl SessionQueries for Stale {
    async fn ids_with_prefix(&self, prefix: IdPrefix, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        self.store.ids_with_prefix(prefix, limit).await
    }

    async fn page(
        &self,
        filter: &Filter,
        now: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.store.page(filter, now, after, limit).await
    }

    async fn list_sorted(
        &self,
        filter: &Filter,
        now: Timestamp,
        sort: SortKey,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.store.list_sorted(filter, now, sort, limit).await
    }

    async fn subscribe(&self) -> Result<EventStream, StoreError> {
        self.store.subscribe().await
    }
}

#[async_trait]
impl SessionUpkeep for Stale {
    async fn purge(&self, purge: &Purge, after: Option<Cursor>) -> Result<Purged, StoreError> {
        self.store.purge(purge, after).await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.store.check_writable().await
    }
}

impl SessionRepository for Stale {
    fn cache(&self) -> Option<&dyn SessionCache> {
        None
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_answers_from_a_stale_cache_is_found_out() {
    let time = TestClock::new();
    let store = MemoryStore::new(time.clone());
    let sound: Vec<Arc<dyn SessionRepository>> = (0..4).map(|_| store.clone() as _).collect();
    judge(&Handles::new(sound, &time, 1), 50, 1).await.unwrap();
    let store = MemoryStore::new(time.clone());
    let stale = |_| Arc::new(Stale { store: store.clone(), found: Mutex::default() }) as Arc<dyn SessionRepository>;
    let found_out = judge(&Handles::new((0..4).map(stale).collect(), &time, 2), 500, 2).await;
    assert!(found_out.unwrap_err().contains("is not linearizable"));
}
