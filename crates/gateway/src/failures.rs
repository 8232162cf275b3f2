//! Failed attempts, counted per address: whoever guesses is told to wait. What is right is let in all the same, since
//! several people may share an address; so a lock changes what wrong attempts are told, and nothing else.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::peer::Peer;

/// So many failures of a client in [`WINDOW`] are answered as what they are.
const ALLOWED: u8 = 10;
/// So many through one proxy, whatever addresses it names: it may only pass on what its clients say.
const ALLOWED_THROUGH_PROXY: u8 = 100;
const WINDOW: Duration = Duration::from_secs(60);
/// How long further failures are then answered with 429.
const LOCK: Duration = Duration::from_secs(300);
/// Locks, so that threads seldom meet.
const SHARDS: usize = 16;
/// Addresses remembered per shard, about 150 bytes each. When it is full, whoever failed longest ago is forgotten.
const PER_SHARD: usize = 4096;

/// The failures of clients, apart for each purpose, so that none locks another.
pub(crate) struct Lockouts {
    /// Tokens shown with requests.
    pub(crate) tokens: Guesses,
    /// Tokens pasted into the login page.
    pub(crate) forms: Guesses,
    /// The enrolment secret.
    pub(crate) enrolment: Guesses,
    /// Tells tokens apart without keeping any.
    prints: RandomState,
}

impl Lockouts {
    pub(crate) fn new() -> Self {
        let [tokens, forms, enrolment] = std::array::from_fn(|_| Guesses::new());
        Self { tokens, forms, enrolment, prints: RandomState::new() }
    }

    /// What tells a text from others.
    pub(crate) fn print(&self, text: &[u8]) -> u32 {
        // Half of it tells ten texts apart.
        self.prints.hash_one(text) as u32
    }
}

/// Failures of one purpose: by the client's address, and by the proxy that names it, where there is one.
pub(crate) struct Guesses {
    clients: Failures,
    proxies: Failures,
}

impl Guesses {
    fn new() -> Self {
        Self { clients: Failures::allowing(ALLOWED), proxies: Failures::allowing(ALLOWED_THROUGH_PROXY) }
    }

    /// Counts a guess. How long whoever made it is locked out, if it is. The same `print` again is no other guess.
    pub(crate) fn note(&self, peer: &Peer, print: Option<u32>) -> Option<Duration> {
        match self.clients.note(peer.address, print) {
            Noted::Known => None,
            Noted::Locked(left) => Some(left),
            Noted::Counted if peer.trusted => self.proxies.note(peer.remote, None).locked(),
            Noted::Counted => None,
        }
    }
}

/// What became of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// It was counted before.
    Known,
    /// It counts.
    Counted,
    /// It is one too many: for so long.
    Locked(Duration),
}

impl Noted {
    /// How long its address is locked out, if it is.
    pub(crate) const fn locked(self) -> Option<Duration> {
        match self {
            Self::Locked(left) => Some(left),
            Self::Known | Self::Counted => None,
        }
    }
}

/// What is known of one address.
#[derive(Clone, Copy)]
struct Record {
    /// Failures since `since`.
    count: u8,
    since: Instant,
    locked_until: Option<Instant>,
    /// What the first of them showed; 0 where that does not matter.
    prints: [u32; ALLOWED as usize],
}

impl Record {
    const fn new(since: Instant) -> Self {
        Self { count: 0, since, locked_until: None, prints: [0; ALLOWED as usize] }
    }

    /// The last instant at which it means anything.
    fn matters_until(&self) -> Instant {
        self.locked_until.unwrap_or(self.since + WINDOW)
    }
}

/// Failures per address, IPv6 by /64. Bounded: at most 65,536 addresses.
pub(crate) struct Failures {
    allowed: u8,
    shards: [Mutex<HashMap<u64, Record>>; SHARDS],
}

impl Failures {
    /// So many in a minute lock nobody.
    fn allowing(allowed: u8) -> Self {
        Self { allowed, shards: Default::default() }
    }

    /// Those of operators, by the address at the other end of their connection.
    pub(crate) fn of_operators() -> Self {
        Self::allowing(ALLOWED)
    }

    /// Counts a failure, unless one with the same `print` has been counted.
    pub(crate) fn note(&self, address: IpAddr, print: Option<u32>) -> Noted {
        self.note_at(address, print, Instant::now())
    }

