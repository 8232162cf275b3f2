//! Lock-out: failed attempts are counted per address, and a client that guesses is told to wait. A valid token is
//! accepted all the same, because several people may share an address. So a lock-out changes only the response to
//! invalid attempts.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::request::peer::Peer;

/// The failures of one client in [`WINDOW`] that do not lock it out.
const MAX_FAILURES: u8 = 10;
/// The failures through one proxy that do not lock it out, whatever client addresses it names: it may only pass on what
/// its clients say.
const MAX_FAILURES_PER_PROXY: u8 = 100;
const WINDOW: Duration = Duration::from_secs(60);
/// How long further failures are answered with 429.
const LOCKOUT_TIME: Duration = Duration::from_secs(300);
/// The number of shards, each with its own lock, so that threads seldom wait for each other.
const SHARDS: usize = 16;
/// The most addresses per shard, about 150 bytes each. When a shard is full, the addresses that failed longest ago are
/// dropped.
const ADDRESSES_PER_SHARD: usize = 4096;

/// The failures of clients. Each purpose counts separately, so that failures in one do not lock out another.
pub struct Lockouts {
    /// Tokens that requests present.
    tokens: GuessCounter,
    /// Tokens pasted into the login page.
    forms: GuessCounter,
    /// The enrolment secret.
    pub enrolment: GuessCounter,
    /// Makes fingerprints that tell tokens apart without storing them.
    fingerprints: RandomState,
}

impl Lockouts {
    pub(crate) fn new() -> Self {
        let [tokens, forms, enrolment] = std::array::from_fn(|_| GuessCounter::new());
        Self { tokens, forms, enrolment, fingerprints: RandomState::new() }
    }

    /// Returns the counter of a scope.
    pub(super) const fn of(&self, scope: LockoutScope) -> &GuessCounter {
        match scope {
            LockoutScope::Tokens => &self.tokens,
            LockoutScope::LoginForm => &self.forms,
        }
    }

    /// Returns a fingerprint of a text.
    pub fn fingerprint(&self, text: &[u8]) -> u32 {
        // 32 bits are enough to tell ten texts apart.
        self.fingerprints.hash_one(text) as u32
    }
}

/// The purpose for which a token was presented. Each purpose counts separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockoutScope {
    /// A request.
    Tokens,
    /// The login form.
    LoginForm,
}

/// The failures of one purpose, by the client's address, and by the address of the proxy if there is one.
pub struct GuessCounter {
    clients: FailureCounter,
    proxies: FailureCounter,
}

impl GuessCounter {
    fn new() -> Self {
        Self {
            clients: FailureCounter::with_limit(MAX_FAILURES),
            proxies: FailureCounter::with_limit(MAX_FAILURES_PER_PROXY),
        }
    }

    /// Counts a guess, and returns how long its client is locked out, if it is. A `fingerprint` that was counted before
    /// does not count again.
    pub fn record(&self, peer: &Peer, fingerprint: Option<u32>) -> Option<Duration> {
        match self.clients.record(peer.address, fingerprint) {
            FailureOutcome::Duplicate => None,
            FailureOutcome::Locked(remaining) => Some(remaining),
            FailureOutcome::Counted if peer.trusted => self.proxies.record(peer.remote, None).locked(),
            FailureOutcome::Counted => None,
        }
    }
}

/// The result of counting a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureOutcome {
    /// The failure was counted before.
    Duplicate,
    /// The failure was counted.
    Counted,
    /// The address is locked out for this time.
    Locked(Duration),
}

impl FailureOutcome {
    /// Returns how long the address is locked out, if it is.
    pub const fn locked(self) -> Option<Duration> {
        match self {
            Self::Locked(remaining) => Some(remaining),
            Self::Duplicate | Self::Counted => None,
        }
    }
}

/// The failures of one address.
#[derive(Clone, Copy)]
struct Record {
    /// The number of failures since `since`.
    count: u8,
    since: Instant,
    locked_until: Option<Instant>,
    /// The fingerprints of the first failures; 0 for a failure without one.
    fingerprints: [u32; MAX_FAILURES as usize],
}

