//! The writer: the only thread of a process that changes the file. In each round it takes all queued jobs, so that
//! together they cost one lock, one write and one sync.

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

/// How long activity waits before it is written, so that it is written together with later activity.
const TOUCH_DELAY: Duration = Duration::from_millis(50);

/// The writer of a store: its queue, and its thread once there is a job.
pub(crate) struct Writer {
    state: Arc<StoreState>,
    lock: Mutex<WriterLock>,
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// The channel for the answer to a job.
pub(crate) type Reply<T, E = StoreError> = oneshot::Sender<Result<T, E>>;

/// A job for the writer.
pub(crate) enum Job {
    /// Apply a commit, durably.
    Commit(Commit, Reply<Revision, CommitError>),
    /// Remove some records, durably.
    Purge(Purge, Option<Cursor>, Reply<Purged>),
    /// Make everything durable that was applied so far.
    Sync(Reply<()>),
    /// Write the activity that was reported so far.
    FlushTouches(Reply<()>),
    /// Check that the store can be written.
    CheckWritable(Reply<()>),
    /// Compact the file.
    Compact(Reply<()>),
    /// Write the index, if it is worth it. Fails only if every job fails.
    Index(Reply<()>),
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    touches: HashMap<SessionId, Timestamp>,
    /// When the oldest of the touches was queued.
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
    /// Whether a sync has failed. It is then not known what is durable, so the file has to be rewritten.
    must_rewrite: bool,
    /// The size in bytes below which no compaction is tried, because the last one failed.
    next_compaction_size: u64,
    /// Whether the leftovers of killed processes were removed.
    has_removed_leftovers: bool,
    /// Whether it was checked if an index is worth writing for what this process had to read.
    has_checked_index: bool,
}

impl Writer {
    pub(crate) fn new(state: Arc<StoreState>, lock: WriterLock) -> Self {
        Self { state, lock: Mutex::new(lock), queue: Mutex::default(), wake: Condvar::new() }
    }

    /// Queues a job, and waits for its answer.
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

    /// Queues activity that the table already shows. Does not wait for it to be written.
    pub(crate) fn queue_touches(self: &Arc<Self>, touches: Vec<(SessionId, Timestamp)>) -> Result<(), StoreError> {
        self.enqueue(|queue| queue.add_touches(touches))
    }

    /// Whether no job or activity was ever queued.
    pub(crate) fn is_unused(&self) -> bool {
        !self.queue.lock().running
    }

    /// Queues activity again that could not be written, for the next round.
    fn requeue_touches(&self, touches: HashMap<SessionId, Timestamp>) {
        let mut queue = self.queue.lock();
        if !queue.closed && !touches.is_empty() {
            queue.add_touches(touches);
        }
    }

    /// Changes the queue, and starts the thread if it is not running.
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

    /// Lets the thread end once the queue is empty.
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

    /// Waits until there is work, and takes the whole queue. `None` once the store is closed and the queue is empty.
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