    fn note_at(&self, address: IpAddr, print: Option<u32>, now: Instant) -> Noted {
        let key = key(address);
        // 0 stands for none.
        let print = print.map_or(0, |print| print.max(1));
        let mut shard = self.shard(key).lock();
        if shard.len() >= PER_SHARD && !shard.contains_key(&key) {
            make_room(&mut shard, now);
        }
        let record = shard.entry(key).or_insert(Record::new(now));
        if record.matters_until() <= now {
            *record = Record::new(now);
        }
        if print != 0 && record.prints.contains(&print) {
            return Noted::Known;
        }
        if record.locked_until.is_none() {
            if let Some(free) = record.prints.get_mut(usize::from(record.count)) {
                *free = print;
            }
            record.count += 1;
            if record.count > self.allowed {
                record.locked_until = Some(now + LOCK);
            }
        }
        record.locked_until.map_or(Noted::Counted, |until| Noted::Locked(until.duration_since(now)))
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

    fn fresh() -> (Failures, Instant) {
        (Failures::allowing(ALLOWED), Instant::now())
    }

    #[test]
    fn ten_failures_in_a_minute_are_answered_and_the_next_lock_for_five_minutes() {
        let (failures, start) = fresh();
        for _ in 0..10 {
            assert_eq!(failures.note_at(v4(1), None, start), Noted::Counted);
        }
        assert_eq!(failures.note_at(v4(1), None, start), Noted::Locked(LOCK));
        assert_eq!(failures.note_at(v4(2), None, start), Noted::Counted, "another address is another matter");
        let later = start + LOCK - Duration::from_secs(1);
        let left = Noted::Locked(Duration::from_secs(1));
        assert_eq!(failures.note_at(v4(1), None, later), left, "a failure does not prolong it");
        assert_eq!(failures.note_at(v4(1), None, start + LOCK), Noted::Counted);
    }

    #[test]
    fn failures_of_more_than_a_minute_ago_do_not_count() {
        let (failures, start) = fresh();
        for minute in 0..5 {
            for _ in 0..10 {
                assert_eq!(failures.note_at(v4(1), None, start + WINDOW * minute), Noted::Counted);
            }
        }
    }

    #[test]
    fn the_same_again_is_no_other_guess_also_while_others_of_the_address_are_locked() {
        let (failures, start) = fresh();
        assert_eq!(failures.note_at(v4(1), Some(7), start), Noted::Counted);
        for _ in 0..100 {
            assert_eq!(failures.note_at(v4(1), Some(7), start), Noted::Known);
        }
        for print in 100..109 {
            assert_eq!(failures.note_at(v4(1), Some(print), start), Noted::Counted);
        }
        assert_eq!(failures.note_at(v4(1), Some(200), start), Noted::Locked(LOCK));
        assert_eq!(failures.note_at(v4(1), Some(7), start), Noted::Known);
        assert_eq!(failures.note_at(v4(1), None, start), Noted::Locked(LOCK));
        assert_eq!(failures.note_at(v4(2), Some(0), start), Noted::Counted, "0 is a print as well");
        assert_eq!(failures.note_at(v4(2), Some(0), start), Noted::Known);
    }

    #[test]
    fn addresses_that_a_proxy_names_count_together_at_last() {
        let guesses = Guesses::new();
        let peer = |n: u32, trusted| Peer { address: v4(n), remote: v4(1), trusted, secure: false, host: None };
        for n in 100..200 {
            assert_eq!(guesses.note(&peer(n, true), None), None);
        }
        assert!(guesses.note(&peer(200, true), None).is_some());
        assert!(guesses.note(&peer(201, true), None).is_some());
        assert!(guesses.note(&peer(202, false), None).is_none(), "whoever comes without it is another");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (failures, start) = fresh();
        let address = |n: u128| IpAddr::V6((0x2001_0db8_0000_0001_u128 << 64 | n).into());
        for n in 0..10 {
            assert_eq!(failures.note_at(address(n), None, start), Noted::Counted);
        }
        assert_eq!(failures.note_at(address(99), None, start), Noted::Locked(LOCK));
        assert_eq!(failures.note_at("2001:db8:0:2::1".parse().unwrap(), None, start), Noted::Counted);
    }

    #[test]
    fn memory_is_bounded_and_the_locked_are_forgotten_last() {
        let (failures, start) = fresh();
        for _ in 0..=ALLOWED {
            let _ = failures.note_at(v4(7), None, start);
        }
        for n in 100..300_000 {
            let _ = failures.note_at(v4(n), None, start + Duration::from_secs(1));
        }
        let held: usize = failures.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(held <= SHARDS * PER_SHARD, "{held}");
        assert!(failures.note_at(v4(7), None, start + Duration::from_secs(1)).locked().is_some());
    }
}
