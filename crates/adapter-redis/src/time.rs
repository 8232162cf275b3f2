//! The fleet's time: the server's, carried on by a clock that nobody sets.

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tenure_domain::{Millis, Timestamp};
use tenure_ports::Clock;

/// Counts on through suspension, and is never set.
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

/// A reading of the steady clock in microseconds.
pub(crate) fn steady() -> u64 {
    let now = clock_gettime(STEADY);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}

/// Microseconds since the epoch at a reading of the steady clock.
#[derive(Clone, Copy)]
struct Sample {
    steady: u64,
    server: u64,
}

/// The server's time as of the latest sample, plus what has passed since. Never runs backward: a server whose clock
/// is set back revives nothing in this process.
#[derive(Default)]
pub(crate) struct FleetClock {
    sample: Mutex<Option<Sample>>,
}

impl FleetClock {
    /// Takes the server's time, which it read between `asked` and `answered` on the steady clock. Answers whether
    /// the server's clock was found set back, by more than the reading can be wrong.
    pub(crate) fn learn(&self, server: u64, asked: u64, answered: u64) -> bool {
        let mut sample = self.sample.lock();
        let new = Sample { steady: asked + answered.saturating_sub(asked) / 2, server };
        let expected = sample.map_or(0, |old| old.server + new.steady.saturating_sub(old.steady));
        if new.server > expected {
            *sample = Some(new);
        }
        expected > new.server + 1_000_000
    }

    /// Microseconds since the epoch.
    pub(crate) fn micros(&self) -> u64 {
        let sample = *self.sample.lock();
        sample.map_or(0, |sample| sample.server + steady().saturating_sub(sample.steady))
    }
}

impl Clock for FleetClock {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH.plus(Millis::new(self.micros() / 1_000))
    }
}
