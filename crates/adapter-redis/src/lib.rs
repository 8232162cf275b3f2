//! The session repository in Redis or Valkey.

mod finding;
mod options;
#[cfg(feature = "test-server")]
pub mod test_server;

use std::sync::Arc;

use async_trait::async_trait;
pub use finding::{Finding, Level};
pub use options::{Durability, Options, Password};
use tenure_domain::{
    Commit, Device, DeviceId, Filter, IdPrefix, Revision, Session, SessionId, SortKey, Timestamp, Touch,
};
use tenure_ports::{Clock, CommitError, Cursor, Feed, Page, Purge, Purged, SessionRepository, StoreError};

/// Sessions in one Redis, shared by any number of processes.
pub struct RedisStore {
    wall: Arc<dyn Clock>,
}

impl RedisStore {
    /// Connects, within the deadlines.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] that names the server without its password.
    pub async fn connect(_options: Options, wall: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        Ok(Arc::new(Self { wall }))
    }

    /// The fleet's time: this machine's, corrected to the server's.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.wall)
    }

    /// What is to be said of the server.
    pub async fn examine(&self) -> Vec<Finding> {
        Vec::new()
    }

    fn missing<T>(&self) -> Result<T, StoreError> {
        Err(StoreError::Unavailable { place: "redis".to_owned(), problem: "not built yet".to_owned() })
    }
}

#[async_trait]
impl SessionRepository for RedisStore {
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
