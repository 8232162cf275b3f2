//! A commit that comes while nobody else writes or waits: its caller writes it, since to hand it to a thread and to be
//! woken by that costs half as much as the sync.

use hashbrown::HashMap;
use tenure_domain::{Commit, Revision, SessionId, Timestamp};
use tenure_ports::CommitError;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use std::mem;
use std::sync::Arc;

use super::{CROWD, Job, Pen, Shared, batch};

/// The turn to write, until dropped.
struct Turn<'a>(&'a Shared);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock();
        queue.writing = false;
        if !queue.jobs.is_empty() {
            queue.crowd = CROWD;
        }
        if !queue.jobs.is_empty() || queue.since.is_some() || queue.closed {
            self.0.wake.notify_one();
        }
    }
}

/// Whether the caller's thread may wait for the disk, and if so whether tokio has to be told.
fn may_wait() -> Option<bool> {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => Some(true),
        // All else that runs there would wait too.
        Ok(_) => None,
        Err(_) => Some(false),
    }
}

impl Shared {
    /// Commits on the caller's thread; `None` where that is better left to the thread that writes: others write or wait,
    /// in this process or another.
    pub(crate) fn commit_alone(self: &Arc<Self>, commit: &Commit) -> Option<Result<Revision, CommitError>> {
        let tell = may_wait()?;
        let turn = self.take_turn()?;
        let work = || self.write_alone(&mut self.pen.lock(), commit);
        let done = if tell { tokio::task::block_in_place(work) } else { work() };
        drop(turn);
        let (result, untidy) = done?;
        if untidy {
            // Nobody is told: what could not be done now is due again after the next commit.
            drop(self.push(|queue| queue.jobs.push(Job::Tidy)));
        }
        Some(result)
    }

    fn take_turn(&self) -> Option<Turn<'_>> {
        let mut queue = self.queue.lock();
        if queue.writing || queue.crowd > 0 || !queue.jobs.is_empty() {
            return None;
        }
        queue.writing = true;
        Some(Turn(self))
    }

    /// The result, and whether anything is left to be tidied up.
    fn write_alone(&self, pen: &mut Pen, commit: &Commit) -> Option<(Result<Revision, CommitError>, bool)> {
        // Whoever has to wait for another process, or to tell of a lock that does not work, has the time to be handed over.
        let held = pen.lock.try_acquire().ok().flatten()?;
        let (reply, mut answer) = oneshot::channel();
        let commits = vec![(commit.clone(), reply)];
        let mut untidy = false;
        match batch::prepare(self, &mut pen.state) {
            Ok(()) => {
                // Of the activity, which rides along, nobody is told.
                drop(batch::append(self, &mut pen.state, commits, &self.take_touches(), false));
                untidy = batch::is_untidy(self, &pen.state);
            }
            Err(error) => batch::refuse(self, commits, &error),
        }
        drop(held);
        Some((answer.try_recv().ok()?, untidy))
    }

    fn take_touches(&self) -> HashMap<SessionId, Timestamp> {
        let mut queue = self.queue.lock();
        queue.since = None;
        mem::take(&mut queue.touches)
    }
}
