//! A store that can be made to fail, for tests of the code that uses a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tenure_domain::{
    Commit, Device, DeviceId, Filter, IdPrefix, Revision, Session, SessionId, SortKey, Timestamp, Touch,
};
use tenure_ports::{
    CommitError, Cursor, EventStream, FindOptions, Page, Purge, Purged, SessionCache, SessionCommits, SessionQueries,
    SessionRepository, SessionUpkeep, StoreError, StoreEvent,
};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// A decorator that passes every call on to another store, unless it was told to fail.
///
/// It lets other tasks run before each commit, like a store that waits for a disk or a network.
pub struct FaultyStore {
    inner: Arc<dyn SessionRepository>,
    down: AtomicBool,
    not_durable: AtomicBool,
    silent: Arc<AtomicBool>,
    unreadable: Mutex<Option<SessionId>>,
    finds: AtomicU64,
    page_size: AtomicUsize,
    lagged: broadcast::Sender<()>,
}

impl FaultyStore {
    /// The location of the store in its errors. Clients must never see it.
    pub const LOCATION: &'static str = "/var/secret-place";

    /// Makes a decorator around this store. Nothing fails yet.
    #[must_use]
    pub fn new(inner: Arc<dyn SessionRepository>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            down: AtomicBool::new(false),
            not_durable: AtomicBool::new(false),
            silent: Arc::default(),
            unreadable: Mutex::default(),
            finds: AtomicU64::new(0),
            page_size: AtomicUsize::new(usize::MAX),
            lagged: broadcast::channel(16).0,
        })
    }

    /// Sets whether every call fails with [`StoreError::Unavailable`].
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Sets whether commits are applied and then answered with [`CommitError::NotDurable`].
    pub fn set_not_durable(&self, not_durable: bool) {
        self.not_durable.store(not_durable, Ordering::SeqCst);
    }

    /// Makes [`SessionCommits::find`] fail for this one session from now on.
    pub fn make_unreadable(&self, id: SessionId) {
        *self.unreadable.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
    }

    /// Sets whether events of changes are withheld from subscribers.
    pub fn suppress_events(&self, silent: bool) {
        self.silent.store(silent, Ordering::SeqCst);
    }

    /// Sends [`StoreEvent::Lagged`] to subscribers.
    pub fn send_lagged(&self) {
        // An error only says that there are no subscribers.
        let _ = self.lagged.send(());
    }

    /// Sets the largest page of a walk, in sessions, so that a walk over a few sessions has several steps.
    pub fn limit_pages(&self, page_size: usize) {
        self.page_size.store(page_size, Ordering::SeqCst);
    }

    /// Returns how often [`SessionCommits::find`] was called.
    pub fn finds(&self) -> u64 {
        self.finds.load(Ordering::SeqCst)
    }

    fn check_up(&self) -> Result<(), StoreError> {
        if self.down.load(Ordering::SeqCst) { Err(unavailable()) } else { Ok(()) }
    }
}

fn unavailable() -> StoreError {
    StoreError::unavailable(FaultyStore::LOCATION, "is down")
}

#[async_trait]
impl SessionCommits for FaultyStore {
    async fn find(&self, id: SessionId, options: FindOptions) -> Result<Option<Session>, StoreError> {
        self.finds.fetch_add(1, Ordering::SeqCst);
        self.check_up()?;
        if *self.unreadable.lock().unwrap_or_else(PoisonError::into_inner) == Some(id) {
            return Err(unavailable());
        }
        self.inner.find(id, options).await
    }

    async fn load(&self, device: &DeviceId) -> Result<Device, StoreError> {
        self.check_up()?;
        self.inner.load(device).await
    }

    async fn load_by_session(&self, session: SessionId) -> Result<Option<Device>, StoreError> {
        self.check_up()?;
        self.inner.load_by_session(session).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Revision, CommitError> {
        tokio::task::yield_now().await;
        self.check_up()?;
        let revision = self.inner.commit(commit).await?;
        if self.not_durable.load(Ordering::SeqCst) {
            let (location, message) = (Self::LOCATION.to_owned(), "no disk".to_owned());
            return Err(CommitError::NotDurable { location, message });
        }
        Ok(revision)
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), StoreError> {
        self.check_up()?;
        self.inner.touch(touches).await
    }
}

#[async_trait]
impl SessionQueries for FaultyStore {
    async fn ids_with_prefix(&self, prefix: IdPrefix, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        self.check_up()?;
        self.inner.ids_with_prefix(prefix, limit).await
    }

    async fn page(
        &self,
        filter: &Filter,
        now: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.check_up()?;
        self.inner.page(filter, now, after, limit.min(self.page_size.load(Ordering::SeqCst))).await
    }

    async fn list_sorted(
        &self,
        filter: &Filter,
        now: Timestamp,
        sort: SortKey,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.check_up()?;
        self.inner.list_sorted(filter, now, sort, limit).await
    }

    async fn subscribe(&self) -> Result<EventStream, StoreError> {
        self.check_up()?;
        let lagged = stream::unfold(self.lagged.subscribe(), |mut lagged| async move {
            match lagged.recv().await {
                Ok(()) | Err(RecvError::Lagged(_)) => Some((StoreEvent::Lagged, lagged)),
                Err(RecvError::Closed) => None,
            }
        });
        let silent = Arc::clone(&self.silent);
        let events = self.inner.subscribe().await?;
        let events = events.filter(move |_| std::future::ready(!silent.load(Ordering::SeqCst)));
        Ok(Box::pin(stream::select(events, lagged)))
    }
}

#[async_trait]
impl SessionUpkeep for FaultyStore {
    async fn purge(&self, purge: &Purge, after: Option<Cursor>) -> Result<Purged, StoreError> {
        self.check_up()?;
        self.inner.purge(purge, after).await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.check_up()?;
        self.inner.check_writable().await
    }
}

impl SessionRepository for FaultyStore {
    fn cache(&self) -> Option<&dyn SessionCache> {
        self.inner.cache()
    }
}
