//! The JSON store, and the options with which it is opened.

use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use tenure_domain::{
    Commit, Device, DeviceId, Filter, IdPrefix, Millis, Revision, Session, SessionError, SessionId, SortKey, Timestamp,
    Touch,
};
use tenure_ports::{
    Backend, Clock, CommitError, Cursor, Diagnosis, EventStream, FindOptions, Page, Purge, Purged, SessionCache,
    SessionCommits, SessionQueries, SessionRepository, SessionUpkeep, StoreError,
};

use crate::clock::StoreClock;
use crate::clock::boot::{Boot, SystemBoot};
use crate::diagnose::diagnose_in;
use crate::error::{corrupt, io_error, unavailable};
use crate::event::EventPublisher;
use crate::journal::{Journal, snapshot};
use crate::query;
use crate::state::{StoreState, Thresholds};
use crate::storage::lock::WriterLock;
use crate::storage::permissions::{check_directory, check_exists, create_parent_directories};
use crate::storage::{OsStorage, Storage};
use crate::table::apply::touch;
use crate::writer::{Job, Writer, purge};

/// The options with which a store is opened.
#[derive(Clone)]
pub struct Options {
    /// How long a writer waits while another process holds the lock.
    pub lock_timeout: Millis,
    /// The size in bytes up to which the file is never compacted. A larger file is compacted once it exceeds twice the
    /// size of its last snapshot by this much, or once most of its sessions are gone.
    pub compaction_threshold: u64,
    /// The size in bytes up to which a journal gets no index. An index saves the next process from parsing the whole
    /// journal.
    pub index_threshold: u64,
    /// Whether to create a store that does not exist. To look at sessions or to end them, an error is better: a new,
    /// empty store in the wrong place would show that there are none.
    pub create: bool,
    /// The source of the machine's boot id and uptime. Only tests use another one than [`SystemBoot`].
    pub boot: Arc<dyn Boot>,
    /// The storage that holds the file. Use another one than [`OsStorage`] in tests, or to keep the file outside the
    /// operating system's file system.
    pub storage: Arc<dyn Storage>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lock_timeout: Millis::seconds(2),
            compaction_threshold: 1 << 20,
            index_threshold: 1 << 20,
            create: true,
            boot: Arc::new(SystemBoot),
            storage: Arc::new(OsStorage),
        }
    }
}

/// A session repository in one journal file, which any number of processes share.
///
/// When it is dropped, a thread still writes what is queued. A process has to call [`Backend::close`] before it ends.
pub struct JsonStore {
    state: Arc<StoreState>,
    writer: Arc<Writer>,
    events: EventPublisher,
    created: bool,
}

impl JsonStore {
    /// Opens the journal at `path`. If [`Options::create`] is set and it does not exist, it is created durably, with
    /// the directories above it.
    ///
    /// This reads the whole file, which takes a while for a large store. Do not call it on an async worker thread.
    ///
    /// # Errors
    /// [`StoreError`] if the file does not exist, cannot be read, has unsafe permissions, or is not a journal. An
    /// existing file is not changed.
    pub fn open(path: &Path, wall: Arc<dyn Clock>, options: Options) -> Result<Arc<Self>, StoreError> {
        let Options { lock_timeout, compaction_threshold, index_threshold, create, boot, storage } = options;
        let clock = Arc::new(StoreClock::new(wall, boot));
        let mut lock = WriterLock::new(Arc::clone(&storage), path, lock_timeout);
        if create {
            create_parent_directories(&*storage, path)?;
        } else {
            check_exists(&*storage, path)?;
        }
        check_directory(&*storage, path)?;
        let created = create && create_if_missing(&*storage, path, &clock, &mut lock)?;
        let events = EventPublisher::new();
        let journal = Journal::open(Arc::clone(&storage), path, Arc::clone(&clock), events.sender.clone())?;
        let journal = journal.read_indexed()?;
        let thresholds = Thresholds { compaction: compaction_threshold, index: index_threshold };
        let state = Arc::new(StoreState::new(path.to_owned(), storage, clock, journal, thresholds));
        let writer = Arc::new(Writer::new(Arc::clone(&state), lock));
        Ok(Arc::new(Self { state, writer, events, created }))
    }

