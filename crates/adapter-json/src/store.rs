//! The store as others use it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tenure_domain::{
    Commit, Device, DeviceId, Filter, IdPrefix, Millis, Revision, Session, SessionError, SessionId, SortKey, Timestamp,
    Touch,
};
use tenure_ports::{
    Backend, Clock, CommitError, Cursor, Diagnosis, EventStream, FindOptions, Page, Purge, Purged, SessionCache,
    SessionCommits, SessionQueries, SessionRepository, SessionUpkeep, StoreError,
};

use crate::apply::touch;
use crate::boot::{Boot, SystemBoot};
use crate::examine::examine;
use crate::feed::News;
use crate::guard::{check_directory, corrupt, failed, make_parents, must_exist, unavailable};
use crate::journal::Journal;
use crate::lock::Lock;
use crate::time::StoreClock;
use crate::vfs::{OsFs, Vfs};
use crate::writer::{Floors, Job, Shared};
use crate::{purge, query, snapshot};

/// How a store is opened.
#[derive(Clone)]
pub struct Options {
    /// How long a writer waits for another process' lock.
    pub lock_timeout: Millis,
    /// The file is left to grow to this many bytes, and to twice what its content needs, before it is written anew.
    pub compact_floor: u64,
    /// A journal of more bytes than this gets an index beside it, so that the next process need not parse it whole.
    pub index_floor: u64,
    /// Whether a store that is not there is made. Who looks at sessions or ends them wants an error: a new, empty store
    /// in the wrong place would answer that there are none.
    pub create: bool,
    /// Where the machine's run is read from; another one only in tests.
    pub boot: Arc<dyn Boot>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lock_timeout: Millis::seconds(2),
            compact_floor: 1 << 20,
            index_floor: 1 << 20,
            create: true,
            boot: Arc::new(SystemBoot),
        }
    }
}

/// Sessions in one journal file, shared by any number of processes.
///
/// Dropping it lets what waits be written in the background; a process that ends calls [`Backend::close`] first.
pub struct JsonStore {
    shared: Arc<Shared>,
    lock: Arc<Mutex<Lock>>,
    news: News,
    made: bool,
}

impl JsonStore {
    /// Opens the journal at `path`, or makes it where [`Options::create`] says so, with the directories above it.
    ///
    /// # Errors
    /// [`StoreError`] where it is not there, cannot be read, may not be used, or is no journal; it is then left as it is.
    pub fn open(path: &Path, wall: Arc<dyn Clock>, options: Options) -> Result<Arc<Self>, StoreError> {
        Self::open_on(Arc::new(OsFs), path, wall, options)
    }

    pub(crate) fn open_on(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        wall: Arc<dyn Clock>,
        options: Options,
    ) -> Result<Arc<Self>, StoreError> {
        let clock = Arc::new(StoreClock::new(wall, options.boot));
        let mut lock = Lock::new(Arc::clone(&vfs), path, options.lock_timeout);
        if options.create {
            make_parents(&*vfs, path)?;
        } else {
            must_exist(&*vfs, path)?;
        }
        check_directory(&*vfs, path)?;
        let made = options.create && create_if_missing(&*vfs, path, &clock, &mut lock)?;
        let news = News::new();
        let journal = Journal::open(Arc::clone(&vfs), path, Arc::clone(&clock), news.sender.clone())?.read_indexed()?;
        let floors = Floors { compact: options.compact_floor, index: options.index_floor };
        let shared = Arc::new(Shared::new(path.to_owned(), vfs, clock, journal, floors));
        Ok(Arc::new(Self { shared, lock: Arc::new(Mutex::new(lock)), news, made }))
    }

    /// Whether this opening made the file.
    #[must_use]
    pub const fn was_made(&self) -> bool {
        self.made
    }

    /// Writes the journal anew without what is past, as happens by itself once it is twice as large as its content.
    ///
    /// # Errors
    /// [`StoreError`] where it cannot be written; the store goes on with the file that it has.
    pub async fn compact(&self) -> Result<(), StoreError> {
        self.shared.ask(&self.lock, Job::Compact).await
    }

