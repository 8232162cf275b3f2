//! News for subscribers: whatever is applied, by whichever call; and while there are subscribers, a thread that looks
//! for what other processes wrote.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tenure_ports::{EventStream, StoreError, StoreEvent};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::guard::unavailable;
use crate::writer::Shared;

/// How often the file is looked at: one `fstat` each time.
const PERIOD: Duration = Duration::from_millis(10);
/// How many items a slow subscriber may lag behind.
const CAPACITY: usize = 4096;

pub(crate) struct News {
    pub(crate) sender: broadcast::Sender<StoreEvent>,
    /// Whether the thread runs.
    watching: Arc<Mutex<bool>>,
}

impl News {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::channel(CAPACITY).0, watching: Arc::default() }
    }

    pub(crate) fn subscribe(&self, shared: &Arc<Shared>) -> Result<EventStream, StoreError> {
        // In this order, so that a thread about to end sees the subscriber or is seen to have ended.
        let receiver = self.sender.subscribe();
        let mut watching = self.watching.lock();
        if !*watching {
            let (weak, sender, flag) = (Arc::downgrade(shared), self.sender.downgrade(), Arc::clone(&self.watching));
            let thread = std::thread::Builder::new().name("tenure-news".to_owned());
            thread.spawn(move || watch(&weak, &sender, &flag)).map_err(|error| {
                unavailable(&shared.path, format!("cannot start the thread that watches it: {error}"))
            })?;
            *watching = true;
        }
        drop(watching);
        Ok(Box::pin(futures_util::stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(item) => Some((item, receiver)),
                Err(RecvError::Lagged(_)) => Some((StoreEvent::Lagged, receiver)),
                Err(RecvError::Closed) => None,
            }
        })))
    }
}

fn watch(shared: &Weak<Shared>, sender: &broadcast::WeakSender<StoreEvent>, watching: &Mutex<bool>) {
    loop {
        std::thread::sleep(PERIOD);
        {
            let mut watching = watching.lock();
            if sender.upgrade().is_none_or(|sender| sender.receiver_count() == 0) {
                *watching = false;
                return;
            }
        }
        let Some(shared) = shared.upgrade() else { continue };
        // A store that cannot be read is told to whoever asks it; here it is no news.
        drop(shared.catch_up());
    }
}
