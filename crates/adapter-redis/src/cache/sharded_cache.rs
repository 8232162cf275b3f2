//! The caches of all servers: on a cluster, each primary reports changes of its own slots only.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tenure_domain::{Session, SessionId};
use tenure_ports::SessionCache;

use crate::cache::client_cache::ClientCache;
use crate::cache::invalidation::{self, HealthProbe};
use crate::client::config::Limits;
use crate::client::managed_connection::ManagedConnection;
use crate::client::topology::Topology;

/// The most cached sessions of all servers together, about 0.7 KiB each. Beyond that the least used are dropped.
const CAPACITY: usize = 131_072;
/// How soon a connection to a new primary of a cluster is made.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The cached sessions of all servers.
pub(crate) struct ShardedCache {
    topology: Arc<Topology>,
}

impl ShardedCache {
    /// Starts to receive changes from all present and future servers.
    pub(crate) fn start(topology: Arc<Topology>, limits: Limits) -> Arc<Self> {
        let cache = Arc::new(Self { topology });
        match &*cache.topology {
            Topology::One(connection) => listen(connection, CAPACITY, HealthProbe::Primary, limits),
            Topology::Cluster(_) => drop(tokio::spawn(listen_to_all(Arc::downgrade(&cache), limits))),
        }
        cache
    }

    /// Returns the cache that a session belongs to, if there is one.
    pub(crate) fn of(&self, id: SessionId) -> Option<Arc<ClientCache>> {
        self.topology.with_connection(id, |connection| connection.cache().cloned())
    }

    /// Removes a session, and invalidates the reads of it that are in progress.
    pub(crate) fn forget(&self, id: SessionId) {
        // The slot may have moved, so every cache has to remove the session.
        for connection in self.topology.known_connections() {
            if let Some(cache) = connection.cache() {
                cache.forget(id);
            }
        }
    }

    /// Whether the sessions of every server may be used now.
    pub(crate) fn is_usable(&self) -> bool {
        let connections = self.topology.known_connections();
        !connections.is_empty()
            && connections.iter().all(|connection| connection.cache().is_some_and(|cache| cache.is_usable()))
    }
}

impl SessionCache for ShardedCache {
    fn find_cached(&self, id: SessionId) -> Option<Session> {
        self.topology.with_connection(id, |connection| connection.cache()?.get(id))
    }
}

fn listen(connection: &Arc<ManagedConnection>, capacity: usize, probe: HealthProbe, limits: Limits) {
    if connection.cache().is_none() {
        let cache = Arc::new(ClientCache::new(capacity));
        let (kept, server) = (Arc::downgrade(&cache), Arc::downgrade(connection));
        connection.set_cache(cache);
        tokio::spawn(invalidation::keep(kept, server, probe, limits));
    }
}

async fn listen_to_all(cache: Weak<ShardedCache>, limits: Limits) {
    while let Some(kept) = cache.upgrade() {
        let connections = kept.topology.known_connections();
        for connection in &connections {
            listen(connection, CAPACITY / connections.len(), HealthProbe::WholeCluster, limits);
        }
        drop((kept, connections));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
