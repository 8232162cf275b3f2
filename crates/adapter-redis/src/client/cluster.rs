//! The nodes of a cluster, and the map of which node serves which slot.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::{Mutex, RwLock};
use redis::{Pipeline, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use crate::client::config::ConnectConfig;
use crate::client::managed_connection::{ManagedConnection, Route};
use crate::client::request_error::{Redirect, RequestError};
use crate::client::slot::SLOTS;
use crate::client::url::Address;

/// How long the other nodes have after the first has answered: one of them may know a newer map.
const GRACE: Duration = Duration::from_millis(50);
/// How often the map is read again if nothing shows that it is out of date.
const READ_EVERY: Duration = Duration::from_secs(2);
/// The shortest time between two readings of the map: a reader of many slots may find many of them moved.
const REST: Duration = Duration::from_millis(100);
/// The number of nodes that are asked for the map at once.
const ASKED: usize = 6;
/// The error for a slot that no node serves.
const NOBODY: u16 = u16::MAX;

pub(crate) struct Cluster {
    config: Arc<ConnectConfig>,
    seeds: Vec<Address>,
    map: RwLock<Map>,
    /// One connection for each node that was used and is still part of the cluster.
    connections: Mutex<HashMap<Address, Arc<ManagedConnection>>>,
    /// When the map was last read. The lock is held while it is being read.
    read_at: tokio::sync::Mutex<Option<Instant>>,
    outdated: Notify,
    turn: AtomicUsize,
}

struct Map {
    owners: Vec<u16>,
    primaries: Vec<(Address, Arc<ManagedConnection>)>,
}

/// The map of one node: ranges of slots and their primaries. A newer map is greater.
struct TopologyReply {
    epoch: u64,
    covered: usize,
    ranges: Vec<(u16, u16, Address)>,
}

impl Cluster {
    pub(crate) fn new(seeds: Vec<Address>, config: Arc<ConnectConfig>) -> Arc<Self> {
        let map = Map { owners: vec![NOBODY; usize::from(SLOTS)], primaries: Vec::new() };
        let cluster = Arc::new(Self {
            config,
            seeds,
            map: RwLock::new(map),
            connections: Mutex::default(),
            read_at: tokio::sync::Mutex::default(),
            outdated: Notify::new(),
            turn: AtomicUsize::new(0),
        });
        tokio::spawn(keep_map(Arc::downgrade(&cluster)));
        cluster
    }

    /// Returns the connection to the primary of a slot, or to any primary. Reads the map if there is none.
    pub(crate) async fn find(
        &self,
        slot: Option<u16>,
        deadline: Instant,
    ) -> Result<Arc<ManagedConnection>, RequestError> {
        if let Some(connection) = self.connection(slot) {
            return Ok(connection);
        }
        // Many requests may find the same: one of them reads the map, and those that waited for it do not.
        let recent = Instant::now().checked_sub(GRACE).unwrap_or_else(Instant::now);
        self.refresh(recent, deadline).await?;
        let unserved = || RequestError::RetryLater("no node of the cluster serves this slot; see CLUSTER INFO".into());
        self.connection(slot).ok_or_else(unserved)
    }

    fn connection(&self, slot: Option<u16>) -> Option<Arc<ManagedConnection>> {
        let map = self.map.read();
        match slot {
            Some(slot) => {
                let owner = map.owners.get(usize::from(slot))?;
                map.primaries.get(usize::from(*owner)).map(|(_, connection)| Arc::clone(connection))
            }
            None => {
                let first = self.turn.fetch_add(1, Ordering::Relaxed);
                let count = map.primaries.len();
                let connections = || (0..count).map(|at| &map.primaries[(first.wrapping_add(at)) % count].1);
                connections().find(|connection| connection.is_live()).or_else(|| connections().next()).cloned()
            }
        }
    }

    /// Returns the connection to the primary of a slot, if it is known.
    pub(crate) fn with_connection<T>(
        &self,
        slot: u16,
        look: impl FnOnce(&ManagedConnection) -> Option<T>,
    ) -> Option<T> {
        let map = self.map.read();
        let owner = map.owners.get(usize::from(slot))?;
        look(&map.primaries.get(usize::from(*owner))?.1)
    }

    /// All primaries.
    pub(crate) fn connections(&self) -> Vec<Arc<ManagedConnection>> {
        self.map.read().primaries.iter().map(|(_, connection)| Arc::clone(connection)).collect()
    }

    /// Whether a primary of the cluster is there.
    pub(crate) fn has(&self, address: &Address) -> bool {
        self.map.read().primaries.iter().any(|(primary, _)| primary == address)
    }

    /// Returns the connection to the node that `asked` redirected us to.
    pub(crate) fn redirect_target(&self, redirect: &Redirect, asked: &ManagedConnection) -> Arc<ManagedConnection> {
        let host = match (&redirect.host[..], asked.address().as_deref()) {
            ("" | "?", Some(Address::Tcp { host, .. })) => host.clone(),
            (host, _) => host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        };
        self.connection_to(&Address::Tcp { host, port: redirect.port })
    }

    /// Records that another node serves a slot, and has the rest of the map read again soon.
    pub(crate) fn moved(&self, redirect: &Redirect, asked: &ManagedConnection) {
        let connection = self.redirect_target(redirect, asked);
        if let Route::Fixed { address, .. } = connection.route() {
            self.map.write().set(redirect.slot, redirect.slot, address, &connection);
        }
        self.outdated.notify_one();
    }

    fn connection_to(&self, address: &Address) -> Arc<ManagedConnection> {
        let new = || {
            let route = Route::Fixed { config: Arc::clone(&self.config), address: address.clone(), node: true };
            Arc::new(ManagedConnection::new(route, self.config.limits))
        };
        Arc::clone(self.connections.lock().entry(address.clone()).or_insert_with(new))
    }

    /// Reads the map again, unless it was read after `since`.
    pub(crate) async fn refresh(&self, since: Instant, deadline: Instant) -> Result<(), RequestError> {
        let late = |_| RequestError::not_sent("no node of the cluster answers in time; are they running?");
        let mut read_at = timeout_at(deadline, self.read_at.lock()).await.map_err(late)?;
        if read_at.is_some_and(|at| at >= since) {
            return Ok(());
        }
        let known: Vec<Address> = self.map.read().primaries.iter().map(|(address, _)| address.clone()).collect();
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let turned = (0..known.len().min(ASKED)).map(|at| &known[first.wrapping_add(at) % known.len()]);
        let reply = match self.ask(turned.collect(), deadline).await {
            Ok(reply) => reply,
            Err(_) => self.ask(self.seeds.iter().take(ASKED).collect(), deadline).await?,
        };
        let mut map = Map { owners: vec![NOBODY; usize::from(SLOTS)], primaries: Vec::new() };
        for (first, last, address) in &reply.ranges {
            map.set(*first, *last, address, &self.connection_to(address));
        }
        self.connections.lock().retain(|address, _| map.primaries.iter().any(|(primary, _)| primary == address));
        *self.map.write() = map;
        *read_at = Some(Instant::now());
        Ok(())
    }

    /// Asks several nodes at once, and uses the newest map.
    async fn ask(&self, nodes: Vec<&Address>, deadline: Instant) -> Result<TopologyReply, RequestError> {
        let mut asked: FuturesUnordered<_> = nodes.into_iter().map(|node| self.ask_one(node, deadline)).collect();
        let mut best: Option<TopologyReply> = None;
        let mut last = RequestError::not_sent("no node of the cluster answers in time; are they running?");
        let mut until = deadline;
        loop {
            tokio::select! {
                reply = asked.next() => match reply {
                    Some(Ok(reply)) => {
                        until = until.min(Instant::now() + GRACE);
                        let news = |reply: &TopologyReply| (reply.epoch, reply.covered);
                        if best.as_ref().is_none_or(|best| news(best) < news(&reply)) {
                            best = Some(reply);
                        }
                    }
                    Some(Err(failure)) => last = failure,
                    None => break,
                },
                () = sleep_until(until) => break,
            }
        }
        best.ok_or(last)
    }

    async fn ask_one(&self, node: &Address, deadline: Instant) -> Result<TopologyReply, RequestError> {
        let mut questions = Pipeline::new();
        questions.cmd("CLUSTER").arg("INFO");
        questions.cmd("CLUSTER").arg("SLOTS");
        let until = deadline.min(Instant::now() + self.config.limits.connect);
        let answers = self.connection_to(node).ask_all(&questions, until).await?;
        let [info, slots] =
            <[_; 2]>::try_from(answers).map_err(|_| RequestError::refused("the server sent too few answers"))?;
        let info: String = redis::from_redis_value(info?).unwrap_or_default();
        let epoch = info.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:"));
        let ranges = ranges(slots?, node);
        let covered = ranges.iter().map(|(first, last, _)| usize::from(last - first) + 1).sum();
        if covered == 0 {
            return Err(RequestError::RetryLater("the node serves a cluster without slots".into()).at(node));
        }
        Ok(TopologyReply { epoch: epoch.and_then(|epoch| epoch.trim().parse().ok()).unwrap_or(0), covered, ranges })
    }
}

impl Map {
    fn set(&mut self, first: u16, last: u16, address: &Address, connection: &Arc<ManagedConnection>) {
        let known = self.primaries.iter().position(|(primary, _)| primary == address);
        let at = known.unwrap_or_else(|| {
            self.primaries.push((address.clone(), Arc::clone(connection)));
            self.primaries.len() - 1
        });
        if let (Ok(at), Some(owners)) = (u16::try_from(at), self.owners.get_mut(usize::from(first)..=usize::from(last)))
        {
            owners.fill(at);
        }
    }
}

/// Parses the ranges in an answer to CLUSTER SLOTS. A node that does not know its own name leaves it out.
fn ranges(value: Value, asked: &Address) -> Vec<(u16, u16, Address)> {
    let Value::Array(entries) = value else {
        return Vec::new();
    };
    let range = |entry: Value| {
        let Value::Array(parts) = entry else {
            return None;
        };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &parts[..] else {
            return None;
        };
        let [host, Value::Int(port), ..] = &primary[..] else {
            return None;
        };
        let host: Option<String> = redis::from_redis_value(host.clone()).ok().flatten();
        let host = match (host.filter(|host| !host.is_empty() && host != "?"), asked) {
            (Some(host), _) => host,
            (None, Address::Tcp { host, .. }) => host.clone(),
            (None, Address::Unix(_)) => return None,
        };
        let slot = |slot: &i64| u16::try_from(*slot).ok().filter(|slot| *slot < SLOTS);
        let (first, last) = (slot(first)?, slot(last)?);
        (first <= last).then_some((first, last, Address::Tcp { host, port: u16::try_from(*port).ok()? }))
    };
    entries.into_iter().filter_map(range).collect()
}

/// Reads the map again when it proved to be out of date, and at intervals.
async fn keep_map(cluster: Weak<Cluster>) {
    loop {
        let Some(held) = cluster.upgrade() else {
            return;
        };
        let outdated = timeout(READ_EVERY, held.outdated.notified()).await.is_ok();
        let since = Instant::now();
        if outdated {
            tracing::debug!("slots have moved; the map of the cluster is read again");
        }
        if let Err(failure) = held.refresh(since, since + held.config.limits.operation).await {
            tracing::debug!(?failure, "the map of the cluster could not be read");
        }
        drop(held);
        sleep(REST).await;
    }
}