impl Record {
    const fn new(since: Instant) -> Self {
        Self { count: 0, since, locked_until: None, fingerprints: [0; MAX_FAILURES as usize] }
    }

    /// Returns the last instant at which the record matters.
    fn relevant_until(&self) -> Instant {
        self.locked_until.unwrap_or(self.since + WINDOW)
    }
}

/// Counts failures per address, and per /64 for IPv6. It holds at most 65,536 addresses.
pub struct FailureCounter {
    limit: u8,
    shards: [Mutex<HashMap<u64, Record>>; SHARDS],
}

impl FailureCounter {
    /// Makes a counter that allows this many failures in [`WINDOW`].
    fn with_limit(limit: u8) -> Self {
        Self { limit, shards: Default::default() }
    }

    /// Makes the counter for operators, by the address at the other end of their connection.
    pub fn for_operators() -> Self {
        Self::with_limit(MAX_FAILURES)
    }

    /// Counts a failure, unless one with the same fingerprint was counted before.
    pub fn record(&self, address: IpAddr, fingerprint: Option<u32>) -> FailureOutcome {
        self.record_at(address, fingerprint, Instant::now())
    }

    fn record_at(&self, address: IpAddr, fingerprint: Option<u32>, now: Instant) -> FailureOutcome {
        let address_key = address_key(address);
        // 0 means no fingerprint.
        let fingerprint = fingerprint.map_or(0, |fingerprint| fingerprint.max(1));
        let mut shard = self.shard(address_key).lock();
        if shard.len() >= ADDRESSES_PER_SHARD && !shard.contains_key(&address_key) {
            forget_some(&mut shard, now);
        }
        let record = shard.entry(address_key).or_insert(Record::new(now));
        if record.relevant_until() <= now {
            *record = Record::new(now);
        }
        if fingerprint != 0 && record.fingerprints.contains(&fingerprint) {
            return FailureOutcome::Duplicate;
        }
        if record.locked_until.is_none() {
            if let Some(free) = record.fingerprints.get_mut(usize::from(record.count)) {
                *free = fingerprint;
            }
            record.count += 1;
            if record.count > self.limit {
                record.locked_until = Some(now + LOCKOUT_TIME);
            }
        }
        record.locked_until.map_or(FailureOutcome::Counted, |until| FailureOutcome::Locked(until.duration_since(now)))
    }

    fn shard(&self, address_key: u64) -> &Mutex<HashMap<u64, Record>> {
        &self.shards[(address_key ^ (address_key >> 32)) as usize % SHARDS]
    }
}

/// Returns the key of an address: an IPv4 address, or the network half of an IPv6 address, because one household has
/// 2^64 of those.
fn address_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        // No client has an IPv6 address below fe00::/16.
        IpAddr::V4(v4) => 0xfe00_0000_0000_0000 | u64::from(u32::from(v4)),
        IpAddr::V6(v6) => (v6.to_bits() >> 64) as u64,
    }
}