    /// Waits until what a decision on a device is to be made on is on the disk. What this process wrote is already.
    ///
    /// Where that fails, whoever has `something` left to decide is told by the commit: it is written down there that an
    /// end was asked for. Only what needs no commit, as an end that was made before, is not to be answered.
    async fn settle(&self, loaded: Device, at: (u64, u64), something: bool) -> Result<Device, StoreError> {
        let (rules, synced) = at;
        if rules <= synced || loaded.revision().get() <= synced {
            return Ok(loaded);
        }
        match self.shared.ask(&self.lock, Job::Sync).await {
            Err(error) if !something => Err(error),
            _ => Ok(loaded),
        }
    }

    fn device(&self, journal: &Journal, device: u32, with: Option<SessionId>) -> Result<Device, StoreError> {
        let damaged = |error: SessionError| corrupt(&self.shared.path, 0, &error.to_string());
        let table = &journal.table;
        let Some(row) = table.devices.get(device) else {
            return Err(corrupt(&self.shared.path, 0, "a session's device is not known"));
        };
        let wanted = table.device_rows(device).filter(|(_, row)| !row.is_over() || Some(row.id) == with);
        let sessions = wanted.map(|(at, _)| table.session(at)).collect::<Result<_, _>>().map_err(damaged)?;
        Ok(Device::new(row.name.clone(), row.revision, sessions, row.watermark))
    }
}

impl Drop for JsonStore {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Under the lock, so that two processes cannot both make it. Whether this one did.
fn create_if_missing(vfs: &dyn Vfs, path: &Path, clock: &StoreClock, lock: &mut Lock) -> Result<bool, StoreError> {
    let is_missing = || match vfs.stat(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(failed(path, "look at the store", &error)),
    };
    if !is_missing()? {
        return Ok(false);
    }
    if path.file_name().is_none() {
        return Err(unavailable(path, "it names no file"));
    }
    let _held = lock.acquire()?;
    if !is_missing()? {
        return Ok(false);
    }
    snapshot::create(vfs, path, clock).map(|()| true)
}

impl Shared {
    /// Applies what other processes wrote since the last look, and says whether the time can be trusted.
    pub(crate) fn catch_up(&self) -> Result<(), StoreError> {
        if !self.journal.read().is_fresh()? {
            self.journal.write().refresh()?;
        }
        self.trust()
    }

    fn trust(&self) -> Result<(), StoreError> {
        self.clock.message().map_or(Ok(()), |message| Err(unavailable(&self.path, message)))
    }

    fn look_up(&self, journal: &Journal, id: SessionId) -> Result<Option<Session>, StoreError> {
        let Some(at) = journal.table.find(id) else { return Ok(None) };
        let session = journal.table.session(at).map_err(|error| corrupt(&self.path, 0, &error.to_string()))?;
        if !journal.denied.is_empty()
            && session.end.is_none()
            && let Some(ended) = journal.denied.get(&id)
        {
            return Ok(Some(ended.clone()));
        }
        Ok(Some(session))
    }

    fn find(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        if self.clock.message().is_some() {
            // The file may tell by now that an operator accepted the clock.
            self.catch_up()?;
        }
        let journal = self.journal.read();
        if journal.is_fresh()? {
            return self.look_up(&journal, id);
        }
        drop(journal);
        self.catch_up()?;
        self.look_up(&self.journal.read(), id)
    }
}

#[async_trait]
impl SessionCommits for JsonStore {
    async fn find(&self, id: SessionId, _options: FindOptions) -> Result<Option<Session>, StoreError> {
        self.shared.find(id)
    }

    async fn load(&self, device: &DeviceId) -> Result<Device, StoreError> {
        self.shared.catch_up()?;
        let (loaded, at) = {
            let journal = self.shared.journal.read();
            let loaded = match journal.table.devices.find(device.as_str()) {
                Some(at) => self.device(&journal, at, None)?,
                None => Device::unknown(device.clone()),
            };
            (loaded, (journal.at.rules, journal.at.synced))
        };
        let something = !loaded.sessions().is_empty();
        self.settle(loaded, at, something).await
    }

