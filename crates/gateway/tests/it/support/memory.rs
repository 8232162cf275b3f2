//! A store in memory that does as the port says, for tests of what stands in front of it. It can be made to fail.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use tenure_domain::{
    Change, Commit, Device, DeviceId, Filter, IdPrefix, Revision, RevocationWatermark, Session, SessionId, SortKey,
    Timestamp, Touch,
};
use tenure_ports::{
    ChangeKind, Clock, CommitError, Cursor, EventStream, FindOptions, Page, Purge, Purged, RandomSource,
    RandomSourceError, SessionCache, SessionCommits, SessionQueries, SessionRepository, SessionUpkeep, StoreError,
    StoreEvent,
};
use tokio::sync::broadcast;

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn at(millis: u64) -> Self {
        Self(Arc::new(AtomicU64::new(millis)))
    }

    pub(crate) fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// Counts up: as good as random where nobody guesses.
pub(crate) struct Counting(pub(crate) AtomicU64);

impl RandomSource for Counting {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomSourceError> {
        for chunk in buffer.chunks_mut(8) {
            let number = self.0.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            chunk.copy_from_slice(&number.to_be_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Records {
    sessions: BTreeMap<SessionId, Session>,
    revisions: HashMap<DeviceId, (Revision, Option<RevocationWatermark>)>,
}

/// The store.
pub(crate) struct Memory {
    records: Mutex<Records>,
    clock: TestClock,
    news: broadcast::Sender<StoreEvent>,
    down: AtomicBool,
    losing: AtomicBool,
}

impl Memory {
    pub(crate) fn new(clock: TestClock) -> Arc<Self> {
        Arc::new(Self {
            records: Mutex::default(),
            clock,
            news: broadcast::channel(4).0,
            down: AtomicBool::new(false),
            losing: AtomicBool::new(false),
        })
    }

    /// Whether it fails from now on.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Applies commits from now on, but says that they are not safe.
    pub(crate) fn set_unsafe(&self) {
        self.losing.store(true, Ordering::SeqCst);
    }

    fn up(&self) -> Result<(), StoreError> {
        match self.down.load(Ordering::SeqCst) {
            true => {
                Err(StoreError::Unavailable { location: "/var/secret-place".to_owned(), message: "gone".to_owned() })
            }
            false => Ok(()),
        }
    }

    fn matching(&self, filter: &Filter, now: Timestamp) -> Vec<Session> {
        let records = self.records.lock();
        records.sessions.values().filter(|session| filter.matches(session, now)).cloned().collect()
    }
}

impl Records {
    fn device(&self, id: &DeviceId) -> Device {
        let (revision, watermark) = self.revisions.get(id).copied().unwrap_or((Revision::NONE, None));
        let sessions = self.sessions.values().filter(|session| session.device == *id).cloned().collect();
        Device::new(id.clone(), revision, sessions, watermark)
    }

    fn check(&self, commit: &Commit, now: Timestamp) -> Result<Revision, CommitError> {
        let (revision, _) = self.revisions.get(&commit.device).copied().unwrap_or((Revision::NONE, None));
        let used = commit.guards.iter().any(|guard| {
            self.sessions.get(&guard.session).is_some_and(|session| session.last_activity > guard.last_activity)
        });
        let misplaced = commit.changes.iter().any(|change| {
            let known = self.sessions.contains_key(&change.session().id);
            known == matches!(change, Change::Issued(_))
        });
        if revision != commit.expected || used || misplaced {
            return Err(CommitError::Conflict);
        }
        if now > commit.not_after {
            return Err(CommitError::TooLate);
        }
        Ok(Revision::new(revision.get() + 1))
    }
}

#[async_trait]
impl SessionCommits for Memory {
    async fn find(&self, id: SessionId, _options: FindOptions) -> Result<Option<Session>, StoreError> {
        self.up()?;
        Ok(self.records.lock().sessions.get(&id).cloned())
    }

    async fn load(&self, device: &DeviceId) -> Result<Device, StoreError> {
        self.up()?;
        Ok(self.records.lock().device(device))
    }

    async fn load_by_session(&self, session: SessionId) -> Result<Option<Device>, StoreError> {
        self.up()?;
        let records = self.records.lock();
        Ok(records.sessions.get(&session).map(|session| records.device(&session.device)))
    }

    async fn commit(&self, commit: &Commit) -> Result<Revision, CommitError> {
        // Others get their turn between a decision and its commit, as they do in front of every real store.
        tokio::task::yield_now().await;
        self.up()?;
        let now = self.clock.now();
        let mut records = self.records.lock();
        let revision = records.check(commit, now)?;
        records.revisions.insert(commit.device.clone(), (revision, commit.watermark));
        for change in &commit.changes {
            let session = change.session();
            records.sessions.insert(session.id, session.clone());
            let news = StoreEvent::Changed { session: session.id, kind: ChangeKind::of(change), at: now };
            let _ = self.news.send(news);
        }
        if self.losing.load(Ordering::SeqCst) {
            return Err(CommitError::NotDurable { location: "memory".to_owned(), message: "no disk".to_owned() });
        }
        Ok(revision)
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), StoreError> {
        self.up()?;
        let mut records = self.records.lock();
        for touch in touches {
            if let Some(session) = records.sessions.get_mut(&touch.session) {
                *session = session.clone().touched(touch.at);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl SessionQueries for Memory {
    async fn ids_with_prefix(&self, prefix: IdPrefix, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        self.up()?;
        Ok(self.records.lock().sessions.range(prefix.range()).map(|(id, _)| *id).take(limit).collect())
    }

    async fn page(
        &self,
        filter: &Filter,
        now: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.up()?;
        let from = after.map_or(0, |cursor| cursor.0);
        // Small pages, so that every walk has several steps.
        let limit = limit.min(3);
        let mut sessions = self.matching(filter, now);
        sessions.retain(|session| session.id.as_u128() >= from);
        let next = sessions.get(limit).map(|session| Cursor(session.id.as_u128()));
        sessions.truncate(limit);
        Ok(Page { sessions, next })
    }

    async fn list_sorted(
        &self,
        filter: &Filter,
        now: Timestamp,
        sort: SortKey,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.up()?;
        let mut sessions = self.matching(filter, now);
        sessions.sort_by(|a, b| sort.compare(a, b));
        sessions.truncate(limit);
        Ok(sessions)
    }

    async fn subscribe(&self) -> Result<EventStream, StoreError> {
        self.up()?;
        let news = self.news.subscribe();
        Ok(Box::pin(futures_util::stream::unfold(news, |mut news| async move {
            match news.recv().await {
                Ok(item) => Some((item, news)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((StoreEvent::Lagged, news)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })))
    }
}

#[async_trait]
impl SessionUpkeep for Memory {
    async fn purge(&self, _purge: &Purge, _after: Option<Cursor>) -> Result<Purged, StoreError> {
        Err(StoreError::Unavailable { location: "memory".to_owned(), message: "keeps everything".to_owned() })
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.up()
    }
}

impl SessionRepository for Memory {
    fn cache(&self) -> Option<&dyn SessionCache> {
        None
    }
}
