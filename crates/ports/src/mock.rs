//! A mockall double of the repository, for failures that a store in memory cannot produce.

use async_trait::async_trait;
use tenure_domain::{
    Commit, Device, DeviceId, Filter, IdPrefix, Revision, Session, SessionId, SortKey, Timestamp, Touch,
};

use crate::{
    CommitError, Cursor, EventStream, FindOptions, Page, Purge, Purged, SessionCache, SessionCommits, SessionQueries,
    SessionRepository, SessionUpkeep, StoreError,
};

mockall::mock! {
    /// A repository whose answers are set by the test.
    pub SessionRepository {}

    #[async_trait]
    impl SessionCommits for SessionRepository {
        async fn find(&self, id: SessionId, options: FindOptions) -> Result<Option<Session>, StoreError>;
        async fn load(&self, device: &DeviceId) -> Result<Device, StoreError>;
        async fn load_by_session(&self, session: SessionId) -> Result<Option<Device>, StoreError>;
        async fn commit(&self, commit: &Commit) -> Result<Revision, CommitError>;
        async fn touch(&self, touches: &[Touch]) -> Result<(), StoreError>;
    }

    #[async_trait]
    impl SessionQueries for SessionRepository {
        async fn ids_with_prefix(&self, prefix: IdPrefix, limit: usize) -> Result<Vec<SessionId>, StoreError>;
        async fn page(
            &self,
            filter: &Filter,
            now: Timestamp,
            after: Option<Cursor>,
            limit: usize,
        ) -> Result<Page, StoreError>;
        async fn list_sorted(
            &self,
            filter: &Filter,
            now: Timestamp,
            sort: SortKey,
            limit: usize,
        ) -> Result<Vec<Session>, StoreError>;
        async fn subscribe(&self) -> Result<EventStream, StoreError>;
    }

    #[async_trait]
    impl SessionUpkeep for SessionRepository {
        async fn purge(&self, purge: &Purge, after: Option<Cursor>) -> Result<Purged, StoreError>;
        async fn check_writable(&self) -> Result<(), StoreError>;
    }

    impl SessionCache for SessionRepository {
        fn find_cached(&self, id: SessionId) -> Option<Session>;
    }
}

impl SessionRepository for MockSessionRepository {
    /// The mock is its own cache.
    fn cache(&self) -> Option<&dyn SessionCache> {
        Some(self)
    }
}