    /// Whether opening the store created its file.
    #[must_use]
    pub const fn was_created(&self) -> bool {
        self.created
    }

    /// Returns the offset up to which the index covers the current journal, as this process has read or written the
    /// index. 0 if there is no index.
    #[must_use]
    pub fn indexed_bytes(&self) -> u64 {
        self.state.journal.read().indexed_end.unwrap_or(0)
    }

    /// Compacts the journal: removes the records that are no longer retained, and replaces the file by a snapshot of
    /// the rest. The replacement is atomic. The store also does this by itself; see [`Options::compaction_threshold`].
    ///
    /// # Errors
    /// [`StoreError`] if the new file cannot be written. The store then keeps using the file that it has.
    pub async fn compact(&self) -> Result<(), StoreError> {
        self.writer.submit(Job::Compact).await
    }

    /// Waits until the state that `loaded` shows is durable, unless that is known. What this process itself wrote is
    /// always durable. `last_change` is the number of the last transaction that did more than record activity,
    /// `last_synced` that of the last one known to be durable.
    ///
    /// A failed sync is an error only if nothing is left to decide, such as for a session that has already ended.
    /// Otherwise the commit that follows will fail, and then the writer knows whether it was to end a session.
    async fn ensure_durable(
        &self,
        loaded: Device,
        (last_change, last_synced): (u64, u64),
        has_undecided: bool,
    ) -> Result<Device, StoreError> {
        if last_change <= last_synced || loaded.revision().get() <= last_synced {
            return Ok(loaded);
        }
        match self.writer.submit(Job::Sync).await {
            Err(error) if !has_undecided => Err(error),
            _ => Ok(loaded),
        }
    }

    /// Builds a device with its sessions that are not inactive, and with the session `with`.
    fn build_device(&self, journal: &Journal, device: u32, with: Option<SessionId>) -> Result<Device, StoreError> {
        let damaged = |error: SessionError| corrupt(&self.state.path, 0, &error.to_string());
        let table = &journal.table;
        let Some(row) = table.devices.get(device) else {
            return Err(corrupt(&self.state.path, 0, "a session's device is not known"));
        };
        let wanted = table.device_rows(device).filter(|(_, row)| !row.is_inactive() || Some(row.id) == with);
        let sessions = wanted.map(|(at, _)| table.session(at)).collect::<Result<_, _>>().map_err(damaged)?;
        Ok(Device::new(row.name.clone(), row.revision, sessions, row.watermark))
    }
}

impl Drop for JsonStore {
    fn drop(&mut self) {
        self.writer.close();
    }
}

/// Creates the file if it does not exist, and returns whether it did. It holds the lock, so that two processes cannot
/// both create the file.
fn create_if_missing(
    storage: &dyn Storage,
    path: &Path,
    clock: &StoreClock,
    lock: &mut WriterLock,
) -> Result<bool, StoreError> {
    let is_missing = || match storage.metadata(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(io_error(path, "look at the store", error)),
    };
    if !is_missing()? {
        return Ok(false);
    }
    if path.file_name().is_none() {
        return Err(unavailable(path, "the path does not name a file"));
    }
    let _held = lock.acquire()?;
    if !is_missing()? {
        return Ok(false);
    }
    snapshot::create(storage, path, clock).map(|()| true)
}

#[async_trait]
impl SessionCommits for JsonStore {
    async fn find(&self, id: SessionId, _options: FindOptions) -> Result<Option<Session>, StoreError> {
        self.state.find(id).await
    }

    async fn load(&self, device: &DeviceId) -> Result<Device, StoreError> {
        self.state.catch_up().await?;
        let (loaded, at) = {
            let journal = self.state.journal.read();
            let loaded = match journal.table.devices.find(device.as_str()) {
                Some(at) => self.build_device(&journal, at, None)?,
                None => Device::unknown(device.clone()),
            };
            (loaded, (journal.position.last_change, journal.position.synced_number))
        };
        let has_undecided = !loaded.sessions().is_empty();
        self.ensure_durable(loaded, at, has_undecided).await
    }

