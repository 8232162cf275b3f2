//! The servers, however many there are.

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

/// How often the sentinels are asked whether the primary is still the same. A primary that was cut off from them
/// answers on as if nothing had happened.
const SENTINEL_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The servers, however many there are.
pub(crate) enum Topology {
    /// One that is always there, or the primary that sentinels name.
    One(Arc<ManagedConnection>),
    Cluster(Arc<Cluster>),
}

impl Topology {
    pub(crate) fn new(target: &Config) -> Self {
        let limits = target.access.limits;
        let access = Arc::clone(&target.access);
        match &target.topology {
            TopologyConfig::One(address) => {
                let route = Route::Fixed { access, address: address.clone(), node: false };
                Self::One(Arc::new(ManagedConnection::new(route, limits)))
            }
            TopologyConfig::Sentinel { sentinels, service } => {
                let sentinels = Arc::new(Sentinels::new(
                    sentinels.clone(),
                    service.clone(),
                    access,
                    target.sentinel_password.clone(),
                ));
                let link = Arc::new(ManagedConnection::new(Route::Sentinel(Arc::clone(&sentinels)), limits));
                tokio::spawn(watch_sentinels(Arc::downgrade(&sentinels), Arc::downgrade(&link)));
                Self::One(link)
            }
            TopologyConfig::Cluster(seeds) => Self::Cluster(Cluster::new(seeds.clone(), access)),
        }
    }

    /// A number that changes whenever a connection is made again, and when a cluster's primaries change.
    pub(crate) fn connections(&self) -> u64 {
        match self {
            Self::One(link) => link.connections(),
            Self::Cluster(cluster) => cluster
                .links()
                .iter()
                .fold(0, |sum, link| u64::wrapping_add(u64::wrapping_mul(sum, 31), link.connections())),
        }
    }

    /// Whether it may change by itself which server answers, so that it is worth trying again at once.
    pub(crate) fn may_change(&self) -> bool {
        match self {
            Self::One(link) => matches!(link.route(), Route::Sentinel(_)),
            Self::Cluster(_) => true,
        }
    }

    /// The link to the server of a slot, or to any.
    pub(crate) async fn link(
        &self,
        slot: Option<u16>,
        deadline: Instant,
    ) -> Result<Arc<ManagedConnection>, RequestError> {
        match self {
            Self::One(link) => Ok(Arc::clone(link)),
            Self::Cluster(cluster) => cluster.find(slot, deadline).await,
        }
    }

    /// Finds out whether something changed, after it seemed so.
    pub(crate) async fn reconsider(&self, deadline: Instant) {
        if let Self::Cluster(cluster) = self
            && let Err(failure) = cluster.refresh(Instant::now(), deadline).await
        {
            tracing::debug!(?failure, "the map of the cluster could not be read");
        }
    }

    /// Looks at the link to the server of a session, where it is known.
    pub(crate) fn with_connection<T>(
        &self,
        id: SessionId,
        look: impl FnOnce(&ManagedConnection) -> Option<T>,
    ) -> Option<T> {
        match self {
            Self::One(link) => look(link),
            Self::Cluster(cluster) => cluster.with_connection(slot::of_tag(&id.to_ascii()[..2]), look),
        }
    }

    /// All primaries that are known.
    pub(crate) fn known(&self) -> Vec<Arc<ManagedConnection>> {
        match self {
            Self::One(link) => vec![Arc::clone(link)],
            Self::Cluster(cluster) => cluster.links(),
        }
    }

    /// All primaries.
    pub(crate) async fn links(&self, deadline: Instant) -> Result<Vec<Arc<ManagedConnection>>, RequestError> {
        match self {
            Self::One(link) => Ok(vec![Arc::clone(link)]),
            Self::Cluster(cluster) => {
                cluster.find(None, deadline).await?;
                Ok(cluster.links())
            }
        }
    }

    /// A connection of its own to any server on which pushes arrive, and where it leads.
    pub(crate) async fn dial(&self, pushes: Pushes, deadline: Instant) -> Result<(Connection, Address), RequestError> {
        self.link(None, deadline).await?.route().dial(Some(pushes), deadline).await
    }

    /// Whether a server is still one that has all news.
    pub(crate) fn serves(&self, address: &Address) -> bool {
        match self {
            Self::One(link) => link.route().is_current_primary(address),
            Self::Cluster(cluster) => cluster.has(address),
        }
    }
}

/// Gives the link's connection up when the sentinels name another primary than the one it leads to.
async fn watch_sentinels(sentinels: Weak<Sentinels>, link: Weak<ManagedConnection>) {
    loop {
        sleep(SENTINEL_POLL_INTERVAL).await;
        let (Some(sentinels), Some(link)) = (sentinels.upgrade(), link.upgrade()) else {
            return;
        };
        if let Err(failure) = sentinels.refresh().await {
            tracing::debug!(?failure, "the sentinels do not answer");
        }
        link.disconnect_unless(|address| sentinels.is_primary(address));
    }
}
