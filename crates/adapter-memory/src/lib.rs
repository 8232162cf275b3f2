//! The session repository in memory.
//!
//! It is for tests and examples, and the reference that other stores are compared with. It is simple, slow with many
//! sessions, and lost with the process. It keeps every promise of the port, as its own run of the conformance suite
//! shows.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use tenure_adapter_memory::MemoryStore;
//! use tenure_conformance::TestClock;
//! use tenure_domain::DeviceId;
//! use tenure_ports::prelude::*;
//!
//! let store = MemoryStore::new(TestClock::new());
//! let device = store.load(&DeviceId::new("laptop").unwrap()).await.unwrap();
//! assert!(device.sessions().is_empty());
//! # });
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tenure_domain::{
    Change, Commit, Device, DeviceId, Filter, IdPrefix, Revision, RevocationWatermark, Session, SessionId,
    SessionParts, SortKey, Timestamp, Touch,
};
use tenure_ports::{
    Backend, ChangeKind, Clock, CommitError, Cursor, Diagnosis, EventStream, FindOptions, Page, Purge, Purged,
    SessionCache, SessionCommits, SessionQueries, SessionRepository, SessionUpkeep, StoreError, StoreEvent,
};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// The session repository in memory. It is lost with the process.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    sender: broadcast::Sender<StoreEvent>,
}

#[derive(Default)]
struct State {
    sessions: BTreeMap<SessionId, Record>,
    devices: BTreeMap<DeviceId, Facts>,
    /// The last revision. It counts over all devices, so that no revision is ever used twice.
    revisions: u64,
}

struct Record {
    session: Session,
    /// Whether a commit named the session as expired, so that decisions no longer load it.
    expired: bool,
}

#[derive(Clone, Copy, Default)]
struct Facts {
    revision: Revision,
    watermark: Option<RevocationWatermark>,
}

impl MemoryStore {
    /// Makes an empty store with this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, state: Mutex::default(), sender: broadcast::channel(4_096).0 })
    }

    /// Sends an event to subscribers, if there are any.
    fn tell(&self, session: SessionId, kind: ChangeKind) {
        drop(self.sender.send(StoreEvent::Changed { session, kind, at: self.clock.now() }));
    }
}

impl State {
    fn facts(&self, device: &DeviceId) -> Facts {
        self.devices.get(device).copied().unwrap_or_default()
    }

    fn of_device<'a>(&'a self, device: &'a DeviceId) -> impl Iterator<Item = &'a Record> {
        self.sessions.values().filter(move |record| record.session.device == *device)
    }

    fn load(&self, device: &DeviceId, with: Option<SessionId>) -> Device {
        let wanted =
            |record: &&Record| (record.session.end.is_none() && !record.expired) || Some(record.session.id) == with;
        let sessions = self.of_device(device).filter(wanted).map(|record| record.session.clone()).collect();
        let Facts { revision, watermark } = self.facts(device);
        Device::new(device.clone(), revision, sessions, watermark)
    }

    fn next_revision(&mut self) -> Revision {
        self.revisions += 1;
        Revision::new(self.revisions)
    }

    fn check(&self, commit: &Commit, now: Timestamp) -> Result<(), CommitError> {
        if self.facts(&commit.device).revision != commit.expected {
            return Err(CommitError::Conflict);
        }
        if now > commit.not_after {
            return Err(CommitError::TooLate);
        }
        let used = |session: SessionId| self.sessions.get(&session).map(|record| record.session.last_activity);
        if commit.guards.iter().any(|guard| used(guard.session) > Some(guard.last_activity)) {
            return Err(CommitError::Conflict);
        }
        let fits = |change: &Change| {
            let known = self.sessions.contains_key(&change.session().id);
            match change {
                Change::Issued(_) => !known,
                Change::Rotated(_) | Change::Ended(_) | Change::ClientUpdated(_) => known,
                Change::Imported(_) | Change::Merged(_) => true,
            }
        };
        if commit.changes.iter().all(fits) { Ok(()) } else { Err(CommitError::Conflict) }
    }

    /// Applies a checked commit. Returns the ids of the records that were dropped.
    fn apply(&mut self, commit: &Commit) -> (Revision, Vec<SessionId>) {
        let revision = self.next_revision();
        self.devices.insert(commit.device.clone(), Facts { revision, watermark: commit.watermark });
        for change in &commit.changes {
            let new = change.session();
            let known = self.sessions.get(&new.id).filter(|_| !matches!(change, Change::Imported(_)));
            let session = match known {
                Some(stored) if stored.session.last_activity > new.last_activity => {
                    let last_activity = stored.session.last_activity;
                    let later = SessionParts { last_activity, ..new.clone().into_parts() };
                    // Later activity never contradicts another part.
                    Session::from_parts(later).unwrap_or_else(|_| new.clone())
                }
                _ => new.clone(),
            };
            self.sessions.insert(new.id, Record { session, expired: false });
        }
        for id in &commit.expired {
            if let Some(record) = self.sessions.get_mut(id) {
                record.expired = true;
            }
        }
        let over = self.of_device(&commit.device).filter(|record| record.expired || record.session.end.is_some());
        let mut over: Vec<_> = over.map(|record| (record.session.ended_at(), record.session.id)).collect();
        over.sort_unstable();
        let surplus = over.len().saturating_sub(commit.retain);
        let dropped: Vec<SessionId> = over.into_iter().take(surplus).map(|(_, id)| id).collect();
        for id in &dropped {
            self.sessions.remove(id);
        }
        (revision, dropped)
    }
}