    async fn load_by_session(&self, session: SessionId) -> Result<Option<Device>, StoreError> {
        self.state.catch_up().await?;
        let (loaded, at) = {
            let journal = self.state.journal.read();
            let Some(at) = journal.table.find(session) else { return Ok(None) };
            let loaded = self.build_device(&journal, journal.table.row(at).device, Some(session))?;
            (loaded, (journal.position.last_change, journal.position.synced_number))
        };
        let has_undecided = loaded.session(session).is_some_and(|session| session.end.is_none());
        self.ensure_durable(loaded, at, has_undecided).await.map(Some)
    }

    async fn commit(&self, commit: &Commit) -> Result<Revision, CommitError> {
        self.writer.submit(|reply| Job::Commit(commit.clone(), reply)).await
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), StoreError> {
        self.state.catch_up().await?;
        let moved: Vec<_> = {
            let mut journal = self.state.journal.write();
            let moved = touches.iter().filter(|touched| touch(&mut journal.table, touched.session, touched.at));
            moved.map(|touched| (touched.session, touched.at)).collect()
        };
        if moved.is_empty() { Ok(()) } else { self.writer.queue_touches(moved) }
    }
}

#[async_trait]
impl SessionQueries for JsonStore {
    async fn ids_with_prefix(&self, prefix: IdPrefix, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        self.state.catch_up().await?;
        Ok(query::ids_with_prefix(&self.state, prefix, limit))
    }

    async fn page(
        &self,
        filter: &Filter,
        now: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.state.catch_up().await?;
        query::page(&self.state, filter, now, after, limit)
    }

    async fn list_sorted(
        &self,
        filter: &Filter,
        now: Timestamp,
        sort: SortKey,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.state.catch_up().await?;
        query::list_sorted(&self.state, filter, now, sort, limit)
    }

    async fn subscribe(&self) -> Result<EventStream, StoreError> {
        self.state.catch_up().await?;
        self.events.subscribe(&self.state)
    }
}

#[async_trait]
impl SessionUpkeep for JsonStore {
    async fn purge(&self, purge: &Purge, after: Option<Cursor>) -> Result<Purged, StoreError> {
        self.state.catch_up().await?;
        if purge.dry_run {
            return purge::purge_page(&self.state, purge, after, |_, _| Ok(()));
        }
        let purge = *purge;
        self.writer.submit(|reply| Job::Purge(purge, after, reply)).await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.state.catch_up().await?;
        self.writer.submit(Job::CheckWritable).await
    }
}

impl SessionRepository for JsonStore {
    /// Returns `None`: all sessions are in memory, so a look-up costs no more than one `fstat` and a hash.
    fn cache(&self) -> Option<&dyn SessionCache> {
        None
    }
}

#[async_trait]
impl Backend for JsonStore {
    /// Returns the store's clock: the machine's clock, but never behind the time that the store has recorded plus the
    /// time that has passed since.
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.state.clock) as Arc<dyn Clock>
    }

    async fn diagnose(&self) -> Vec<Diagnosis> {
        let clock = &self.state.clock;
        let clock = StoreClock::new(clock.wall_clock(), clock.boot());
        diagnose_in(Arc::clone(&self.state.storage), &self.state.path, clock)
    }

    async fn close(&self) -> Result<(), StoreError> {
        let wants_index = self.state.wants_index();
        if self.writer.is_unused() && !wants_index {
            return Ok(());
        }
        if !self.writer.is_unused() {
            self.writer.submit(Job::FlushTouches).await?;
        }
        // Without an index the next process only opens more slowly.
        if wants_index && let Err(error) = self.writer.submit::<_, StoreError>(Job::Index).await {
            tracing::debug!(%error, "no index was written");
        }
        Ok(())
    }
}
