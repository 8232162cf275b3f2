//! Which sessions are kept by the news of which server: on a cluster each primary tells of its own slots only.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tenure_domain::{Session, SessionId};
use tenure_ports::SessionCache;

use crate::link::Link;
use crate::near::Near;
use crate::target::Limits;
use crate::tracking::{self, Sign};
use crate::way::Way;

/// How many sessions are kept at most by all servers' news together; about 0.7 KiB each. Beyond that the least used go.
const CAPACITY: usize = 131_072;
/// How soon a new primary of a cluster is listened to.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The sessions kept in memory.
pub(crate) struct Nears {
    way: Arc<Way>,
}

impl Nears {
    /// Begins to listen to all servers there are and will be.
    pub(crate) fn start(way: Arc<Way>, limits: Limits) -> Arc<Self> {
        let nears = Arc::new(Self { way });
        match &*nears.way {
            Way::One(link) => listen(link, CAPACITY, Sign::Primary, limits),
            Way::Cluster(_) => drop(tokio::spawn(listen_to_all(Arc::downgrade(&nears), limits))),
        }
        nears
    }

    /// Where a session is kept, if it is.
    pub(crate) fn of(&self, id: SessionId) -> Option<Arc<Near>> {
        self.way.with_link(id, |link| link.near().cloned())
    }

    /// Forgets a session, and spoils the reads of it that are under way.
    pub(crate) fn forget(&self, id: SessionId) {
        // Its slot may have moved since: whoever keeps it has to forget it.
        for link in self.way.known() {
            if let Some(near) = link.near() {
                near.forget(id);
            }
        }
    }

    /// Whether what is kept may be used now, whichever server it is of.
    pub(crate) fn is_usable(&self) -> bool {
        let links = self.way.known();
        !links.is_empty() && links.iter().all(|link| link.near().is_some_and(|near| near.is_usable()))
    }
}

impl SessionCache for Nears {
    fn find_cached(&self, id: SessionId) -> Option<Session> {
        self.way.with_link(id, |link| link.near()?.recall(id))
    }
}

fn listen(link: &Arc<Link>, capacity: usize, sign: Sign, limits: Limits) {
    if link.near().is_none() {
        let near = Arc::new(Near::new(capacity));
        let (kept, server) = (Arc::downgrade(&near), Arc::downgrade(link));
        link.keep_near(near);
        tokio::spawn(tracking::keep(kept, server, sign, limits));
    }
}

async fn listen_to_all(nears: Weak<Nears>, limits: Limits) {
    while let Some(kept) = nears.upgrade() {
        let links = kept.way.known();
        for link in &links {
            listen(link, CAPACITY / links.len(), Sign::WholeCluster, limits);
        }
        drop((kept, links));
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