#[async_trait]
impl SessionCommits for MemoryStore {
    async fn find(&self, id: SessionId, _options: FindOptions) -> Result<Option<Session>, StoreError> {
        Ok(self.state.lock().sessions.get(&id).map(|record| record.session.clone()))
    }

    async fn load(&self, device: &DeviceId) -> Result<Device, StoreError> {
        Ok(self.state.lock().load(device, None))
    }

    async fn load_by_session(&self, session: SessionId) -> Result<Option<Device>, StoreError> {
        let state = self.state.lock();
        Ok(state.sessions.get(&session).map(|record| state.load(&record.session.device, Some(session))))
    }

    async fn commit(&self, commit: &Commit) -> Result<Revision, CommitError> {
        let mut state = self.state.lock();
        state.check(commit, self.clock.now())?;
        let (revision, dropped) = state.apply(commit);
        for change in &commit.changes {
            self.tell(change.session().id, ChangeKind::of(change));
        }
        for id in dropped {
            self.tell(id, ChangeKind::Purged);
        }
        Ok(revision)
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        for touch in touches {
            if let Some(record) = state.sessions.get_mut(&touch.session) {
                record.session = record.session.clone().touched(touch.at);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl SessionQueries for MemoryStore {
    async fn ids_with_prefix(&self, prefix: IdPrefix, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        let state = self.state.lock();
        Ok(state.sessions.keys().copied().filter(|id| prefix.matches(*id)).take(limit).collect())
    }

    async fn page(
        &self,
        filter: &Filter,
        now: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let state = self.state.lock();
        let later = state.sessions.values().filter(|record| after.is_none_or(|c| record.session.id.as_u128() > c.0));
        let mut matching = later.map(|record| &record.session).filter(|session| filter.matches(session, now));
        let sessions: Vec<Session> = matching.by_ref().take(limit.max(1)).cloned().collect();
        let next = matching.next().and(sessions.last()).map(|last| Cursor(last.id.as_u128()));
        Ok(Page { sessions, next })
    }

    async fn list_sorted(
        &self,
        filter: &Filter,
        now: Timestamp,
        sort: SortKey,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        let state = self.state.lock();
        let all = state.sessions.values().map(|record| &record.session);
        let mut matching: Vec<Session> = all.filter(|session| filter.matches(session, now)).cloned().collect();
        matching.sort_by(|a, b| sort.compare(a, b));
        matching.truncate(limit);
        Ok(matching)
    }

    async fn subscribe(&self) -> Result<EventStream, StoreError> {
        Ok(Box::pin(futures_util::stream::unfold(self.sender.subscribe(), |mut sender| async move {
            match sender.recv().await {
                Ok(item) => Some((item, sender)),
                Err(RecvError::Lagged(_)) => Some((StoreEvent::Lagged, sender)),
                Err(RecvError::Closed) => None,
            }
        })))
    }
}

#[async_trait]
impl SessionUpkeep for MemoryStore {
    async fn purge(&self, purge: &Purge, _after: Option<Cursor>) -> Result<Purged, StoreError> {
        let mut state = self.state.lock();
        let all = state.sessions.values().map(|record| record.session.clone());
        let over =
            |session: &Session| session.inactive_since(purge.now).is_some_and(|since| since <= purge.inactive_by);
        let over: Vec<Session> = all.filter(over).collect();
        let removed = over.iter().filter(|session| session.is_retained(purge.now)).count() as u64;
        if !purge.dry_run {
            for session in over {
                state.sessions.remove(&session.id);
                if session.end.is_none() {
                    let revision = state.next_revision();
                    state.devices.entry(session.device.clone()).or_default().revision = revision;
                }
                self.tell(session.id, ChangeKind::Purged);
            }
        }
        Ok(Purged { removed, next: None })
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl SessionRepository for MemoryStore {
    fn cache(&self) -> Option<&dyn SessionCache> {
        None
    }
}

#[async_trait]
impl Backend for MemoryStore {
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    async fn diagnose(&self) -> Vec<Diagnosis> {
        vec![Diagnosis::warning("sessions are kept in memory", "use it for tests: they are gone with the process")]
    }

    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
