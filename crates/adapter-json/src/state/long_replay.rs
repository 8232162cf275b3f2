//! Long replays: they take so long that no async worker thread may run one, or block on the table while one runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// The long replay of a store, if one is running, and a way to wait for its end without blocking a thread.
#[derive(Clone, Default)]
pub(super) struct LongReplay(Arc<ReplayState>);

#[derive(Default)]
struct ReplayState {
    is_running: AtomicBool,
    ended: Notify,
}

/// A running long replay. It ends when this is dropped.
pub(super) struct RunningReplay(Arc<ReplayState>);

impl LongReplay {
    pub(super) fn is_running(&self) -> bool {
        self.0.is_running.load(Ordering::Acquire)
    }

    /// Announces a long replay, before the table is locked for it. `None` if one is running already.
    pub(super) fn begin(&self) -> Option<RunningReplay> {
        let was_running = self.0.is_running.swap(true, Ordering::AcqRel);
        (!was_running).then(|| RunningReplay(Arc::clone(&self.0)))
    }

    /// Waits until no long replay is running.
    pub(super) async fn wait(&self) {
        while self.is_running() {
            // `notified` registers for the wake-up before the second check, so that an end between the two is not
            // missed.
            let ended = self.0.ended.notified();
            if self.is_running() {
                ended.await;
            }
        }
    }
}

impl Drop for RunningReplay {
    fn drop(&mut self) {
        self.0.is_running.store(false, Ordering::Release);
        self.0.ended.notify_waiters();
    }
}
