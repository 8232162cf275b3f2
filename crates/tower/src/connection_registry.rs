//! Connections that last: each is held to its session for as long as it is open.
//!
//! One entry per session, however many connections it has, and one task for all of them. News of changes makes it
//! look at once; that it looks at least every 5 s is what can be relied on. An expiry is met by the store's clock. What
//! a look comes to is the domain's verdict ([`Sessions::check_active`]).

mod rechecks;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tenure_domain::{Refusal, Session, SessionId, Timestamp};
use tenure_service::Sessions;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How soon after a session's first connection it is looked at again: an end that came between its verification and
/// its registration was news to nobody.
const FIRST_RECHECK: Duration = Duration::from_millis(150);
/// Activity is noted no more often than this.
const ACTIVITY_INTERVAL: u64 = 1_000;

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Its session no longer holds.
    Ended(Refusal),
    /// For longer than the grace nobody could tell whether its session holds.
    StoreLost,
    /// The gateway stops.
    Shutdown,
}

impl CloseReason {
    /// The WebSocket close code: 4401, 1013 (try again later) or 1001 (going away).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Ended(_) => 4401,
            Self::StoreLost => 1013,
            Self::Shutdown => 1001,
        }
    }

    /// The reason in the close frame: for an ended session its stable code.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Ended(refusal) => refusal.code(),
            Self::StoreLost => "the sessions cannot be read at the moment",
            Self::Shutdown => "the gateway is stopping",
        }
    }
}

/// How much is being watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Sessions with at least one connection, or that had one a moment ago.
    pub sessions: usize,
    /// Connections: WebSockets and long responses.
    pub connections: usize,
}

/// The registry of live connections.
pub struct ConnectionRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    sessions: Arc<Sessions>,
    state: Mutex<State>,
    /// There is something urgent to look at.
    wake: Notify,
    /// Nobody needs the driver any more.
    closed: CancellationToken,
    started: AtomicBool,
    grace: AtomicU64,
    connections: AtomicUsize,
}

#[derive(Default)]
struct State {
    entries: HashMap<SessionId, TrackedSession>,
    /// When each session may end by the clock alone, soonest first.
    deadlines: BTreeSet<(Timestamp, SessionId)>,
    /// When each is to be looked at, soonest first.
    rechecks: BTreeSet<(Instant, SessionId)>,
    /// Those to look at now.
    queued_now: VecDeque<SessionId>,
    /// What every new connection is told, once nothing is watched any more.
    closed_with: Option<CloseReason>,
    /// Whether connections are told to end, and those that finish something are watched until then.
    stopping: bool,
}

struct TrackedSession {
    entry: Arc<SessionEntry>,
    /// As it was last read.
    session: Session,
    /// Since when it cannot be read.
    unreadable_since: Option<Instant>,
    deadline: Timestamp,
    next_recheck: Instant,
    recheck_state: RecheckState,
    /// Among the urgent.
    queued: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RecheckState {
    Idle,
    /// A recheck is in progress.
    Running,
    /// A recheck is in progress, and something happened since it began.
    Stale,
}

/// What a session's connections see of it.
struct SessionEntry {
    id: SessionId,
    close_reason: OnceLock<CloseReason>,
    closed: CancellationToken,
    /// From this instant (milliseconds) on nothing passes until it was looked at again.
    deadline: AtomicU64,
    /// Notified after each recheck.
    rechecked: Notify,
    connections: AtomicUsize,
    /// When activity was last noted (milliseconds).
    activity_noted: AtomicU64,
}

impl SessionEntry {
    fn new(id: SessionId, deadline: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            id,
            close_reason: OnceLock::new(),
            closed: CancellationToken::new(),
            deadline: AtomicU64::new(deadline.as_millis()),
            rechecked: Notify::new(),
            connections: AtomicUsize::new(0),
            activity_noted: AtomicU64::new(0),
        })
    }

    fn close(&self, close_reason: CloseReason) {
        // The first reason stands.
        let _ = self.close_reason.set(close_reason);
        self.closed.cancel();
        self.rechecked.notify_waiters();
    }

    fn allow_until(&self, deadline: Timestamp) {
        self.deadline.store(deadline.as_millis(), Ordering::Release);
        self.rechecked.notify_waiters();
    }
}

