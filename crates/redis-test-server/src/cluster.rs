//! A cluster of three primaries, with or without replicas.

use std::time::Duration;

use redis::Value;

use crate::tls::tls_port;
use crate::{Certificates, Server, free_port, role, try_ask, wait_until};

const PRIMARIES: usize = 3;
const SLOTS: usize = 16_384;

/// A cluster. The first three nodes begin as primaries of a third of the slots each.
pub struct Cluster {
    nodes: Vec<Server>,
    certificates: Option<Certificates>,
}

impl Cluster {
    /// Starts three primaries, and waits until they form a cluster.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(false, &[])
    }

    /// Starts a cluster with TLS between the nodes, and a TLS port beside the plain port of each.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_with_tls() -> Self {
        Self::start_as(false, &[], Some(Certificates::make()))
    }

    /// Starts a cluster, with a replica for each primary if asked for, and with more arguments for all nodes.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_with(replicas: bool, arguments: &[&str]) -> Self {
        Self::start_as(replicas, arguments, None)
    }

    fn start_as(replicas: bool, arguments: &[&str], certificates: Option<Certificates>) -> Self {
        let count = if replicas { 2 * PRIMARIES } else { PRIMARIES };
        let nodes: Vec<Server> = (0..count).map(|_| node(arguments, certificates.as_ref())).collect();
        for (number, node) in nodes.iter().enumerate() {
            node.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
        }
        for (number, node) in nodes.iter().take(PRIMARIES).enumerate() {
            let (first, end) = (number * SLOTS / PRIMARIES, (number + 1) * SLOTS / PRIMARIES);
            node.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &(end - 1).to_string()]);
        }
        for node in &nodes[1..] {
            let bus: (String, String) = node.ask(&["CONFIG", "GET", "cluster-port"]);
            let port = if certificates.is_some() { tls_port(node) } else { node.port() };
            nodes[0].ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port.to_string(), &bus.1]);
        }
        let cluster = Self { nodes, certificates };
        wait_until("all nodes know each other", || {
            cluster.nodes.iter().all(|node| cluster.info(node, "cluster_known_nodes") == count.to_string())
        });
        for number in PRIMARIES..count {
            let primary = cluster.id(number - PRIMARIES);
            wait_until("it replicates its primary", || {
                try_ask::<()>(cluster.nodes[number].port(), &["CLUSTER", "REPLICATE", &primary]).is_ok()
            });
        }
        wait_until("the replicas have caught up", || {
            cluster.nodes[PRIMARIES..].iter().all(|node| role(node.port()).as_deref() == Some("slave connected"))
        });
        cluster.wait_until_whole();
        cluster
    }

    /// Waits until each running node says that every slot is served, and all agree on the map.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn wait_until_whole(&self) {
        wait_until("the cluster serves all its slots", || {
            let seen: Vec<_> = self.nodes.iter().filter_map(|node| owners(node.port())).collect();
            !seen.is_empty()
                && seen.iter().all(|owners| owners.len() == SLOTS && *owners == seen[0])
                && self.nodes.iter().all(|node| {
                    let info = try_ask::<String>(node.port(), &["CLUSTER", "INFO"]);
                    info.map_or(true, |info| info.contains("cluster_state:ok"))
                })
        });
    }

    /// Returns the cluster's URL, with the first two nodes.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", self.nodes[0].port(), self.nodes[1].port())
    }

    /// Returns the cluster's TLS URL, and the authority to trust.
    ///
    /// # Panics
    /// If it was started without TLS.
    #[must_use]
    pub fn tls(&self) -> (String, &Certificates) {
        let certificates = self.certificates.as_ref().unwrap_or_else(|| panic!("a cluster without TLS"));
        let ports = [tls_port(&self.nodes[0]), tls_port(&self.nodes[1])];
        (format!("rediss+cluster://127.0.0.1:{},127.0.0.1:{}", ports[0], ports[1]), certificates)
    }

    /// Returns the nodes: the first primaries, then their replicas.
    #[must_use]
    pub fn nodes(&self) -> &[Server] {
        &self.nodes
    }

    /// Returns one of the nodes, to be stopped.
    #[must_use]
    pub fn node_mut(&mut self, number: usize) -> &mut Server {
        &mut self.nodes[number]
    }

    /// Returns the slot of a key.
    ///
    /// # Panics
    /// If the first node does not answer.
    #[must_use]
    pub fn slot(&self, key: &str) -> u16 {
        self.nodes[0].ask(&["CLUSTER", "KEYSLOT", key])
    }

    /// Returns the number of the node that serves a slot.
    ///
    /// # Panics
    /// If the first node does not answer.
    #[must_use]
    pub fn owner(&self, slot: u16) -> usize {
        let port = owners(self.nodes[0].port()).and_then(|owners| owners.get(usize::from(slot)).copied());
        let found = port.and_then(|port| self.nodes.iter().position(|node| node.port() == port));
        found.unwrap_or_else(|| panic!("nobody serves slot {slot}"))
    }

    /// Moves a slot to another node key by key, as `redis-cli --cluster reshard` does, resting after each `batch`
    /// of keys.
    ///
    /// # Panics
    /// If a node refuses.
    pub fn move_slot(&self, slot: u16, to: usize, batch: usize, rest: Duration) {
        let from = self.owner(slot);
        if from == to {
            return;
        }
        let (source, target, slot) = (&self.nodes[from], &self.nodes[to], slot.to_string());
        target.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.id(from)]);
        source.ask::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.id(to)]);
        loop {
            let keys: Vec<String> = source.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, &batch.to_string()]);
            if keys.is_empty() {
                break;
            }
            let port = target.port().to_string();
            let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            source.ask::<String>(&words);
            std::thread::sleep(rest);
        }
        let id = self.id(to);
        for node in [target, source].into_iter().chain(&self.nodes) {
            // The third node may have learned it already; a replica takes no such command.
            let _ = try_ask::<()>(node.port(), &["CLUSTER", "SETSLOT", &slot, "NODE", &id]);
        }
    }

    fn id(&self, number: usize) -> String {
        self.nodes[number].ask(&["CLUSTER", "MYID"])
    }

    fn info(&self, node: &Server, name: &str) -> String {
        let info: String = node.ask(&["CLUSTER", "INFO"]);
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    }
}

