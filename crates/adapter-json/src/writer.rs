//! The one thread of a process that writes: it takes what waits, all of it, and pays one lock, one write and one sync
//! for the lot.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex, RwLock};
use tenure_domain::{Commit, Revision, SessionId, Timestamp};
use tenure_ports::{CommitError, Cursor, Purge, Purged, StoreError};
use tokio::sync::oneshot;

use crate::guard::unavailable;
use crate::journal::Journal;
use crate::lock::Lock;
use crate::time::StoreClock;
use crate::vfs::Vfs;

mod append;
mod batch;
pub(crate) mod decide;

/// How long activity waits for company before it is written.
const TOUCH_DELAY: Duration = Duration::from_millis(50);

/// Below these sizes of the file some work is not worth it.
#[derive(Clone, Copy)]
pub(crate) struct Floors {
    pub(crate) compact: u64,
    pub(crate) index: u64,
}

/// What a process and its writer share.
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) clock: Arc<StoreClock>,
    pub(crate) journal: RwLock<Journal>,
    pub(crate) floors: Floors,
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// Where an answer goes.
pub(crate) type Reply<T, E = StoreError> = oneshot::Sender<Result<T, E>>;

pub(crate) enum Job {
    Commit(Commit, Reply<Revision, CommitError>),
    Purge(Purge, Option<Cursor>, Reply<Purged>),
    /// All that was applied so far is on the disk.
    Sync(Reply<()>),
    /// All activity that was reported so far is in the file.
    Flush(Reply<()>),
    /// A writer could write.
    Probe(Reply<()>),
    /// The file is written anew.
    Compact(Reply<()>),
    /// The index is written, if one is wanted. It fails for nothing but what every job fails for.
    Index(Reply<()>),
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    touches: HashMap<SessionId, Timestamp>,
    /// When the oldest of those came.
    since: Option<Instant>,
    running: bool,
    closed: bool,
}

impl Shared {
    pub(crate) fn new(
        path: PathBuf,
        vfs: Arc<dyn Vfs>,
        clock: Arc<StoreClock>,
        journal: Journal,
        floors: Floors,
    ) -> Self {
        let (queue, wake) = (Mutex::default(), Condvar::new());
        Self { path, vfs, clock, journal: RwLock::new(journal), floors, queue, wake }
    }

    /// Hands a job over and waits for its answer.
    pub(crate) async fn ask<T, E: From<StoreError>>(
        self: &Arc<Self>,
        lock: &Arc<Mutex<Lock>>,
        job: impl FnOnce(Reply<T, E>) -> Job,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        self.push(lock, |queue| queue.jobs.push(job(reply)))?;
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(unavailable(&self.path, "the thread that writes ended unexpectedly; restart").into()),
        }
    }

    /// Takes activity that the table shows already.
    pub(crate) fn remember(
        self: &Arc<Self>,
        lock: &Arc<Mutex<Lock>>,
        touches: Vec<(SessionId, Timestamp)>,
    ) -> Result<(), StoreError> {
        self.push(lock, |queue| {
            queue.since.get_or_insert_with(Instant::now);
            for (id, at) in touches {
                let seen = queue.touches.entry(id).or_insert(at);
                *seen = (*seen).max(at);
            }
        })
    }

    /// Whether so much was read line by line that the next process should find an index.
    pub(crate) fn wants_index(&self) -> bool {
        let journal = self.journal.read();
        let at = &journal.at;
        let Some(indexed) = journal.indexed.filter(|_| !journal.read_only) else { return false };
        let worth = at.end.saturating_sub(indexed) > self.floors.index.saturating_add(indexed / 8);
        worth && at.sums.through(at.end).is_some()
    }

    /// Whether nothing was ever handed to the writer.
    pub(crate) fn is_idle(&self) -> bool {
        !self.queue.lock().running
    }

    /// Keeps activity that could not be written for the next time; the table shows it meanwhile.
    fn put_back(&self, touches: HashMap<SessionId, Timestamp>) {
        let mut queue = self.queue.lock();
        if queue.closed || touches.is_empty() {
            return;
        }
        queue.since.get_or_insert_with(Instant::now);
        for (id, at) in touches {
            let seen = queue.touches.entry(id).or_insert(at);
            *seen = (*seen).max(at);
        }
    }

    fn push(self: &Arc<Self>, lock: &Arc<Mutex<Lock>>, put: impl FnOnce(&mut Queue)) -> Result<(), StoreError> {
        let mut queue = self.queue.lock();
        put(&mut queue);
        if queue.running {
            self.wake.notify_one();
            return Ok(());
        }
        let (shared, lock) = (Arc::clone(self), Arc::clone(lock));
        let started = std::thread::Builder::new().name("tenure-journal".to_owned()).spawn(move || shared.run(&lock));
        match started {
            Ok(_) => {
                queue.running = true;
                Ok(())
            }
            Err(error) => {
                queue.jobs.clear();
                Err(unavailable(&self.path, format!("cannot start the thread that writes: {error}")))
            }
        }
    }

    /// Lets the writer end once nothing waits.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.wake.notify_one();
    }

    fn run(&self, lock: &Mutex<Lock>) {
        let mut state = batch::State::default();
        while let Some((jobs, touches)) = self.next() {
            batch::run(self, &mut lock.lock(), &mut state, jobs, touches);
        }
    }

    /// All that waits, once something does that cannot wait longer; `None` at the end.
    fn next(&self) -> Option<(Vec<Job>, HashMap<SessionId, Timestamp>)> {
        let mut queue = self.queue.lock();
        loop {
            let due = queue.since.map(|since| since + TOUCH_DELAY);
            if !queue.jobs.is_empty() || due.is_some_and(|due| queue.closed || due <= Instant::now()) {
                queue.since = None;
                return Some((mem::take(&mut queue.jobs), mem::take(&mut queue.touches)));
            }
            if queue.closed {
                queue.running = false;
                return None;
            }
            match due {
                Some(due) => drop(self.wake.wait_until(&mut queue, due)),
                None => self.wake.wait(&mut queue),
            }
        }
    }
}