impl ConnectionRegistry {
    /// A registry over these use cases. `grace` is how long connections stay while the store cannot be read, counted
    /// from the first look that found it so.
    #[must_use]
    pub fn new(sessions: Arc<Sessions>, grace: Duration) -> Self {
        let shared = Shared {
            sessions,
            state: Mutex::default(),
            wake: Notify::new(),
            closed: CancellationToken::new(),
            started: AtomicBool::new(false),
            grace: AtomicU64::new(millis(grace)),
            connections: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Goes by another grace from now on.
    pub fn set_grace(&self, grace: Duration) {
        self.shared.grace.store(millis(grace), Ordering::Relaxed);
    }

    /// Watches a connection that was admitted with this session, just verified, until the guard is dropped. Cheap
    /// enough for every request. Must be called within a tokio runtime.
    #[must_use]
    pub fn register(&self, session: &Session) -> ConnectionGuard {
        if !self.shared.started.swap(true, Ordering::AcqRel) {
            rechecks::start(Arc::clone(&self.shared));
        }
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        let entry = self.shared.state.lock().register_session(session);
        ConnectionGuard { shared: Arc::clone(&self.shared), entry }
    }

    /// Tells every connection to end, and each that comes later, with [`CloseReason::Shutdown`]. What is finished after that
    /// is held to its session all the same: [`ConnectionGuard::aborted`].
    pub fn shut_down(&self) {
        let mut state = self.shared.state.lock();
        state.stopping = true;
        for tracked in state.entries.values() {
            tracked.entry.closed.cancel();
        }
    }

    /// How much is being watched.
    #[must_use]
    pub fn counts(&self) -> ConnectionCounts {
        ConnectionCounts {
            sessions: self.shared.state.lock().entries.len(),
            connections: self.shared.connections.load(Ordering::Relaxed),
        }
    }
}

impl Drop for ConnectionRegistry {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The first instant at which the clock alone may end a session. When to ask, never the answer.
fn deadline_of(session: &Session) -> Timestamp {
    session.idle_at().map_or(session.expires_at, |idle| idle.min(session.expires_at))
}

impl Shared {
    /// Ends everything, since nobody watches any more.
    fn close_all(&self) {
        let mut state = self.state.lock();
        state.closed_with = Some(CloseReason::Shutdown);
        for (_, tracked) in state.entries.drain() {
            tracked.entry.close(CloseReason::Shutdown);
        }
        state.deadlines.clear();
        state.rechecks.clear();
        state.queued_now.clear();
    }

    /// Looks at a session as soon as can be.
    fn schedule_recheck(&self, id: SessionId) {
        if self.state.lock().schedule_now(id) {
            self.wake.notify_one();
        }
    }

    /// Looks at every session as soon as can be.
    fn schedule_recheck_all(&self) {
        let mut state = self.state.lock();
        let ids: Vec<SessionId> = state.entries.keys().copied().collect();
        for id in ids {
            state.schedule_now(id);
        }
        drop(state);
        self.wake.notify_one();
    }
}

impl State {
    fn register_session(&mut self, session: &Session) -> Arc<SessionEntry> {
        let deadline = deadline_of(session);
        if let Some(close_reason) = self.closed_with {
            let entry = SessionEntry::new(session.id, deadline);
            entry.connections.fetch_add(1, Ordering::Relaxed);
            entry.close(close_reason);
            return entry;
        }
        let tracked = self.entries.entry(session.id).or_insert_with(|| {
            let next_recheck = Instant::now() + FIRST_RECHECK;
            self.deadlines.insert((deadline, session.id));
            self.rechecks.insert((next_recheck, session.id));
            let entry = SessionEntry::new(session.id, deadline);
            TrackedSession {
                entry,
                session: session.clone(),
                unreadable_since: None,
                deadline,
                next_recheck,
                recheck_state: RecheckState::Idle,
                queued: false,
            }
        });
        tracked.entry.connections.fetch_add(1, Ordering::Relaxed);
        if self.stopping {
            tracked.entry.closed.cancel();
        }
        Arc::clone(&tracked.entry)
    }

    /// Has a session looked at as soon as can be; false where it is not watched, or in the queue already.
    fn schedule_now(&mut self, id: SessionId) -> bool {
        let Some(tracked) = self.entries.get_mut(&id).filter(|tracked| !tracked.queued) else { return false };
        tracked.queued = true;
        self.queued_now.push_back(id);
        true
    }

    /// Watches a session no longer.
    fn remove(&mut self, id: SessionId) -> Option<TrackedSession> {
        let tracked = self.entries.remove(&id)?;
        self.deadlines.remove(&(tracked.deadline, id));
        self.rechecks.remove(&(tracked.next_recheck, id));
        Some(tracked)
    }

    fn recheck_at(&mut self, id: SessionId, next_recheck: Instant) {
        if let Some(tracked) = self.entries.get_mut(&id) {
            self.rechecks.remove(&(tracked.next_recheck, id));
            tracked.next_recheck = next_recheck;
            self.rechecks.insert((next_recheck, id));
        }
    }

    fn set_deadline(&mut self, id: SessionId, deadline: Timestamp) {
        if let Some(tracked) = self.entries.get_mut(&id) {
            self.deadlines.remove(&(tracked.deadline, id));
            tracked.deadline = deadline;
            self.deadlines.insert((deadline, id));
        }
    }
}

/// A connection that is watched; dropped, it is no longer.
pub struct ConnectionGuard {
    shared: Arc<Shared>,
    entry: Arc<SessionEntry>,
}

impl ConnectionGuard {
    /// Whose connection it is.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.entry.id
    }

    /// Resolves when the connection must end, with the reason.
    pub fn closed(&self) -> impl Future<Output = CloseReason> + Send + use<> {
        let entry = Arc::clone(&self.entry);
        async move {
            entry.closed.cancelled().await;
            entry.close_reason.get().copied().unwrap_or(CloseReason::Shutdown)
        }
    }

    /// Resolves when the connection may not even finish what it has begun: as [`ConnectionGuard::closed`], but not where the
    /// gateway only stops.
    pub fn aborted(&self) -> impl Future<Output = CloseReason> + Send + use<> {
        let entry = Arc::clone(&self.entry);
        async move {
            loop {
                let rechecked = entry.rechecked.notified();
                tokio::pin!(rechecked);
                rechecked.as_mut().enable();
                if let Some(close_reason) = entry.close_reason.get() {
                    return *close_reason;
                }
                rechecked.await;
            }
        }
    }

    /// Whether data may pass at this instant without asking further. Where not, [`ConnectionGuard::check_open`] asks.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.entry.close_reason.get().is_none() && self.before_deadline()
    }

    fn before_deadline(&self) -> bool {
        self.shared.sessions.now().as_millis() < self.entry.deadline.load(Ordering::Acquire)
    }

    /// Whether data may pass now. Where the clock may have ended the session, the answer waits for a look at it.
    ///
    /// # Errors
    /// [`CloseReason`]: nothing may pass any more.
    pub async fn check_open(&self) -> Result<(), CloseReason> {
        loop {
            let rechecked = self.entry.rechecked.notified();
            tokio::pin!(rechecked);
            rechecked.as_mut().enable();
            if let Some(close_reason) = self.entry.close_reason.get() {
                return Err(*close_reason);
            }
            if self.before_deadline() {
                return Ok(());
            }
            self.shared.wake.notify_one();
            rechecked.await;
        }
    }

    /// Counts use of the session; at most once a second, however often it is called. Only after [`ConnectionGuard::check_open`].
    pub fn note_activity(&self) {
        let now = self.shared.sessions.now().as_millis();
        let activity_noted = self.entry.activity_noted.load(Ordering::Relaxed);
        if now.saturating_sub(activity_noted) >= ACTIVITY_INTERVAL {
            self.entry.activity_noted.store(now, Ordering::Relaxed);
            self.shared.sessions.note_activity(self.entry.id);
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        // The driver forgets a session without connections when it next comes by.
        self.entry.connections.fetch_sub(1, Ordering::Relaxed);
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