/// Drops the records that no longer matter. If there are none, it drops the eighth that matters for the shortest time.
fn forget_some(shard: &mut HashMap<u64, Record>, now: Instant) {
    shard.retain(|_, record| record.relevant_until() > now);
    if shard.len() >= ADDRESSES_PER_SHARD {
        let mut ends: Vec<Instant> = shard.values().map(Record::relevant_until).collect();
        let (_, end, _) = ends.select_nth_unstable(ADDRESSES_PER_SHARD / 8);
        let end = *end;
        let mut forgotten = 0;
        shard.retain(|_, record| {
            let keep = record.relevant_until() > end || forgotten > ADDRESSES_PER_SHARD / 8;
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

    fn fresh() -> (FailureCounter, Instant) {
        (FailureCounter::with_limit(MAX_FAILURES), Instant::now())
    }

    #[test]
    fn ten_failures_in_a_minute_are_answered_and_the_next_lock_for_five_minutes() {
        let (failures, start) = fresh();
        for _ in 0..10 {
            assert_eq!(failures.record_at(v4(1), None, start), FailureOutcome::Counted);
        }
        assert_eq!(failures.record_at(v4(1), None, start), FailureOutcome::Locked(LOCKOUT_TIME));
        assert_eq!(
            failures.record_at(v4(2), None, start),
            FailureOutcome::Counted,
            "another address is another matter"
        );
        let later = start + LOCKOUT_TIME - Duration::from_secs(1);
        let remaining = FailureOutcome::Locked(Duration::from_secs(1));
        assert_eq!(failures.record_at(v4(1), None, later), remaining, "a failure does not prolong it");
        assert_eq!(failures.record_at(v4(1), None, start + LOCKOUT_TIME), FailureOutcome::Counted);
    }

    #[test]
    fn failures_of_more_than_a_minute_ago_do_not_count() {
        let (failures, start) = fresh();
        for minute in 0..5 {
            for _ in 0..10 {
                assert_eq!(failures.record_at(v4(1), None, start + WINDOW * minute), FailureOutcome::Counted);
            }
        }
    }

    #[test]
    fn the_same_again_is_no_other_guess_also_while_others_of_the_address_are_locked() {
        let (failures, start) = fresh();
        assert_eq!(failures.record_at(v4(1), Some(7), start), FailureOutcome::Counted);
        for _ in 0..100 {
            assert_eq!(failures.record_at(v4(1), Some(7), start), FailureOutcome::Duplicate);
        }
        for fingerprint in 100..109 {
            assert_eq!(failures.record_at(v4(1), Some(fingerprint), start), FailureOutcome::Counted);
        }
        assert_eq!(failures.record_at(v4(1), Some(200), start), FailureOutcome::Locked(LOCKOUT_TIME));
        assert_eq!(failures.record_at(v4(1), Some(7), start), FailureOutcome::Duplicate);
        assert_eq!(failures.record_at(v4(1), None, start), FailureOutcome::Locked(LOCKOUT_TIME));
        assert_eq!(failures.record_at(v4(2), Some(0), start), FailureOutcome::Counted, "0 is a print as well");
        assert_eq!(failures.record_at(v4(2), Some(0), start), FailureOutcome::Duplicate);
    }

    #[test]
    fn addresses_that_a_proxy_names_count_together_at_last() {
        let guesses = GuessCounter::new();
        let peer = |n: u32, trusted| Peer { address: v4(n), remote: v4(1), trusted, secure: false, host: None };
        for n in 100..200 {
            assert_eq!(guesses.record(&peer(n, true), None), None);
        }
        assert!(guesses.record(&peer(200, true), None).is_some());
        assert!(guesses.record(&peer(201, true), None).is_some());
        assert!(guesses.record(&peer(202, false), None).is_none(), "whoever comes without it is another");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let (failures, start) = fresh();
        let address = |n: u128| IpAddr::V6((0x2001_0db8_0000_0001_u128 << 64 | n).into());
        for n in 0..10 {
            assert_eq!(failures.record_at(address(n), None, start), FailureOutcome::Counted);
        }
        assert_eq!(failures.record_at(address(99), None, start), FailureOutcome::Locked(LOCKOUT_TIME));
        assert_eq!(failures.record_at("2001:db8:0:2::1".parse().unwrap(), None, start), FailureOutcome::Counted);
    }

    #[test]
    fn memory_is_bounded_and_the_locked_are_forgotten_last() {
        let (failures, start) = fresh();
        for _ in 0..=MAX_FAILURES {
            let _ = failures.record_at(v4(7), None, start);
        }
        for n in 100..300_000 {
            let _ = failures.record_at(v4(n), None, start + Duration::from_secs(1));
        }
        let held: usize = failures.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(held <= SHARDS * ADDRESSES_PER_SHARD, "{held}");
        assert!(failures.record_at(v4(7), None, start + Duration::from_secs(1)).locked().is_some());
    }
}
