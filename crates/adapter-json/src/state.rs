//! The state of an open store, which all threads of the process share.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::RwLock;
use tenure_domain::{Session, SessionId};
use tenure_ports::StoreError;
use tokio::sync::oneshot;

use crate::clock::StoreClock;
use crate::error::{corrupt, thread_error, unavailable};
use crate::journal::{Journal, Tail};
use crate::storage::Storage;

mod long_replay;

use long_replay::{LongReplay, RunningReplay};

/// Sizes in bytes below which a compaction or an index is not worth its cost.
#[derive(Clone, Copy)]
pub(crate) struct Thresholds {
    pub(crate) compaction: u64,
    pub(crate) index: u64,
}

/// The number of bytes up to which an async worker thread itself applies what other processes have written. It takes
/// about half a millisecond. See docs/adr/0012-blocking-in-the-json-store.md.
const MAX_INLINE_REPLAY: u64 = 64 << 10;

/// The state of an open store: all but its writer.
pub(crate) struct StoreState {
    pub(crate) path: PathBuf,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<StoreClock>,
    pub(crate) journal: RwLock<Journal>,
    pub(crate) thresholds: Thresholds,
    long_replay: LongReplay,
}

impl StoreState {
    pub(crate) fn new(
        path: PathBuf,
        storage: Arc<dyn Storage>,
        clock: Arc<StoreClock>,
        journal: Journal,
        thresholds: Thresholds,
    ) -> Self {
        let (journal, long_replay) = (RwLock::new(journal), LongReplay::default());
        Self { path, storage, clock, journal, thresholds, long_replay }
    }

    /// Applies what other processes have written, and checks that the time can be trusted.
    ///
    /// It does not block the calling thread for long: a long replay runs on a thread of its own.
    pub(crate) async fn catch_up(self: &Arc<Self>) -> Result<(), StoreError> {
        loop {
            self.long_replay.wait().await;
            if !self.is_far_behind()? {
                self.refresh_if_behind()?;
                break;
            }
            // If another task has begun a replay meanwhile, wait for that one.
            if let Some(running) = self.long_replay.begin() {
                self.replay_in_background(running).await?;
                break;
            }
        }
        self.check_clock()
    }

    /// Applies what other processes have written, and checks that the time can be trusted. For threads that may block.
    pub(crate) fn catch_up_blocking(&self) -> Result<(), StoreError> {
        self.refresh_if_behind()?;
        self.check_clock()
    }

    fn refresh_if_behind(&self) -> Result<(), StoreError> {
        if !self.journal.read().is_current()? {
            self.refresh()?;
        }
        Ok(())
    }

    /// Applies what other processes have written, and returns how the file ends. For threads that may block, and for
    /// callers that know that there is little to apply.
    pub(crate) fn refresh(&self) -> Result<Tail, StoreError> {
        // A long replay is announced before the table is locked, so that tasks wait for it without blocking their
        // threads.
        let _running = if self.is_far_behind()? { self.long_replay.begin() } else { None };
        self.journal.write().refresh()
    }

    /// Whether it would take long to apply what other processes have written. If another file has replaced this one,
    /// all of that may have to be read.
    fn is_far_behind(&self) -> Result<bool, StoreError> {
        Ok(self.journal.read().backlog()?.is_none_or(|bytes| bytes > MAX_INLINE_REPLAY))
    }

    async fn replay_in_background(self: &Arc<Self>, running: RunningReplay) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let state = Arc::clone(self);
        let replay = move || {
            let result = state.journal.write().refresh().map(drop);
            drop(running);
            // An error only says that the task no longer waits.
            drop(reply.send(result));
        };
        if let Err(error) = std::thread::Builder::new().name("tenure-replay".to_owned()).spawn(replay) {
            return Err(thread_error(&self.path, "reads it", error));
        }
        let ended = || unavailable(&self.path, "the thread that reads it ended unexpectedly; restart");
        answer.await.map_err(|_| ended())?
    }

    fn check_clock(&self) -> Result<(), StoreError> {
        self.clock.error().map_or(Ok(()), |message| Err(unavailable(&self.path, message)))
    }

    /// Finds one session, after applying what other processes have written.
    pub(crate) async fn find(self: &Arc<Self>, id: SessionId) -> Result<Option<Session>, StoreError> {
        // If the clock is refused, the file may show by now that an operator has accepted it. So catch up first.
        if !self.long_replay.is_running() && self.clock.error().is_none() {
            let journal = self.journal.read();
            if journal.is_current()? {
                return self.look_up(&journal, id);
            }
        }
        self.catch_up().await?;
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

    /// Whether so much was read line by line that an index is worth writing for the next process.
    pub(crate) fn wants_index(&self) -> bool {
        let journal = self.journal.read();
        let position = &journal.position;
        let Some(indexed_end) = journal.indexed_end.filter(|_| !journal.read_only) else { return false };
        let is_worth = position.end.saturating_sub(indexed_end) > self.thresholds.index.saturating_add(indexed_end / 8);
        is_worth && position.checksums.through(position.end).is_some()
    }
}
