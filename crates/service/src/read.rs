//! Reading sessions, and removing old ones.

use tenure_domain::{DeviceId, Filter, IdPrefix, Millis, Session, SessionId, SortKey, State};
use tenure_ports::{Cursor, FindOptions, Page, Purge, StoreError};

use crate::Sessions;
use crate::error::{ResolveError, WriteError};
use crate::retry::{DeviceRef, Outcome};

/// The number of ids that are read to find out whether a prefix is unique.
const CANDIDATES: usize = 32;

impl Sessions {
    /// Returns the matching sessions in the order of `sort`, the first `limit` of them. Sessions that are found idle
    /// are durably recorded as ended first.
    ///
    /// # Errors
    /// [`WriteError`] if the store cannot be read, or an idle session cannot be ended.
    pub async fn list(&self, filter: &Filter, sort: SortKey, limit: usize) -> Result<Vec<Session>, WriteError> {
        let now = self.clock.now();
        let sessions = self.repository.list_sorted(filter, now, sort, limit).await?;
        let idle = sessions.iter().filter(|session| session.state(now) == State::Idle);
        let devices: std::collections::BTreeSet<DeviceId> = idle.map(|session| session.device.clone()).collect();
        if devices.is_empty() {
            return Ok(sessions);
        }
        // A session that is shown as idle must stay ended. So this is recorded first, and then the sessions are read
        // again.
        for device in &devices {
            self.record_idle(DeviceRef::Device(device)).await?;
        }
        Ok(self.repository.list_sorted(filter, now, sort, limit).await?)
    }

    /// Returns one page of the matching sessions, in the store's order. See [`tenure_ports::SessionQueries::page`].
    ///
    /// # Errors
    /// [`StoreError`] if the store cannot be read.
    pub async fn page(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.repository.page(filter, self.clock.now(), after, limit).await
    }

    /// Returns one session, if it is retained. A session that is found idle is durably recorded as ended first.
    ///
    /// # Errors
    /// [`WriteError`] if the store cannot be read, or an idle session cannot be ended.
    pub async fn get(&self, id: SessionId) -> Result<Option<Session>, WriteError> {
        let Some(session) = self.repository.find(id, FindOptions::EXACT).await? else {
            return Ok(None);
        };
        let now = self.clock.now();
        if session.state(now) != State::Idle {
            return Ok(Some(session).filter(|session| session.is_retained(now)));
        }
        self.record_idle(DeviceRef::Session(id)).await?;
        Ok(self.repository.find(id, FindOptions::EXACT).await?.filter(|session| session.is_retained(now)))
    }

    async fn record_idle(&self, key: DeviceRef<'_>) -> Result<(), WriteError> {
        self.flush_activity().await?;
        let policy = self.policy();
        let settled =
            self.commit_with_retry(key, |device, now| match device.and_then(|device| device.end_idle(&policy, now)) {
                Some(commit) => Outcome::Commit(commit, ()),
                None => Outcome::Answer(()),
            });
        settled.await.map_err(|unacknowledged| unacknowledged.error)
    }

    /// Returns the id of the one session whose id starts with this text.
    ///
    /// # Errors
    /// [`ResolveError`] if no id or several start with it, if it cannot be the beginning of an id, or if the store
    /// fails.
    pub async fn resolve(&self, start: &str) -> Result<SessionId, ResolveError> {
        let prefix: IdPrefix = start.parse()?;
        let mut ids = self.repository.ids_with_prefix(prefix, CANDIDATES).await?;
        if ids.len() > 1 && ids.len() < CANDIDATES {
            // Records that are no longer shown must not make a prefix ambiguous.
            let now = self.clock.now();
            let mut shown = Vec::with_capacity(ids.len());
            for id in ids {
                if self.repository.find(id, FindOptions::EXACT).await?.is_some_and(|session| session.is_retained(now)) {
                    shown.push(id);
                }
            }
            ids = shown;
        }
        match ids[..] {
            [] => Err(ResolveError::NoSuchSession(start.to_owned())),
            [id] => Ok(id),
            _ => {
                ids.truncate(4);
                Err(ResolveError::Ambiguous { start: start.to_owned(), ids })
            }
        }
    }

    /// Removes the records of sessions that expired or ended at least `older_than` ago, and returns their number. A dry
    /// run only counts them. `progress` receives the number so far.
    ///
    /// # Errors
    /// [`StoreError`] if the store fails. Records that were removed before stay removed.
    pub async fn cleanup(
        &self,
        older_than: Millis,
        dry_run: bool,
        mut progress: impl FnMut(u64),
    ) -> Result<u64, StoreError> {
        let now = self.clock.now();
        let purge = Purge { now, inactive_by: now.minus(older_than), dry_run };
        let (mut removed, mut cursor) = (0, None);
        loop {
            let part = self.repository.purge(&purge, cursor).await?;
            removed += part.removed;
            progress(removed);
            cursor = part.next;
            if cursor.is_none() {
                return Ok(removed);
            }
        }
    }
}
