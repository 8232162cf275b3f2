//! The fleet's time: the server's time, continued between samples by this machine's monotonic clock.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustix::time::{ClockId, clock_gettime};
use tenure_domain::{Millis, Timestamp};
use tenure_ports::Clock;

/// The monotonic clock. On Linux it also counts while the machine is suspended.
#[cfg(target_os = "linux")]
const MONOTONIC: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const MONOTONIC: ClockId = ClockId::Monotonic;

/// The delay, in microseconds, between the decision to slow down and its effect. A thread that still computes the time
/// with the old slew has finished by then, so the two never disagree.
const MARGIN: u64 = 100_000;
/// The offset, in microseconds, from which on the server's clock counts as set back.
const SET_BACK: u64 = 1_000_000;

/// Reads the monotonic clock, in microseconds.
pub(crate) fn monotonic_micros() -> u64 {
    let now = clock_gettime(MONOTONIC);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}

/// A mapping from the monotonic clock to the fleet's time: at the same speed, except for a span at half speed.
#[derive(Clone, Copy, Debug)]
struct ClockSlew {
    monotonic_micros: u64,
    time: u64,
    slow_from: u64,
    slow_until: u64,
}

impl ClockSlew {
    /// Returns the microseconds since the epoch at a reading of the monotonic clock.
    fn at(&self, monotonic_micros: u64) -> u64 {
        let slow = monotonic_micros.min(self.slow_until).saturating_sub(self.slow_from);
        self.time + monotonic_micros.saturating_sub(self.monotonic_micros) - slow / 2
    }
}

/// A clock that shows the server's time as of the latest sample, plus the time that has passed since.
///
/// It never runs backward: if the server's clock is set back, nothing that had expired becomes active again in this
/// process. Where this clock is ahead of the server, it runs at half speed until the server has caught up, so that all
/// processes agree again.
#[derive(Default)]
pub(crate) struct FleetClock {
    slew: ArcSwapOption<ClockSlew>,
}

impl FleetClock {
    /// Takes a sample of the server's time, read between `asked` and `answered` on the monotonic clock. Returns whether
    /// the server's clock turns out to have been set back since the last sample. Must be called by one task at a time.
    pub(crate) fn learn(&self, server: u64, asked: u64, answered: u64) -> bool {
        let unsure = answered.saturating_sub(asked) / 2;
        let sampled = asked + unsure;
        let as_told = ClockSlew { monotonic_micros: sampled, time: server, slow_from: sampled, slow_until: sampled };
        let Some(old) = self.slew.load().as_deref().copied() else {
            self.slew.store(Some(Arc::new(as_told)));
            return false;
        };
        let expected = old.at(sampled);
        if expected.abs_diff(server) <= unsure {
            return false;
        }
        if server > expected {
            self.slew.store(Some(Arc::new(as_told)));
            return false;
        }
        if sampled < old.slow_until {
            // The correction is already under way.
            return false;
        }
        let ahead = expected - server;
        let slow_from = answered + MARGIN;
        let slew = ClockSlew {
            monotonic_micros: answered,
            time: old.at(answered),
            slow_from,
            slow_until: slow_from + 2 * ahead,
        };
        self.slew.store(Some(Arc::new(slew)));
        ahead > SET_BACK
    }

    /// Returns the fleet's time in microseconds since the epoch.
    pub(crate) fn micros(&self) -> u64 {
        // Read before the slew: a slew that is loaded later is valid for this reading.
        let monotonic_micros = monotonic_micros();
        self.slew.load().as_deref().map_or(0, |slew| slew.at(monotonic_micros))
    }
}

impl Clock for FleetClock {
    fn now(&self) -> Timestamp {
        Timestamp::EPOCH.plus(Millis::new(self.micros() / 1_000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    /// The server's time when the monotonic clock reads zero.
    const EPOCH: u64 = 1_700_000_000 * SECOND;

    fn at(clock: &FleetClock, monotonic_micros: u64) -> u64 {
        clock.slew.load().as_deref().map_or(0, |slew| slew.at(monotonic_micros))
    }

    /// Takes a sample each second, as a store does, and asserts that time never runs backward meanwhile.
    fn follow(clock: &FleetClock, from: u64, seconds: u64, server: impl Fn(u64) -> u64) -> u64 {
        let mut last = 0;
        for second in 0..seconds {
            let monotonic_micros = from + second * SECOND;
            clock.learn(server(monotonic_micros + 100), monotonic_micros, monotonic_micros + 200);
            for part in 0..10 {
                let now = at(clock, monotonic_micros + 200 + part * SECOND / 10);
                assert!(now >= last, "time ran backward by {}", last - now);
                last = now;
            }
        }
        from + seconds * SECOND
    }

    #[test]
    fn it_is_the_servers_time_to_within_the_reading() {
        let clock = FleetClock::default();
        follow(&clock, 0, 10, |monotonic_micros| EPOCH + monotonic_micros);
        assert!(at(&clock, 10 * SECOND).abs_diff(EPOCH + 10 * SECOND) <= 100);
        // A slow answer is less precise than what is known.
        assert!(!clock.learn(EPOCH + 10 * SECOND, 10 * SECOND, 11 * SECOND));
        assert!(at(&clock, 12 * SECOND).abs_diff(EPOCH + 12 * SECOND) <= 100);
    }

    #[test]
    fn it_follows_a_server_whose_clock_goes_at_another_rate() {
        for rate in [-200_i64, 200] {
            let clock = FleetClock::default();
            let server = |monotonic_micros: u64| {
                EPOCH + monotonic_micros.saturating_add_signed(monotonic_micros as i64 * rate / 1_000_000)
            };
            let end = follow(&clock, 0, 3_600, server);
            let apart = at(&clock, end).abs_diff(server(end));
            assert!(apart < 1_000, "{apart} microseconds apart after an hour at {rate} in a million");
        }
    }

    #[test]
    fn a_server_set_forward_is_followed_at_once() {
        let clock = FleetClock::default();
        let end = follow(&clock, 0, 5, |monotonic_micros| EPOCH + monotonic_micros);
        let end = follow(&clock, end, 2, |monotonic_micros| EPOCH + monotonic_micros + 60 * SECOND);
        assert!(at(&clock, end).abs_diff(EPOCH + end + 60 * SECOND) <= 200);
    }

    #[test]
    fn a_server_set_back_is_waited_for_without_running_backward() {
        let clock = FleetClock::default();
        let end = follow(&clock, 0, 5, |monotonic_micros| EPOCH + monotonic_micros);
        let back = |monotonic_micros: u64| EPOCH + monotonic_micros - 60 * SECOND;
        assert!(clock.learn(back(end + 100), end, end + 200), "it is told once");
        assert!(!clock.learn(back(end + SECOND + 100), end + SECOND, end + SECOND + 200));
        let half = follow(&clock, end + 2 * SECOND, 60, back);
        assert!(at(&clock, half) > back(half) + 25 * SECOND, "it went slower than at half the pace");
        let end = follow(&clock, half, 62, back);
        assert!(at(&clock, end).abs_diff(back(end)) <= 1_000, "{}", at(&clock, end) - back(end));
    }
}
