//! The list of exchanges that are still too short to be registered. An exchange that finishes leaves the list at once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use slab::Slab;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The time after which an exchange is registered. It takes effect within twice this time.
const SHORT: Duration = Duration::from_millis(50);

/// The slot number of an exchange that is not in the list.
pub(super) const NOT_LISTED: usize = usize::MAX;

/// An exchange that can be in the list.
pub(super) trait ShortExchange: Send + Sync {
    /// Returns the exchange's slot in the list, or [`NOT_LISTED`].
    fn slot(&self) -> &AtomicUsize;

    /// Registers the exchange, which has lasted too long for the list.
    fn register(self: Arc<Self>);
}

/// The list of short exchanges.
#[derive(Default)]
pub(super) struct ShortExchanges {
    list: Arc<List>,
    started: AtomicBool,
}

#[derive(Default)]
struct List {
    entries: Mutex<Slab<Entry>>,
    wake: Notify,
    closed: CancellationToken,
}

struct Entry {
    exchange: Weak<dyn ShortExchange>,
    /// Whether the exchange was already in the list at the last sweep.
    swept: bool,
}

impl ShortExchanges {
    pub(super) fn add<E: ShortExchange + 'static>(&self, exchange: &Arc<E>) {
        if !self.started.swap(true, Ordering::AcqRel) {
            tokio::spawn(register_long_exchanges(self.list.clone()));
        }
        let mut entries = self.list.entries.lock();
        let first = entries.is_empty();
        let weak = Arc::downgrade(exchange);
        let slot = entries.insert(Entry { exchange: weak, swept: false });
        exchange.slot().store(slot, Ordering::Relaxed);
        drop(entries);
        if first {
            self.list.wake.notify_one();
        }
    }

    pub(super) fn remove(&self, slot: usize) {
        self.list.entries.lock().remove(slot);
    }
}

impl Drop for ShortExchanges {
    fn drop(&mut self) {
        self.list.closed.cancel();
    }
}

impl List {
    /// Removes and returns the exchanges that were in the list at the last sweep. Also returns whether others remain.
    fn sweep(&self) -> (Vec<Arc<dyn ShortExchange>>, bool) {
        let mut entries = self.entries.lock();
        let old =
            entries.iter_mut().filter_map(|(_, entry)| std::mem::replace(&mut entry.swept, true).then_some(entry));
        // An exchange that is being dropped removes itself.
        let long: Vec<_> = old.filter_map(|entry| entry.exchange.upgrade()).collect();
        for exchange in &long {
            entries.remove(exchange.slot().swap(NOT_LISTED, Ordering::Relaxed));
        }
        (long, !entries.is_empty())
    }
}

/// Registers every exchange that is still in progress after [`SHORT`].
async fn register_long_exchanges(list: Arc<List>) {
    loop {
        tokio::select! {
            () = list.closed.cancelled() => return,
            () = list.wake.notified() => {}
        }
        loop {
            tokio::time::sleep(SHORT).await;
            let (long, others) = list.sweep();
            for exchange in long {
                exchange.register();
            }
            if !others {
                break;
            }
        }
    }
}
