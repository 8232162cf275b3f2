//! The store's time: the wall clock, but never behind what the store has recorded plus the time since.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tenure_domain::{Millis, Timestamp};
use tenure_ports::Clock;

use crate::boot::Boot;

/// How far behind the record a wall clock may be after a restart of the machine.
pub(crate) const TOLERANCE: Millis = Millis::minutes(1);
/// How much of a run's name is recorded.
const BOOT_LENGTH: usize = 16;

pub(crate) struct StoreClock {
    wall: Arc<dyn Clock>,
    boot: Arc<dyn Boot>,
    boot_id: String,
    /// The store's time is at least this plus the time since the machine started.
    base: AtomicI64,
    /// The last recorded time, where another run of the machine recorded it; else 0.
    foreign: AtomicU64,
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

impl StoreClock {
    pub(crate) fn new(wall: Arc<dyn Clock>, boot: Arc<dyn Boot>) -> Self {
        let boot_id = boot.id().chars().filter(char::is_ascii_alphanumeric).take(BOOT_LENGTH).collect();
        Self { wall, boot, boot_id, base: AtomicI64::new(i64::MIN), foreign: AtomicU64::new(0) }
    }

    pub(crate) fn wall_clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.wall)
    }

    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    pub(crate) fn elapsed(&self) -> Millis {
        self.boot.elapsed()
    }

    /// Takes note of the last recorded time.
    pub(crate) fn record(&self, at: u64, boot: &str, elapsed: u64) {
        // After a restart at least the time since the start has passed since the record.
        let (base, foreign) =
            if boot == self.boot_id { (signed(at).saturating_sub(signed(elapsed)), 0) } else { (signed(at), at) };
        let before = self.foreign.swap(foreign, Ordering::AcqRel);
        // Nobody writes in this run of the machine what lies before the former run's last time, or before this run's
        // last one, but for an operator who accepted the clock: time goes on from there.
        let is_earlier = || base.saturating_add(signed(TOLERANCE.get())) < self.base.load(Ordering::Acquire);
        if foreign == 0 && (at < before || is_earlier()) {
            self.base.store(base, Ordering::Release);
        } else {
            self.base.fetch_max(base, Ordering::AcqRel);
        }
    }

    /// How far the store's time is ahead of the wall clock.
    pub(crate) fn ahead(&self) -> Millis {
        let now = self.now();
        now.since(self.wall.now())
    }

    /// Why the time cannot be trusted; `None` where it can.
    pub(crate) fn message(&self) -> Option<String> {
        let recorded = self.foreign.load(Ordering::Acquire);
        if recorded == 0 {
            return None;
        }
        let wall = self.wall.now();
        let behind = Timestamp::from_millis(recorded).since(wall);
        (behind > TOLERANCE).then(|| {
            format!(
                "the machine was restarted, and its clock is {behind} behind the last time that the store recorded; \
                 set the clock, wait until it has caught up, or accept it (tenure doctor --repair)"
            )
        })
    }
}

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        let floor = self.base.load(Ordering::Acquire).saturating_add(signed(self.boot.elapsed().get()));
        self.wall.now().max(Timestamp::from_millis(u64::try_from(floor).unwrap_or(0)))
    }

    fn wall(&self) -> Timestamp {
        self.wall.now()
    }
}
