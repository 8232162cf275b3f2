//! A simulated machine: the clock, the uptime and the boot id that a JSON store reads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tenure_adapter_json::Boot;
use tenure_domain::{Millis, Timestamp};
use tenure_ports::Clock;

/// A simulated machine, whose wall clock, uptime and boot id stand still until a test changes them.
///
/// It is a double of its own beside the clocks of the conformance suite, because the wall clock of a machine can be set
/// back while its uptime goes on.
#[derive(Debug)]
pub struct SimulatedMachine {
    wall: AtomicU64,
    uptime: AtomicU64,
    boot_id: Mutex<String>,
}

impl SimulatedMachine {
    /// Makes a machine with this boot id, uptime and wall clock.
    #[must_use]
    pub fn new(boot_id: &str, uptime: Millis, wall: Timestamp) -> Arc<Self> {
        let (wall, uptime) = (wall.as_millis().into(), uptime.get().into());
        Arc::new(Self { wall, uptime, boot_id: Mutex::new(boot_id.to_owned()) })
    }

    /// Lets time pass, for the wall clock and the uptime alike.
    pub fn pass(&self, span: Millis) {
        self.wall.fetch_add(span.get(), Ordering::SeqCst);
        self.pass_uptime(span);
    }

    /// Lets time pass for the uptime alone, as if the wall clock had been set back meanwhile.
    pub fn pass_uptime(&self, span: Millis) {
        self.uptime.fetch_add(span.get(), Ordering::SeqCst);
    }

    /// Sets the wall clock, forward or back. The uptime goes on unchanged.
    pub fn set_clock(&self, to: Timestamp) {
        self.wall.store(to.as_millis(), Ordering::SeqCst);
    }

    /// Starts the machine again, with another boot id and this uptime. The wall clock is unchanged.
    pub fn restart(&self, boot_id: &str, uptime: Millis) {
        boot_id.clone_into(&mut self.boot_id.lock());
        self.uptime.store(uptime.get(), Ordering::SeqCst);
    }
}

impl Clock for SimulatedMachine {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall.load(Ordering::SeqCst))
    }
}

impl Boot for SimulatedMachine {
    fn id(&self) -> String {
        self.boot_id.lock().clone()
    }

    fn uptime(&self) -> Millis {
        Millis::new(self.uptime.load(Ordering::SeqCst))
    }
}
