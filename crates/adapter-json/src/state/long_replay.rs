//! A replay that takes so long that no async worker thread may do it, or wait for the table meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Whether a long replay is running, and a way to wait for its end without blocking a thread.
#[derive(Clone, Default)]
pub(super) struct LongReplay(Arc<ReplayState>);

#[derive(Default)]
struct ReplayState {
    is_running: AtomicBool,
    ended: Notify,
}

/// A running long replay. It has ended once this is dropped.
pub(super) struct RunningReplay(Arc<ReplayState>);

impl LongReplay {
    pub(super) fn is_running(&self) -> bool {
        self.0.is_running.load(Ordering::Acquire)
    }

    /// Says that a long replay begins, before the table is locked for it. `None` if one is running already.
    pub(super) fn begin(&self) -> Option<RunningReplay> {
        let was_running = self.0.is_running.swap(true, Ordering::AcqRel);
        (!was_running).then(|| RunningReplay(Arc::clone(&self.0)))
    }

    /// Waits until no long replay is running.
    pub(super) async fn wait(&self) {
        while self.is_running() {
            // It is woken from here on, so that an end between the two looks is not missed.
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
