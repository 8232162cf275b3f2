//! The store's clock: the machine's wall clock, but never behind the time that the store has recorded plus the time
//! that has passed since.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use tenure_domain::{Millis, Timestamp};
use tenure_ports::Clock;

pub(crate) mod boot;

use boot::Boot;

/// How far a wall clock may be behind the recorded time after a restart of the machine. Clocks are this inexact.
pub(crate) const CLOCK_TOLERANCE: Millis = Millis::minutes(1);
/// The number of characters of a boot id that are recorded.
const BOOT_ID_LENGTH: usize = 16;

/// The clock of an open store.
pub(crate) struct StoreClock {
    wall: Arc<dyn Clock>,
    boot: Arc<dyn Boot>,
    boot_id: String,
    /// The store's time is at least this plus the machine's uptime. In Unix milliseconds. It can be negative if the
    /// recorded time is long ago.
    floor_at_boot: AtomicI64,
    /// The last recorded time in Unix milliseconds, if it was recorded before the machine's last start. Otherwise 0.
    other_boot_time: AtomicU64,
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

impl StoreClock {
    pub(crate) fn new(wall: Arc<dyn Clock>, boot: Arc<dyn Boot>) -> Self {
        let boot_id = boot.id().chars().filter(char::is_ascii_alphanumeric).take(BOOT_ID_LENGTH).collect();
        Self { wall, boot, boot_id, floor_at_boot: AtomicI64::new(i64::MIN), other_boot_time: AtomicU64::new(0) }
    }

    /// Returns the wall clock of the machine.
    pub(crate) fn wall_clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.wall)
    }

    /// Returns the source of the boot id and the uptime.
    pub(crate) fn boot(&self) -> Arc<dyn Boot> {
        Arc::clone(&self.boot)
    }

    pub(crate) fn boot_id(&self) -> &str {
        &self.boot_id
    }

    pub(crate) fn uptime(&self) -> Millis {
        self.boot.uptime()
    }

    /// Learns the time, the boot id and the uptime that a line records.
    pub(crate) fn record(&self, at: u64, boot: &str, uptime: u64) {
        // After a restart, at least the uptime has passed since the recorded time.
        let (floor_at_boot, other_boot_time) =
            if boot == self.boot_id { (signed(at).saturating_sub(signed(uptime)), 0) } else { (signed(at), at) };
        let before = self.other_boot_time.swap(other_boot_time, Ordering::AcqRel);
        // Recorded times only move forward, even over a restart of the machine. An earlier one means that an operator
        // has accepted the clock, so time continues from there.
        let is_earlier =
            || floor_at_boot.saturating_add(signed(CLOCK_TOLERANCE.get())) < self.floor_at_boot.load(Ordering::Acquire);
        if other_boot_time == 0 && (at < before || is_earlier()) {
            self.floor_at_boot.store(floor_at_boot, Ordering::Release);
        } else {
            self.floor_at_boot.fetch_max(floor_at_boot, Ordering::AcqRel);
        }
    }

    /// Returns how far the store's time is ahead of the wall clock.
    pub(crate) fn ahead_of_wall(&self) -> Millis {
        let now = self.now();
        now.since(self.wall.now())
    }

    /// Returns why the time cannot be trusted. `None` if it can.
    pub(crate) fn error(&self) -> Option<String> {
        let recorded = self.other_boot_time.load(Ordering::Acquire);
        if recorded == 0 {
            return None;
        }
        let wall = self.wall.now();
        let behind = Timestamp::from_millis(recorded).since(wall);
        (behind > CLOCK_TOLERANCE).then(|| {
            format!(
                "the machine was restarted, and its clock is {behind} behind the last time that the store recorded; \
                 set the clock, wait until it has caught up, or accept it (tenure doctor --repair)"
            )
        })
    }
}

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        let floor = self.floor_at_boot.load(Ordering::Acquire).saturating_add(signed(self.boot.uptime().get()));
        self.wall.now().max(Timestamp::from_millis(u64::try_from(floor).unwrap_or(0)))
    }

    fn wall(&self) -> Timestamp {
        self.wall.now()
    }
}
