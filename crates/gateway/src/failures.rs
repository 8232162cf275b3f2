//! Failed attempts, counted per client address: whoever guesses is told to wait.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So many failures in [`WINDOW`] are answered as what they are.
const ALLOWED: u8 = 10;
const WINDOW: Duration = Duration::from_secs(60);
/// How long further failures are then answered with 429.
const LOCK: Duration = Duration::from_secs(300);
/// Locks, so that threads seldom meet.
const SHARDS: usize = 16;
/// Addresses remembered per shard, about 100 bytes each. When it is full, whoever failed longest ago is forgotten.
const PER_SHARD: usize = 4096;

/// What is known of one address.
#[derive(Clone, Copy)]
struct Record {
    /// Failures since `since`.
    count: u8,
    since: Instant,
    locked_until: Option<Instant>,
}

impl Record {
    /// The last instant at which it means anything.
    fn matters_until(&self) -> Instant {
        self.locked_until.unwrap_or(self.since + WINDOW)
    }
}

/// Failures per client address, IPv6 by /64. Bounded: at most 65,536 addresses.
#[derive(Default)]
pub(crate) struct Failures {
    shards: [Mutex<HashMap<u64, Record>>; SHARDS],
}

impl Failures {
    /// How long the address is locked out, if it is. For secrets that a client shares with others: those are not even
    /// looked at. A token is looked at all the same, so that nobody locks out whoever holds one.
    pub(crate) fn locked(&self, address: IpAddr) -> Option<Duration> {
        self.locked_at(address, Instant::now())
    }

    /// Counts a failure. How long the address is locked out, if it is.
    pub(crate) fn note(&self, address: IpAddr) -> Option<Duration> {
        self.note_at(address, Instant::now())
    }

    fn locked_at(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let key = key(address);
        let until = self.shard(key).lock().get(&key)?.locked_until?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    fn note_at(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let key = key(address);
        let mut shard = self.shard(key).lock();
        if shard.len() >= PER_SHARD && !shard.contains_key(&key) {
            make_room(&mut shard, now);
        }
        let fresh = Record { count: 0, since: now, locked_until: None };
        let record = shard.entry(key).or_insert(fresh);
        if record.matters_until() <= now {
            *record = fresh;
        }
        if record.locked_until.is_none() {
            record.count += 1;
            if record.count > ALLOWED {
                record.locked_until = Some(now + LOCK);
            }
        }
        record.locked_until.map(|until| until.duration_since(now))
    }

    fn shard(&self, key: u64) -> &Mutex<HashMap<u64, Record>> {
        &self.shards[(key ^ (key >> 32)) as usize % SHARDS]
    }
}

/// An IPv4 address, or the network half of an IPv6 one, since a household has 2^64 of those.
fn key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        // No client has an IPv6 address below fe00::/16.
        IpAddr::V4(v4) => 0xfe00_0000_0000_0000 | u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

/// Forgets what no longer matters, or else the eighth that matters for the shortest time.
fn make_room(shard: &mut HashMap<u64, Record>, now: Instant) {
    shard.retain(|_, record| record.matters_until() > now);
    if shard.len() >= PER_SHARD {
        let mut ends: Vec<Instant> = shard.values().map(Record::matters_until).collect();
        let (_, end, _) = ends.select_nth_unstable(PER_SHARD / 8);
        let end = *end;
        let mut forgotten = 0;
        shard.retain(|_, record| {
            let keep = record.matters_until() > end || forgotten > PER_SHARD / 8;
            forgotten += usize::from(!keep);
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn ten_failures_in_a_minute_are_answered_and_the_next_lock_for_five_minutes() {
        let (failures, start) = (Failures::default(), Instant::now());
        for _ in 0..10 {
            assert_eq!(failures.note_at(v4(1), start), None);
        }
        assert_eq!(failures.locked_at(v4(1), start), None);
        assert_eq!(failures.note_at(v4(1), start), Some(LOCK));
        assert_eq!(failures.note_at(v4(2), start), None, "another address is another matter");
        let later = start + LOCK - Duration::from_secs(1);
        assert_eq!(failures.note_at(v4(1), later), Some(Duration::from_secs(1)), "a failure does not prolong it");
        assert_eq!(failures.locked_at(v4(1), start + LOCK), None);
        assert_eq!(failures.note_at(v4(1), start + LOCK), None);
    }

    #[test]
    fn failures_of_more_than_a_minute_ago_do_not_count() {
        let (failures, start) = (Failures::default(), Instant::now());
        for minute in 0..5 {
            for _ in 0..10 {
                assert_eq!(failures.note_at(v4(1), start + WINDOW * minute), None);
            }
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (failures, start) = (Failures::default(), Instant::now());
        let address = |n: u128| IpAddr::V6((0x2001_0db8_0000_0001_u128 << 64 | n).into());
        for n in 0..11 {
            let _ = failures.note_at(address(n), start);
        }
        assert!(failures.locked_at(address(99), start).is_some());
        assert!(failures.locked_at("2001:db8:0:2::1".parse().unwrap(), start).is_none());
    }

    #[test]
    fn memory_is_bounded_and_the_locked_are_forgotten_last() {
        let (failures, start) = (Failures::default(), Instant::now());
        for _ in 0..=ALLOWED {
            let _ = failures.note_at(v4(7), start);
        }
        for n in 100..300_000 {
            let _ = failures.note_at(v4(n), start + Duration::from_secs(1));
        }
        let held: usize = failures.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(held <= SHARDS * PER_SHARD, "{held}");
        assert!(failures.locked_at(v4(7), start + Duration::from_secs(1)).is_some());
    }
}
