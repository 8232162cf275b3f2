//! The limit on the connections of one listener, in all and from one address. When it is reached, idle connections are
//! closed for new ones.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::connection_state::{ConnectionState, Usage};

/// One connection in this number is closed at a time, and at least one, because finding them takes a while.
const EVICTION_BATCH: usize = 64;

/// The connection limit of one listener.
pub(super) struct ConnectionLimit {
    limit: usize,
    per_address: usize,
    table: Mutex<Table>,
    freed: Notify,
}

#[derive(Default)]
struct Table {
    open: BTreeMap<u64, Arc<ConnectionState>>,
    addresses: HashMap<IpAddr, usize>,
    next: u64,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitReached {
    /// The limit of one address.
    Address,
    /// The limit of the listener.
    Total,
}

/// A connection's slot, until it is dropped.
pub(super) struct ConnectionSlot {
    limit: Arc<ConnectionLimit>,
    parse_number: u64,
    counted: Option<IpAddr>,
}

impl ConnectionLimit {
    pub(super) fn new(limit: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { limit, per_address, table: Mutex::default(), freed: Notify::new() })
    }

    /// Waits for a slot for a connection. `counted` says whether the limit of its address applies.
    ///
    /// # Errors
    /// [`LimitReached::Address`].
    pub(super) async fn acquire(
        self: &Arc<Self>,
        state: &Arc<ConnectionState>,
        counted: bool,
    ) -> Result<ConnectionSlot, LimitReached> {
        loop {
            let freed = self.freed.notified();
            match self.try_acquire(state, counted) {
                Err(LimitReached::Total) => {}
                done => return done,
            }
            self.evict();
            freed.await;
        }
    }

    /// Takes a slot if there is one now.
    ///
    /// # Errors
    /// [`LimitReached`].
    pub(super) fn try_acquire(
        self: &Arc<Self>,
        state: &Arc<ConnectionState>,
        counted: bool,
    ) -> Result<ConnectionSlot, LimitReached> {
        let counted = counted.then(|| address_key(state.remote()));
        let mut table = self.table.lock();
        if counted.and_then(|address| table.addresses.get(&address)).is_some_and(|open| *open >= self.per_address) {
            return Err(LimitReached::Address);
        }
        if table.open.len() >= self.limit {
            return Err(LimitReached::Total);
        }
        if let Some(address) = counted {
            *table.addresses.entry(address).or_default() += 1;
        }
        let parse_number = table.next;
        table.next += 1;
        table.open.insert(parse_number, state.clone());
        Ok(ConnectionSlot { limit: self.clone(), parse_number, counted })
    }

    /// Closes the connections that matter least.
    fn evict(&self) {
        let table = self.table.lock();
        let mut close: Vec<(Usage, &Arc<ConnectionState>)> = Vec::new();
        for state in table.open.values() {
            if state.is_closing() {
                return;
            }
            let usage = state.usage();
            if usage < Usage::Busy {
                close.push((usage, state));
            }
        }
        // The sort is stable: the oldest stay first.
        close.sort_by_key(|(usage, _)| *usage);
        let parse_number = close.len().div_ceil(EVICTION_BATCH);
        if parse_number > 0 {
            tracing::warn!(limit = self.limit, parse_number, "all connections are in use: closing some idle ones");
        }
        for (_, state) in close.into_iter().take(parse_number) {
            state.close();
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut table = self.limit.table.lock();
        table.open.remove(&self.parse_number);
        if let Some(address) = self.counted
            && let Some(open) = table.addresses.get_mut(&address)
        {
            *open -= 1;
            if *open == 0 {
                table.addresses.remove(&address);
            }
        }
        drop(table);
        self.limit.freed.notify_one();
    }
}

/// Returns the key by which connections of one client are counted: an IPv4 address, or a /64 network of IPv6.
fn address_key(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use tenure_tower::request::peer::Connection;

    fn state(address: &str) -> Arc<ConnectionState> {
        ConnectionState::new(Connection::new(SocketAddr::new(address.parse().unwrap(), 1), false), false)
    }

    #[tokio::test]
    async fn so_many_from_one_address_and_so_many_in_all() {
        let room = ConnectionLimit::new(5, 2);
        let acquire = |address: &str, counted| room.try_acquire(&state(address), counted);
        let first = acquire("203.0.113.7", true).unwrap();
        let _second = acquire("203.0.113.7", true).unwrap();
        assert_eq!(acquire("203.0.113.7", true).err(), Some(LimitReached::Address));
        let _six = acquire("2001:db8::1", true).unwrap();
        let _six_too = acquire("2001:db8::ffff:2", true).unwrap();
        assert_eq!(acquire("2001:db8::3", true).err(), Some(LimitReached::Address), "one /64 is one address");
        let _proxy = acquire("203.0.113.7", false).unwrap();
        assert_eq!(acquire("203.0.113.8", true).err(), Some(LimitReached::Total));
        drop(first);
        let _again = acquire("203.0.113.7", true).unwrap();
        assert_eq!(room.table.lock().open.len(), 5);
    }

    #[tokio::test]
    async fn the_oldest_that_asks_nothing_makes_way_and_who_asks_stays() {
        let room = ConnectionLimit::new(3, 9);
        let states: Vec<_> = (0..3).map(|_| state("203.0.113.7")).collect();
        let busy = states[0].begin_for_test();
        let mut slots: Vec<_> = states.iter().map(|state| Some(room.try_acquire(state, true).unwrap())).collect();
        let newcomer = state("203.0.113.8");
        let mut entering = Box::pin(room.acquire(&newcomer, true));
        assert!(futures_util::poll!(entering.as_mut()).is_pending());
        assert_eq!(states.iter().map(|state| state.is_closing()).collect::<Vec<_>>(), [false, true, false]);
        slots[1] = None;
        assert!(entering.await.is_ok());
        drop(busy);
    }
}
