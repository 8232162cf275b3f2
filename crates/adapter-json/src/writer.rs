//! The writer: the one thread of a process that changes the file. It takes everything that waits at once, so that all
//! of it costs one lock, one write and one sync.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use parking_lot::{Condvar, Mutex};
use tenure_domain::{Commit, Revision, SessionId, Timestamp};
use tenure_ports::{CommitError, Cursor, Purge, Purged, StoreError};
use tokio::sync::oneshot;

use crate::error::{thread_error, unavailable};
use crate::state::StoreState;
use crate::storage::lock::WriterLock;

mod append;
pub(crate) mod commit_lines;
mod durability;
mod group_commit;
mod local_refusals;
mod maintenance;
pub(crate) mod purge;
mod validate;

/// How long activity waits for more of it before it is written.
const TOUCH_DELAY: Duration = Duration::from_millis(50);

/// The queue of a store's writer, and its thread while there is one.
pub(crate) struct Writer {
    state: Arc<StoreState>,
    lock: Mutex<WriterLock>,
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// Where the answer to a job goes.
pub(crate) type Reply<T, E = StoreError> = oneshot::Sender<Result<T, E>>;

/// A request to the writer.
pub(crate) enum Job {
    /// Apply a commit, durably.
    Commit(Commit, Reply<Revision, CommitError>),
    /// Remove some records, durably.
    Purge(Purge, Option<Cursor>, Reply<Purged>),
    /// Make durable what was applied so far.
    Sync(Reply<()>),
    /// Write the activity that was reported so far.
    FlushTouches(Reply<()>),
    /// Find out whether something could be written.
    CheckWritable(Reply<()>),
    /// Rewrite the file.
    Compact(Reply<()>),
    /// Write the index, if one is wanted. Fails only where every job fails.
    Index(Reply<()>),
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    touches: HashMap<SessionId, Timestamp>,
    /// When the oldest of the touches was reported.
    oldest_touch: Option<Instant>,
    running: bool,
    closed: bool,
}

impl Queue {
    fn add_touches(&mut self, touches: impl IntoIterator<Item = (SessionId, Timestamp)>) {
        self.oldest_touch.get_or_insert_with(Instant::now);
        for (id, at) in touches {
            let seen = self.touches.entry(id).or_insert(at);
            *seen = (*seen).max(at);
        }
    }
}

/// What the writer remembers from one round to the next.
#[derive(Default)]
struct WriterState {
    /// Whether a sync has failed, so that it is not known what is durable and the file has to be rewritten.
    must_rewrite: bool,
    /// The size below which no compaction is tried, since the last one failed.
    next_compaction_size: u64,
    /// Whether the leftovers of killed processes were removed.
    has_removed_leftovers: bool,
    /// Whether an index was written, if one was wanted, for what this process had to read.
    has_checked_index: bool,
}

impl Writer {
    pub(crate) fn new(state: Arc<StoreState>, lock: WriterLock) -> Self {
        Self { state, lock: Mutex::new(lock), queue: Mutex::default(), wake: Condvar::new() }
    }

    /// Hands over a job and waits for its answer.
    pub(crate) async fn submit<T, E: From<StoreError>>(
        self: &Arc<Self>,
        job: impl FnOnce(Reply<T, E>) -> Job,
    ) -> Result<T, E> {
        let (reply, answer) = oneshot::channel();
        self.enqueue(|queue| queue.jobs.push(job(reply)))?;
        match answer.await {
            Ok(answer) => answer,
            Err(_) => Err(unavailable(&self.state.path, "the thread that writes ended unexpectedly; restart").into()),
        }
    }

    /// Hands over activity that the table shows already. Does not wait.
    pub(crate) fn queue_touches(self: &Arc<Self>, touches: Vec<(SessionId, Timestamp)>) -> Result<(), StoreError> {
        self.enqueue(|queue| queue.add_touches(touches))
    }

    /// Whether nothing was ever handed over.
    pub(crate) fn is_unused(&self) -> bool {
        !self.queue.lock().running
    }

    /// Keeps activity that could not be written for the next round.
    fn requeue_touches(&self, touches: HashMap<SessionId, Timestamp>) {
        let mut queue = self.queue.lock();
        if !queue.closed && !touches.is_empty() {
            queue.add_touches(touches);
        }
    }

    /// Changes the queue, and starts the thread if it does not run.
    fn enqueue(self: &Arc<Self>, change: impl FnOnce(&mut Queue)) -> Result<(), StoreError> {
        let mut queue = self.queue.lock();
        change(&mut queue);
        if queue.running {
            self.wake.notify_one();
            return Ok(());
        }
        let writer = Arc::clone(self);
        let started = std::thread::Builder::new().name("tenure-journal".to_owned()).spawn(move || writer.run());
        match started {
            Ok(_) => {
                queue.running = true;
                Ok(())
            }
            Err(error) => {
                queue.jobs.clear();
                Err(thread_error(&self.state.path, "writes", error))
            }
        }
    }

    /// Lets the thread end once nothing waits.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.wake.notify_one();
    }

    fn run(&self) {
        let mut memory = WriterState::default();
        while let Some((jobs, touches)) = self.next_round() {
            group_commit::run(self, &mut memory, jobs, touches);
        }
    }

    /// Waits until something has to be done, and takes everything that waits. `None` once the store is closed and
    /// nothing waits.
    fn next_round(&self) -> Option<(Vec<Job>, HashMap<SessionId, Timestamp>)> {
        let mut queue = self.queue.lock();
        loop {
            let due = queue.oldest_touch.map(|oldest| oldest + TOUCH_DELAY);
            if !queue.jobs.is_empty() || due.is_some_and(|due| queue.closed || due <= Instant::now()) {
                queue.oldest_touch = None;
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
