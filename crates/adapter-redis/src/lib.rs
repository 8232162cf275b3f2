//! The session repository in Redis or Valkey.
//!
//! All keys of a device lie in one slot, and one script compares and stores, so a commit is atomic on a cluster too.
//! Verification is one plain read. Every call has a deadline. What may live no longer than a session expires by
//! itself, so nothing leaks where every process dies.

mod cache;
mod client;
mod options;
mod repository;
mod setting_error;

use async_trait::async_trait;
pub use client::resolver::Resolver;
pub use options::{Durability, Options};
pub use repository::RedisStore;
pub use setting_error::SettingError;
use tenure_domain::{
    Commit, Device, DeviceId, Filter, IdPrefix, Revision, Session, SessionId, SortKey, Timestamp, Touch,
};
use tenure_ports::{
    CommitError, Cursor, EventStream, FindOptions, Page, Purge, Purged, SessionCache, SessionCommits, SessionQueries,
    SessionRepository, SessionUpkeep, StoreError,
};

pub use client::url::{URL_FORMS, check_url};

#[async_trait]
impl SessionCommits for RedisStore {
    async fn find(&self, id: SessionId, options: FindOptions) -> Result<Option<Session>, StoreError> {
        if options.stale_activity { self.find_session_for_use(id).await } else { self.find_session(id).await }
    }

    async fn load(&self, device: &DeviceId) -> Result<Device, StoreError> {
        self.load_device(device).await
    }

    async fn load_by_session(&self, session: SessionId) -> Result<Option<Device>, StoreError> {
        self.load_device_of(session).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Revision, CommitError> {
        self.apply(commit).await
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), StoreError> {
        self.record_activity(touches).await
    }
}

#[async_trait]
impl SessionQueries for RedisStore {
    async fn ids_with_prefix(&self, prefix: IdPrefix, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        self.read_ids_with_prefix(prefix, limit).await
    }

    async fn page(
        &self,
        filter: &Filter,
        now: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.read_page(filter, now, after, limit).await
    }

    async fn list_sorted(
        &self,
        filter: &Filter,
        now: Timestamp,
        sort: SortKey,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.read_sorted(filter, now, sort, limit).await
    }

    async fn subscribe(&self) -> Result<EventStream, StoreError> {
        self.feed().await
    }
}

#[async_trait]
impl SessionUpkeep for RedisStore {
    async fn purge(&self, purge: &Purge, after: Option<Cursor>) -> Result<Purged, StoreError> {
        self.purge_part(purge, after).await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.check_writable().await
    }
}

impl SessionRepository for RedisStore {
    fn cache(&self) -> Option<&dyn SessionCache> {
        self.cache.as_deref().map(|cache| cache as &dyn SessionCache)
    }
}
