//! The servers, however many there are.

use std::sync::Arc;

use tenure_domain::SessionId;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::dial::{Connection, Pushes};
use crate::link::{Link, Route};
use crate::sentinel::{self, Sentinels};
use crate::slot;
use crate::target::Target;
use crate::trouble::Trouble;
use crate::url::{Address, Topology};

/// The servers, however many there are.
pub(crate) enum Way {
    /// One that is always there, or the primary that sentinels name.
    One(Arc<Link>),
    Cluster(Arc<Cluster>),
}

impl Way {
    pub(crate) fn new(target: &Target) -> Self {
        let limits = target.access.limits;
        let access = Arc::clone(&target.access);
        match &target.topology {
            Topology::One(address) => {
                let route = Route::Fixed { access, address: address.clone(), node: false };
                Self::One(Arc::new(Link::new(route, limits)))
            }
            Topology::Sentinel { sentinels, service } => {
                let sentinels = Arc::new(Sentinels::new(
                    sentinels.clone(),
                    service.clone(),
                    access,
                    target.sentinel_password.clone(),
                ));
                let link = Arc::new(Link::new(Route::Sentinel(Arc::clone(&sentinels)), limits));
                tokio::spawn(sentinel::watch(Arc::downgrade(&sentinels), Arc::downgrade(&link)));
                Self::One(link)
            }
            Topology::Cluster(seeds) => Self::Cluster(Cluster::new(seeds.clone(), access)),
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
    pub(crate) async fn link(&self, slot: Option<u16>, deadline: Instant) -> Result<Arc<Link>, Trouble> {
        match self {
            Self::One(link) => Ok(Arc::clone(link)),
            Self::Cluster(cluster) => cluster.find(slot, deadline).await,
        }
    }

    /// Finds out whether something changed, after it seemed so.
    pub(crate) async fn reconsider(&self, deadline: Instant) {
        if let Self::Cluster(cluster) = self
            && let Err(trouble) = cluster.refresh(Instant::now(), deadline).await
        {
            tracing::debug!(?trouble, "the map of the cluster could not be read");
        }
    }

    /// Looks at the link to the server of a session, where it is known.
    pub(crate) fn with_link<T>(&self, id: SessionId, look: impl FnOnce(&Link) -> Option<T>) -> Option<T> {
        match self {
            Self::One(link) => look(link),
            Self::Cluster(cluster) => cluster.with_link(slot::of_tag(&id.to_ascii()[..2]), look),
        }
    }

    /// All primaries that are known.
    pub(crate) fn known(&self) -> Vec<Arc<Link>> {
        match self {
            Self::One(link) => vec![Arc::clone(link)],
            Self::Cluster(cluster) => cluster.links(),
        }
    }

    /// All primaries.
    pub(crate) async fn links(&self, deadline: Instant) -> Result<Vec<Arc<Link>>, Trouble> {
        match self {
            Self::One(link) => Ok(vec![Arc::clone(link)]),
            Self::Cluster(cluster) => {
                cluster.find(None, deadline).await?;
                Ok(cluster.links())
            }
        }
    }

    /// A connection of its own to any server on which pushes arrive, and where it leads.
    pub(crate) async fn dial(&self, pushes: Pushes, deadline: Instant) -> Result<(Connection, Address), Trouble> {
        self.link(None, deadline).await?.route().dial(Some(pushes), deadline).await
    }

    /// Whether a server is still one that has all news.
    pub(crate) fn serves(&self, address: &Address) -> bool {
        match self {
            Self::One(link) => link.route().leads_right(address),
            Self::Cluster(cluster) => cluster.has(address),
        }
    }
}
