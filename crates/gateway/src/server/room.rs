//! Room for the connections of one listener: so many in all and from one address. Where there is none left, who asks
//! nothing makes way for who does.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::serve::Line;

/// Of so many connections that could make way one does at a time, and at least one: looking for them takes a while.
const AT_A_TIME: usize = 64;

/// How much a connection would be missed; the least is asked to leave first, and of those the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    /// It never asked anything.
    Silent,
    /// It waits for its next request.
    Idle,
    /// It asks without having proved that it may.
    Unproven,
    /// It stays.
    Busy,
}

/// The room of one listener.
pub(super) struct Room {
    limit: usize,
    per_address: usize,
    table: Mutex<Table>,
    freed: Notify,
}

#[derive(Default)]
struct Table {
    open: BTreeMap<u64, Arc<Line>>,
    addresses: HashMap<IpAddr, usize>,
    next: u64,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// For more from this address.
    Address,
    /// At all.
    Full,
}

/// A connection's place, until it is dropped.
pub(super) struct Place {
    room: Arc<Room>,
    number: u64,
    counted: Option<IpAddr>,
}

impl Room {
    pub(super) fn new(limit: usize, per_address: usize) -> Arc<Self> {
        Arc::new(Self { limit, per_address, table: Mutex::default(), freed: Notify::new() })
    }

    /// A place for a connection, once there is one. `counted`: whether others from its address count.
    ///
    /// # Errors
    /// [`NoRoom::Address`].
    pub(super) async fn enter(self: &Arc<Self>, line: &Arc<Line>, counted: bool) -> Result<Place, NoRoom> {
        loop {
            let freed = self.freed.notified();
            match self.try_enter(line, counted) {
                Err(NoRoom::Full) => {}
                done => return done,
            }
            self.make_way();
            freed.await;
        }
    }

    /// The same where there is one now.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub(super) fn try_enter(self: &Arc<Self>, line: &Arc<Line>, counted: bool) -> Result<Place, NoRoom> {
        let counted = counted.then(|| network(line.remote()));
        let mut table = self.table.lock();
        if counted.and_then(|address| table.addresses.get(&address)).is_some_and(|open| *open >= self.per_address) {
            return Err(NoRoom::Address);
        }
        if table.open.len() >= self.limit {
            return Err(NoRoom::Full);
        }
        if let Some(address) = counted {
            *table.addresses.entry(address).or_default() += 1;
        }
        let number = table.next;
        table.next += 1;
        table.open.insert(number, line.clone());
        Ok(Place { room: self.clone(), number, counted })
    }

    /// Ends those that would be missed least.
    fn make_way(&self) {
        let table = self.table.lock();
        let mut leave: Vec<(Use, &Arc<Line>)> = Vec::new();
        for line in table.open.values() {
            if line.is_leaving() {
                return;
            }
            let used = line.used();
            if used < Use::Busy {
                leave.push((used, line));
            }
        }
        // Stable: the oldest stay in front.
        leave.sort_by_key(|(used, _)| *used);
        let number = leave.len().div_ceil(AT_A_TIME);
        if number > 0 {
            tracing::warn!(limit = self.limit, number, "all connections are in use: closing some idle ones");
        }
        for (_, line) in leave.into_iter().take(number) {
            line.leave();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.room.table.lock();
        table.open.remove(&self.number);
        if let Some(address) = self.counted
            && let Some(open) = table.addresses.get_mut(&address)
        {
            *open -= 1;
            if *open == 0 {
                table.addresses.remove(&address);
            }
        }
        drop(table);
        self.room.freed.notify_one();
    }
}

/// What counts as one address: of IPv6 the network of one customer.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::peer::Connection;

    fn line(address: &str) -> Arc<Line> {
        Line::new(Connection::new(SocketAddr::new(address.parse().unwrap(), 1), false), false)
    }

    #[tokio::test]
    async fn so_many_from_one_address_and_so_many_in_all() {
        let room = Room::new(5, 2);
        let enter = |address: &str, counted| room.try_enter(&line(address), counted);
        let first = enter("203.0.113.7", true).unwrap();
        let _second = enter("203.0.113.7", true).unwrap();
        assert_eq!(enter("203.0.113.7", true).err(), Some(NoRoom::Address));
        let _six = enter("2001:db8::1", true).unwrap();
        let _six_too = enter("2001:db8::ffff:2", true).unwrap();
        assert_eq!(enter("2001:db8::3", true).err(), Some(NoRoom::Address), "one /64 is one address");
        let _proxy = enter("203.0.113.7", false).unwrap();
        assert_eq!(enter("203.0.113.8", true).err(), Some(NoRoom::Full));
        drop(first);
        let _again = enter("203.0.113.7", true).unwrap();
        assert_eq!(room.table.lock().open.len(), 5);
    }

    #[tokio::test]
    async fn the_oldest_that_asks_nothing_makes_way_and_who_asks_stays() {
        let room = Room::new(3, 9);
        let lines: Vec<_> = (0..3).map(|_| line("203.0.113.7")).collect();
        let busy = lines[0].begin_for_test();
        let mut places: Vec<_> = lines.iter().map(|line| Some(room.try_enter(line, true).unwrap())).collect();
        let newcomer = line("203.0.113.8");
        let mut entering = Box::pin(room.enter(&newcomer, true));
        assert!(futures_util::poll!(entering.as_mut()).is_pending());
        assert_eq!(lines.iter().map(|line| line.is_leaving()).collect::<Vec<_>>(), [false, true, false]);
        places[1] = None;
        assert!(entering.await.is_ok());
        drop(busy);
    }
}
