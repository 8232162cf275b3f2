//! The ends that this process has recently committed, kept in case a server loses them.
//!
//! A server that is restored from an older state, or a replica that takes over, may show a revoked session as active.
//! This process keeps refusing the session, and ends it there again. An end is final, so it is always right to remember
//! one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use redis::Value;
use tenure_domain::{Change, Commit, Revision, RevocationWatermark, Session, SessionId, Timestamp};
use tenure_ports::{Clock, CommitError, StoreError};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::client::Request;
use crate::repository::RedisStore;
use crate::repository::record;

/// How long an end is kept: longer than a failover takes, and a restart.
const KEPT_FOR: Duration = Duration::from_secs(3_600);
/// The most ends that are kept. Beyond that the oldest are dropped.
const KEPT: usize = 65_536;
/// How often an end is decided again if other processes change the device at the same time.
const ATTEMPTS: usize = 16;
/// How soon a new connection is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// An end, and the rest of its commit.
#[derive(Clone)]
struct RecentEnd {
    session: Session,
    retain: usize,
    watermark: Option<RevocationWatermark>,
}

#[derive(Default)]
struct Kept {
    by_session: HashMap<SessionId, RecentEnd>,
    order: VecDeque<(Instant, SessionId)>,
}

/// The recent ends.
pub(crate) struct RecentEnds {
    /// The store's clock: an end is reported as long as its record is retained, and no longer.
    clock: Arc<dyn Clock>,
    kept: Mutex<Kept>,
    count: AtomicUsize,
    contradicted: Notify,
}

impl RecentEnds {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, kept: Mutex::default(), count: AtomicUsize::new(0), contradicted: Notify::new() }
    }

    /// Keeps the ends of a commit that was applied.
    pub(crate) fn keep(&self, commit: &Commit) {
        let ended = commit.changes.iter().map(Change::session).filter(|session| session.end.is_some());
        let mut kept = self.kept.lock();
        let now = Instant::now();
        for session in ended {
            let ending = RecentEnd { session: session.clone(), retain: commit.retain, watermark: commit.watermark };
            if kept.by_session.insert(session.id, ending).is_none() {
                kept.order.push_back((now, session.id));
            }
        }
        while kept.order.front().is_some_and(|(at, _)| kept.order.len() > KEPT || now - *at > KEPT_FOR) {
            if let Some((_, id)) = kept.order.pop_front() {
                kept.by_session.remove(&id);
            }
        }
        self.count.store(kept.order.len(), Ordering::Release);
    }

    fn get(&self, id: SessionId) -> Option<RecentEnd> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let ending = self.kept.lock().by_session.get(&id).cloned()?;
        ending.session.is_retained(self.clock.now()).then_some(ending)
    }

    fn ids(&self) -> Vec<SessionId> {
        if self.count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        self.kept.lock().by_session.keys().copied().collect()
    }

    /// Returns the kept end of a session that the server shows as active. A session that is inactive there needs none:
    /// it may have been imported again since.
    fn forgotten(&self, found: &Session) -> Option<RecentEnd> {
        let ending = self.get(found.id)?;
        found.inactive_since(self.clock.now()).is_none().then_some(ending)
    }

    /// Whether this session, which the server shows as active, was ended by this process.
    pub(crate) fn contradict(&self, found: &Session) -> bool {
        self.forgotten(found).is_some()
    }

    /// Returns the session as this process knows it, if the server has lost its end.
    pub(crate) fn correct(&self, found: Session) -> Session {
        match self.forgotten(&found) {
            None => found,
            Some(ending) => {
                self.contradicted.notify_one();
                ending.session
            }
        }
    }
}

impl RedisStore {
    /// Checks the recent ends whenever the server may be another one, or was found to have lost an end.
    pub(crate) async fn reassert_ends(store: std::sync::Weak<Self>) {
        let mut seen = None;
        loop {
            let Some(held) = store.upgrade() else {
                return;
            };
            // Connections are made again after every restart and every failover.
            let made = held.client.topology.connection_version();
            if seen != Some(made) {
                match held.reassert_all().await {
                    Ok(()) => seen = Some(made),
                    Err(error) => tracing::debug!(%error, "recent ends could not be looked after yet"),
                }
            }
            let recent_ends = Arc::clone(&held.recent_ends);
            drop(held);
            if tokio::time::timeout(LOOK_EVERY, recent_ends.contradicted.notified()).await.is_ok() {
                seen = None;
            }
        }
    }

    /// Ends the sessions again that the server shows as active.
    async fn reassert_all(&self) -> Result<(), StoreError> {
        let ids = self.recent_ends.ids();
        let heads: Vec<Request> = ids
            .iter()
            .map(|id| {
                let mut command = redis::cmd("GETRANGE");
                command.arg(self.keys.session(*id)).arg(0).arg(1);
                Request::Plain(command)
            })
            .collect();
        let answers =
            self.client.send_all_repeatable(&heads).await.map_err(|failure| self.client.fail(failure, String::new))?;
        for (id, answer) in ids.into_iter().zip(answers) {
            if matches!(answer, Value::BulkString(head) if record::is_active(&head)) {
                self.reassert_end(id).await?;
            }
        }
        Ok(())
    }

    /// Ends a session again, if the server shows it as active and this process has ended it.
    pub(crate) async fn reassert_end(&self, id: SessionId) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(device) = self.read_device_of(id).await? else {
                return Ok(());
            };
            let Some(ending) = device.session(id).and_then(|session| self.recent_ends.forgotten(session)) else {
                return Ok(());
            };
            let commit = ending.again(device.revision(), device.revocation_watermark());
            match self.submit(&commit).await {
                Ok(_) | Err(CommitError::NotDurable { .. }) => {
                    tracing::warn!(session = %id, server = %self.client.location, "the server had forgotten an end; it has it again");
                    return Ok(());
                }
                Err(CommitError::Store(error)) => return Err(error),
                // Another process changed the device, or the answer was lost: look again.
                Err(_) => {}
            }
        }
        Err(StoreError::unavailable(
            &*self.client.location,
            format!("session {id} was ended and the server has forgotten it; it could not be ended again yet"),
        ))
    }
}

impl RecentEnd {
    fn again(&self, expected: Revision, known: Option<RevocationWatermark>) -> Commit {
        let watermark = match (self.watermark, known) {
            (Some(a), Some(b)) => {
                Some(RevocationWatermark { created_at: a.created_at.max(b.created_at), until: a.until.max(b.until) })
            }
            (a, b) => a.or(b),
        };
        Commit {
            device: self.session.device.clone(),
            expected,
            not_after: Timestamp::MAX,
            guards: Vec::new(),
            changes: vec![Change::Ended(self.session.clone())],
            expired: Vec::new(),
            retain: self.retain,
            watermark,
        }
    }
}