    async fn load_by_session(&self, session: SessionId) -> Result<Option<Device>, StoreError> {
        self.shared.catch_up()?;
        let (loaded, at) = {
            let journal = self.shared.journal.read();
            let Some(at) = journal.table.find(session) else { return Ok(None) };
            let loaded = self.device(&journal, journal.table.row(at).device, Some(session))?;
            (loaded, (journal.at.rules, journal.at.synced))
        };
        let something = loaded.session(session).is_some_and(|session| session.end.is_none());
        self.settle(loaded, at, something).await.map(Some)
    }

    async fn commit(&self, commit: &Commit) -> Result<Revision, CommitError> {
        self.shared.ask(&self.lock, |reply| Job::Commit(commit.clone(), reply)).await
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), StoreError> {
        self.shared.catch_up()?;
        let moved: Vec<_> = {
            let mut journal = self.shared.journal.write();
            let news = touches.iter().filter(|news| touch(&mut journal.table, news.session, news.at));
            news.map(|news| (news.session, news.at)).collect()
        };
        if moved.is_empty() { Ok(()) } else { self.shared.remember(&self.lock, moved) }
    }
}

#[async_trait]
impl SessionQueries for JsonStore {
    async fn ids_with_prefix(&self, prefix: IdPrefix, limit: usize) -> Result<Vec<SessionId>, StoreError> {
        self.shared.catch_up()?;
        Ok(query::starting_with(&self.shared, prefix, limit))
    }

    async fn page(
        &self,
        filter: &Filter,
        now: Timestamp,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        self.shared.catch_up()?;
        query::page(&self.shared, filter, now, after, limit)
    }

    async fn list_sorted(
        &self,
        filter: &Filter,
        now: Timestamp,
        sort: SortKey,
        limit: usize,
    ) -> Result<Vec<Session>, StoreError> {
        self.shared.catch_up()?;
        query::top(&self.shared, filter, now, sort, limit)
    }

    async fn subscribe(&self) -> Result<EventStream, StoreError> {
        self.shared.catch_up()?;
        self.news.subscribe(&self.shared)
    }
}

#[async_trait]
impl SessionUpkeep for JsonStore {
    async fn purge(&self, purge: &Purge, after: Option<Cursor>) -> Result<Purged, StoreError> {
        self.shared.catch_up()?;
        if purge.dry_run {
            return purge::run(&self.shared, purge, after, |_, _| Ok(()));
        }
        let purge = *purge;
        self.shared.ask(&self.lock, |reply| Job::Purge(purge, after, reply)).await
    }

    async fn check_writable(&self) -> Result<(), StoreError> {
        self.shared.catch_up()?;
        self.shared.ask(&self.lock, Job::Probe).await
    }
}

impl SessionRepository for JsonStore {
    /// None: a look-up is one `fstat` and a hash, since the store itself is in memory.
    fn cache(&self) -> Option<&dyn SessionCache> {
        None
    }
}

#[async_trait]
impl Backend for JsonStore {
    /// The store's time: the wall clock, but never behind what the store has recorded plus the time since.
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.shared.clock) as Arc<dyn Clock>
    }

    async fn diagnose(&self) -> Vec<Diagnosis> {
        examine(&self.shared.path, self.shared.clock.wall_clock())
    }

    async fn close(&self) -> Result<(), StoreError> {
        let wants_index = self.shared.wants_index();
        if self.shared.is_idle() && !wants_index {
            return Ok(());
        }
        if !self.shared.is_idle() {
            self.shared.ask(&self.lock, Job::Flush).await?;
        }
        // Without one the next process only begins more slowly.
        if wants_index && let Err(error) = self.shared.ask::<_, StoreError>(&self.lock, Job::Index).await {
            tracing::debug!(%error, "no index was written");
        }
        Ok(())
    }
}