fn node(arguments: &[&str], certificates: Option<&Certificates>) -> Server {
    Server::start_each(|| {
        let bus = free_port().to_string();
        let words = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port", &bus];
        let more = ["--repl-diskless-sync-delay", "0"];
        let plain = words.iter().chain(&more).chain(arguments).map(|&word| word.to_owned());
        let tls = certificates.map(|certificates| certificates.arguments("no", &["tls-cluster", "tls-replication"]));
        plain.chain(tls.into_iter().flatten()).collect()
    })
}

/// The port of each slot's primary, as one node sees it.
fn owners(port: u16) -> Option<Vec<u16>> {
    let ranges: Vec<(usize, usize, Vec<Value>)> = try_ask::<Vec<Vec<Value>>>(port, &["CLUSTER", "SLOTS"])
        .ok()?
        .into_iter()
        .map(|entry| {
            let number = |at: usize| redis::from_redis_value::<usize>(entry.get(at)?.clone()).ok();
            Some((number(0)?, number(1)?, redis::from_redis_value(entry.get(2)?.clone()).ok()?))
        })
        .collect::<Option<_>>()?;
    let mut owners = vec![0; SLOTS];
    for (first, last, primary) in ranges {
        owners[first..=last].fill(redis::from_redis_value::<u16>(primary.get(1)?.clone()).ok()?);
    }
    owners.iter().all(|port| *port != 0).then_some(owners)
}
