//! The session repository in one append-only JSON journal.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tenure_domain::{
    Commit, Device, DeviceId, Filter, IdPrefix, Millis, Revision, Session, SessionId, SortKey, Timestamp, Touch,
};
use tenure_ports::{Clock, CommitError, Cursor, Feed, Page, Purge, Purged, SessionRepository, StoreError};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a writer waits for another process' lock.
    pub lock_timeout: Millis,
}

impl Default for Options {
    fn default() -> Self {
        Self { lock_timeout: Millis::seconds(2) }
    }
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, with a risk.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that an examination of a store found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub what: String,
    /// What to do about it; empty where there is nothing to do.
    pub advice: String,
}

/// Sessions in one journal file, shared by any number of processes.
pub struct JsonStore {
    path: PathBuf,
    wall: Arc<dyn Clock>,
}

impl JsonStore {
    /// Opens the journal at `path`, or makes it.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be read, may not be used, or is no journal; it is then left as it is.
    pub fn open(path: &Path, wall: Arc<dyn Clock>, _options: Options) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self { path: path.to_owned(), wall }))
    }

    /// The store's time.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.wall)
    }

    /// What is to be said of the store at `path`, without changing a byte.
    #[must_use]
    pub fn examine(_path: &Path, _wall: &dyn Clock) -> Vec<Finding> {
        Vec::new()
    }

    /// Writes what waits to be written; to be called before the process ends.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be written.
    pub async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn missing<T>(&self) -> Result<T, StoreError> {
        Err(StoreError::Unavailable { place: self.path.display().to_string(), problem: "not built yet".to_owned() })
    }
}

#[async_trait]
impl SessionRepository for JsonStore {
    async fn find(&self, _id: SessionId) -> Result<Option<Session>, StoreError> {
        self.missing()
    }

    async fn load(&self, _device: &DeviceId) -> Result<Device, StoreError> {
        self.missing()
    }

    async fn load_of(&self, _session: SessionId) -> Result<Option<Device>, StoreError> {
        self.missing()
    }

    async fn commit(&self, _commit: &Commit) -> Result<Revision, CommitError> {
        Ok(self.missing()?)
    }

    async fn touch(&self, _touches: &[Touch]) -> Result<(), StoreError> {
        self.missing()
    }

    async fn starting_with(&self, _prefix: IdPrefix, _limit: usize) -> Result<Vec<SessionId>, StoreError> {
        self.missing()
    }

    async fn page(
        &self,
        _filter: &Filter,
        _now: Timestamp,
        _after: Option<Cursor>,
        _limit: usize,
    ) -> Result<Page, StoreError> {
        self.missing()
    }

    async fn top(
        &self,
        _filter: &Filter,
        _now: Timestamp,
        _sort: SortKey,
        _limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.missing()
    }

    async fn purge(&self, _purge: &Purge, _after: Option<Cursor>) -> Result<Purged, StoreError> {
        self.missing()
    }

    async fn subscribe(&self) -> Result<Feed, StoreError> {
        self.missing()
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.missing()
    }
}
