//! Events for subscribers. Applying a transaction sends its events, whichever call applies it. While there are
//! subscribers, a thread checks whether other processes have written.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tenure_ports::{EventStream, StoreError, StoreEvent};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::error::thread_error;
use crate::state::StoreState;

/// The interval at which the thread checks the file. Each check costs one `fstat`.
const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// The number of events by which a slow subscriber may lag behind before it misses some.
const CHANNEL_CAPACITY: usize = 4096;

/// The channel of events, and the thread that feeds it.
pub(crate) struct EventPublisher {
    pub(crate) sender: broadcast::Sender<StoreEvent>,
    /// Whether the thread is running.
    is_watching: Arc<Mutex<bool>>,
}

impl EventPublisher {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::channel(CHANNEL_CAPACITY).0, is_watching: Arc::default() }
    }

    /// Subscribes to the events from now on, and starts the thread if it does not run.
    pub(crate) fn subscribe(&self, state: &Arc<StoreState>) -> Result<EventStream, StoreError> {
        // Subscribe before taking the lock. A thread that is about to end then either sees the subscriber, or has ended
        // by the time that the lock is free.
        let receiver = self.sender.subscribe();
        let mut is_watching = self.is_watching.lock();
        if !*is_watching {
            let (weak, sender, flag) = (Arc::downgrade(state), self.sender.downgrade(), Arc::clone(&self.is_watching));
            let thread = std::thread::Builder::new().name("tenure-watch".to_owned());
            let started = thread.spawn(move || watch(&weak, &sender, &flag));
            started.map_err(|error| thread_error(&state.path, "watches it", error))?;
            *is_watching = true;
        }
        drop(is_watching);
        Ok(Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(item) => Some((item, receiver)),
                Err(RecvError::Lagged(_)) => Some((StoreEvent::Lagged, receiver)),
                Err(RecvError::Closed) => None,
            }
        })))
    }
}

/// Checks the file again and again, until there are no subscribers.
fn watch(state: &Weak<StoreState>, sender: &broadcast::WeakSender<StoreEvent>, is_watching: &Mutex<bool>) {
    loop {
        std::thread::sleep(POLL_INTERVAL);
        {
            let mut is_watching = is_watching.lock();
            if sender.upgrade().is_none_or(|sender| sender.receiver_count() == 0) {
                *is_watching = false;
                return;
            }
        }
        let Some(state) = state.upgrade() else { continue };
        // The next call to the store reports the error. There is no event for it.
        drop(state.catch_up_blocking());
    }
}
