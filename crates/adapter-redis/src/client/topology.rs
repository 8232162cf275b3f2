//! The topology: one server, or several with sentinels or in a cluster.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tenure_domain::SessionId;
use tokio::time::{Instant, sleep};

use crate::client::cluster::Cluster;
use crate::client::config::Config;
use crate::client::connector::{Connection, Pushes};
use crate::client::managed_connection::{ManagedConnection, Route};
use crate::client::request_error::RequestError;
use crate::client::sentinel::Sentinels;
use crate::client::slot;
use crate::client::url::{Address, TopologyConfig};

/// How often the sentinels are asked whether the primary is still the same. A primary that was cut off from them keeps
/// answering as if nothing had happened.
const SENTINEL_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The topology: one server, or several with sentinels or in a cluster.
pub(crate) enum Topology {
    /// One server at a fixed address, or the primary that sentinels name.
    One(Arc<ManagedConnection>),
    Cluster(Arc<Cluster>),
}

impl Topology {
    pub(crate) fn new(config: &Config) -> Self {
        let limits = config.connect.limits;
        let connect = Arc::clone(&config.connect);
        match &config.topology {
            TopologyConfig::One(address) => {
                let route = Route::Fixed { config: connect, address: address.clone(), node: false };
                Self::One(Arc::new(ManagedConnection::new(route, limits)))
            }
            TopologyConfig::Sentinel { sentinels, service } => {
                let sentinels = Arc::new(Sentinels::new(
                    sentinels.clone(),
                    service.clone(),
                    connect,
                    config.sentinel_password.clone(),
                ));
                let connection = Arc::new(ManagedConnection::new(Route::Sentinel(Arc::clone(&sentinels)), limits));
                tokio::spawn(watch_sentinels(Arc::downgrade(&sentinels), Arc::downgrade(&connection)));
                Self::One(connection)
            }
            TopologyConfig::Cluster(seeds) => Self::Cluster(Cluster::new(seeds.clone(), connect)),
        }
    }

    /// Returns a number that changes whenever a connection is made again, and when a cluster's primaries change.
    pub(crate) fn connection_version(&self) -> u64 {
        match self {
            Self::One(connection) => connection.connections_made(),
            Self::Cluster(cluster) => cluster.connections().iter().fold(0, |sum, connection| {
                u64::wrapping_add(u64::wrapping_mul(sum, 31), connection.connections_made())
            }),
        }
    }

    /// Whether the server that answers may change by itself, so that another attempt at once may help.
    pub(crate) fn may_change(&self) -> bool {
        match self {
            Self::One(connection) => matches!(connection.route(), Route::Sentinel(_)),
            Self::Cluster(_) => true,
        }
    }

    /// Returns the connection to the server of a slot, or to any server.
    pub(crate) async fn connection(
        &self,
        slot: Option<u16>,
        deadline: Instant,
    ) -> Result<Arc<ManagedConnection>, RequestError> {
        match self {
            Self::One(connection) => Ok(Arc::clone(connection)),
            Self::Cluster(cluster) => cluster.find(slot, deadline).await,
        }
    }

    /// Checks whether the topology changed, after a sign that it did.
    pub(crate) async fn reconsider(&self, deadline: Instant) {
        if let Self::Cluster(cluster) = self
            && let Err(failure) = cluster.refresh(Instant::now(), deadline).await
        {
            tracing::debug!(?failure, "the map of the cluster could not be read");
        }
    }

    /// Returns the connection to the server of a session, if it is known.
    pub(crate) fn with_connection<T>(
        &self,
        id: SessionId,
        look: impl FnOnce(&ManagedConnection) -> Option<T>,
    ) -> Option<T> {
        match self {
            Self::One(connection) => look(connection),
            Self::Cluster(cluster) => cluster.with_connection(slot::of_tag(&id.to_ascii()[..2]), look),
        }
    }

    /// All primaries that are known.
    pub(crate) fn known_connections(&self) -> Vec<Arc<ManagedConnection>> {
        match self {
            Self::One(connection) => vec![Arc::clone(connection)],
            Self::Cluster(cluster) => cluster.connections(),
        }
    }

    /// All primaries.
    pub(crate) async fn connections(&self, deadline: Instant) -> Result<Vec<Arc<ManagedConnection>>, RequestError> {
        match self {
            Self::One(connection) => Ok(vec![Arc::clone(connection)]),
            Self::Cluster(cluster) => {
                cluster.find(None, deadline).await?;
                Ok(cluster.connections())
            }
        }
    }

    /// Makes a separate connection to any server for push messages. Also returns its address.
    pub(crate) async fn dial(&self, pushes: Pushes, deadline: Instant) -> Result<(Connection, Address), RequestError> {
        self.connection(None, deadline).await?.route().dial(Some(pushes), deadline).await
    }

    /// Whether a server still receives all events.
    pub(crate) fn serves(&self, address: &Address) -> bool {
        match self {
            Self::One(connection) => connection.route().is_current_primary(address),
            Self::Cluster(cluster) => cluster.has(address),
        }
    }
}

/// Closes the managed connection when the sentinels name another primary than the one it leads to.
async fn watch_sentinels(sentinels: Weak<Sentinels>, connection: Weak<ManagedConnection>) {
    loop {
        sleep(SENTINEL_POLL_INTERVAL).await;
        let (Some(sentinels), Some(connection)) = (sentinels.upgrade(), connection.upgrade()) else {
            return;
        };
        if let Err(failure) = sentinels.refresh().await {
            tracing::debug!(?failure, "the sentinels do not answer");
        }
        connection.disconnect_unless(|address| sentinels.is_primary(address));
    }
}
