//! The state of an open store, which all its threads share.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use tenure_domain::{Session, SessionId};
use tenure_ports::StoreError;

use crate::clock::StoreClock;
use crate::error::{corrupt, unavailable};
use crate::journal::Journal;
use crate::storage::Storage;

/// Sizes in bytes below which some work is not worth doing.
#[derive(Clone, Copy)]
pub(crate) struct Thresholds {
    pub(crate) compaction: u64,
    pub(crate) index: u64,
}

/// An open store without its writer.
pub(crate) struct StoreState {
    pub(crate) path: PathBuf,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<StoreClock>,
    pub(crate) journal: RwLock<Journal>,
    pub(crate) thresholds: Thresholds,
}

impl StoreState {
    /// Applies what other processes have written, and checks that the time can be trusted.
    pub(crate) fn catch_up(&self) -> Result<(), StoreError> {
        if !self.journal.read().is_current()? {
            self.journal.write().refresh()?;
        }
        self.check_clock()
    }

    fn check_clock(&self) -> Result<(), StoreError> {
        self.clock.error().map_or(Ok(()), |message| Err(unavailable(&self.path, message)))
    }

    /// Finds one session, after applying what other processes have written.
    pub(crate) fn find(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        if self.clock.error().is_some() {
            // By now the file may say that an operator accepted the clock.
            self.catch_up()?;
        }
        let journal = self.journal.read();
        if journal.is_current()? {
            return self.look_up(&journal, id);
        }
        drop(journal);
        self.catch_up()?;
        self.look_up(&self.journal.read(), id)
    }

    fn look_up(&self, journal: &Journal, id: SessionId) -> Result<Option<Session>, StoreError> {
        let Some(at) = journal.table.find(id) else { return Ok(None) };
        let session = journal.table.session(at).map_err(|error| corrupt(&self.path, 0, &error.to_string()))?;
        if !journal.refused_locally.is_empty()
            && session.end.is_none()
            && let Some(ended) = journal.refused_locally.get(&id)
        {
            return Ok(Some(ended.clone()));
        }
        Ok(Some(session))
    }

    /// Whether so much was read line by line that the next process should find an index.
    pub(crate) fn wants_index(&self) -> bool {
        let journal = self.journal.read();
        let position = &journal.position;
        let Some(indexed_end) = journal.indexed_end.filter(|_| !journal.read_only) else { return false };
        let is_worth = position.end.saturating_sub(indexed_end) > self.thresholds.index.saturating_add(indexed_end / 8);
        is_worth && position.checksums.through(position.end).is_some()
    }
}
