//! The fleet's time: the server's, carried on by a clock that nobody sets.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustix::time::{ClockId, clock_gettime};
use tenure_domain::{Millis, Timestamp};
use tenure_ports::Clock;

/// Counts on through suspension, and is never set.
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

/// A change of pace begins this much after it was decided, in microseconds, so that whoever still reads the time by
/// the old pace is through before the two part.
const MARGIN: u64 = 100_000;
/// A server found this much behind was set back, in microseconds.
const SET_BACK: u64 = 1_000_000;

/// A reading of the steady clock in microseconds.
pub(crate) fn monotonic_micros() -> u64 {
    let now = clock_gettime(STEADY);
    now.tv_sec.unsigned_abs() * 1_000_000 + now.tv_nsec.unsigned_abs() / 1_000
}

/// How time runs from a reading of the steady clock on: as fast as that clock, but for a span at half its pace.
#[derive(Clone, Copy, Debug)]
struct ClockSlew {
    monotonic_micros: u64,
    time: u64,
    slow_from: u64,
    slow_until: u64,
}

impl ClockSlew {
    /// Microseconds since the epoch at a reading of the steady clock.
    fn at(&self, monotonic_micros: u64) -> u64 {
        let slow = monotonic_micros.min(self.slow_until).saturating_sub(self.slow_from);
        self.time + monotonic_micros.saturating_sub(self.monotonic_micros) - slow / 2
    }
}

/// The server's time as of the latest sample, plus what has passed since.
///
/// Never runs backward: a server whose clock is set back revives nothing in this process. Where this clock turns out
/// to be ahead it runs at half the pace until the server has caught up, so all processes come to agree again.
#[derive(Default)]
pub(crate) struct FleetClock {
    pace: ArcSwapOption<ClockSlew>,
}

impl FleetClock {
    /// Takes the server's time, which it read between `asked` and `answered` on the steady clock. Answers whether
    /// the server's clock is found newly set back. To be called by one task at a time.
    pub(crate) fn learn(&self, server: u64, asked: u64, answered: u64) -> bool {
        let unsure = answered.saturating_sub(asked) / 2;
        let sampled = asked + unsure;
        let as_told = ClockSlew { monotonic_micros: sampled, time: server, slow_from: sampled, slow_until: sampled };
        let Some(old) = self.pace.load().as_deref().copied() else {
            self.pace.store(Some(Arc::new(as_told)));
            return false;
        };
        let expected = old.at(sampled);
        if expected.abs_diff(server) <= unsure {
            return false;
        }
        if server > expected {
            self.pace.store(Some(Arc::new(as_told)));
            return false;
        }
        if sampled < old.slow_until {
            // It is on its way.
            return false;
        }
        let ahead = expected - server;
        let slow_from = answered + MARGIN;
        let pace = ClockSlew {
            monotonic_micros: answered,
            time: old.at(answered),
            slow_from,
            slow_until: slow_from + 2 * ahead,
        };
        self.pace.store(Some(Arc::new(pace)));
        ahead > SET_BACK
    }

    /// Microseconds since the epoch.
    pub(crate) fn micros(&self) -> u64 {
        // Read first: a pace that was current after it holds for it.
        let monotonic_micros = monotonic_micros();
        self.pace.load().as_deref().map_or(0, |pace| pace.at(monotonic_micros))
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
    /// When the steady clock read zero, the server said so.
    const EPOCH: u64 = 1_700_000_000 * SECOND;

    fn at(clock: &FleetClock, monotonic_micros: u64) -> u64 {
        clock.pace.load().as_deref().map_or(0, |pace| pace.at(monotonic_micros))
    }

    /// Takes a sample each second, as a store does, and holds that time never runs backward meanwhile.
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
        // A slow answer says less than what is known.
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
