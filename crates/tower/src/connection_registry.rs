//! The registry of connections that outlive a request. Each is held to its session for as long as it is open.
//!
//! There is one entry per session, however many connections it has, and one task for all of them. The task rechecks a
//! session when the store reports a change, and at least every 5 s: that interval is the guarantee. It also rechecks
//! when the session expires, by the store's clock. The domain decides whether the session is active
//! ([`Sessions::check_active`]).

mod guard;
mod rechecks;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tenure_domain::{Refusal, Session, SessionId, Timestamp};
use tenure_service::Sessions;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use guard::ConnectionGuard;

/// The delay of the first recheck after a session's first connection. No event reports an end between the verification
/// and the registration.
const FIRST_RECHECK: Duration = Duration::from_millis(150);
/// The shortest time between two records of activity, in milliseconds.
const ACTIVITY_INTERVAL: u64 = 1_000;

/// The reason why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// The session is no longer active.
    Ended(Refusal),
    /// The sessions could not be read for longer than the grace period.
    StoreLost,
    /// The server is stopping.
    Shutdown,
}

impl CloseReason {
    /// Returns the WebSocket close code: 4401, 1013 (try again later) or 1001 (going away).
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::Ended(_) => 4401,
            Self::StoreLost => 1013,
            Self::Shutdown => 1001,
        }
    }

    /// Returns the reason for the close frame: for an ended session its stable code.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Ended(refusal) => refusal.code(),
            Self::StoreLost => "the sessions cannot be read at the moment",
            Self::Shutdown => "the gateway is stopping",
        }
    }
}

/// The numbers of sessions and connections in a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionCounts {
    /// Sessions with at least one connection, or that had one a moment ago.
    pub sessions: usize,
    /// Connections: WebSockets and long responses.
    pub connections: usize,
}

/// The registry of connections that outlive a request.
pub struct ConnectionRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    sessions: Arc<Sessions>,
    state: Mutex<State>,
    /// Notified when a session is to be rechecked at once.
    wake: Notify,
    /// Cancelled when the registry is dropped, which ends its tasks.
    closed: CancellationToken,
    started: AtomicBool,
    grace: AtomicU64,
    connections: AtomicUsize,
}

#[derive(Default)]
struct State {
    entries: HashMap<SessionId, TrackedSession>,
    /// The times at which sessions may end by the clock alone, soonest first.
    deadlines: BTreeSet<(Timestamp, SessionId)>,
    /// The times at which sessions are to be rechecked, soonest first.
    rechecks: BTreeSet<(Instant, SessionId)>,
    /// The sessions to recheck at once.
    queued_now: VecDeque<SessionId>,
    /// The reason with which every new connection is closed, once the registry has shut down.
    closed_with: Option<CloseReason>,
    /// Whether a shutdown has begun. Connections that still finish something stay registered.
    stopping: bool,
}

struct TrackedSession {
    entry: Arc<SessionEntry>,
    /// The session as it was last read.
    session: Session,
    /// The time since which the session cannot be read.
    unreadable_since: Option<Instant>,
    deadline: Timestamp,
    next_recheck: Instant,
    recheck_state: RecheckState,
    /// Whether the session is in the queue to be rechecked at once.
    queued: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RecheckState {
    Idle,
    /// A recheck is in progress.
    Running,
    /// A recheck is in progress, and the session may have changed since it began.
    Stale,
}

/// The part of a registered session that its connections share.
struct SessionEntry {
    id: SessionId,
    close_reason: OnceLock<CloseReason>,
    closed: CancellationToken,
    /// The time, in milliseconds since 1970, from which nothing passes until the session was rechecked.
    deadline: AtomicU64,
    /// Notified after each recheck.
    rechecked: Notify,
    connections: AtomicUsize,
    /// The time at which activity was last recorded, in milliseconds since 1970.
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
        // The first reason is kept.
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
    /// Makes a registry. `grace` is how long connections stay open while the store cannot be read, counted from the
    /// first recheck that failed.
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

    /// Replaces the grace period.
    pub fn set_grace(&self, grace: Duration) {
        self.shared.grace.store(millis(grace), Ordering::Relaxed);
    }

    /// Registers a connection of this session, which was just verified, until the guard is dropped. It is cheap enough
    /// for every request. Must be called within a tokio runtime.
    #[must_use]
    pub fn register(&self, session: &Session) -> ConnectionGuard {
        if !self.shared.started.swap(true, Ordering::AcqRel) {
            rechecks::start(Arc::clone(&self.shared));
        }
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        let entry = self.shared.state.lock().register_session(session);
        ConnectionGuard { shared: Arc::clone(&self.shared), entry }
    }

    /// Closes every connection with [`CloseReason::Shutdown`], and every one that is registered later. A connection
    /// that still finishes something is held to its session until then: [`ConnectionGuard::aborted`].
    pub fn shut_down(&self) {
        let mut state = self.shared.state.lock();
        state.stopping = true;
        for tracked in state.entries.values() {
            tracked.entry.closed.cancel();
        }
    }

    /// The numbers of sessions and connections in a registry.
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

/// Returns the first instant at which the clock alone may end a session. It says when to recheck; the domain decides
/// the outcome.
fn deadline_of(session: &Session) -> Timestamp {
    session.idle_at().map_or(session.expires_at, |idle| idle.min(session.expires_at))
}

impl Shared {
    /// Closes every connection, because nothing will recheck them any more.
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

    /// Schedules a recheck of a session at once.
    fn schedule_recheck(&self, id: SessionId) {
        if self.state.lock().schedule_now(id) {
            self.wake.notify_one();
        }
    }

    /// Schedules a recheck of every session at once.
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

    /// Queues a session to be rechecked at once. Returns false if it is not registered or already in the queue.
    fn schedule_now(&mut self, id: SessionId) -> bool {
        let Some(tracked) = self.entries.get_mut(&id).filter(|tracked| !tracked.queued) else { return false };
        tracked.queued = true;
        self.queued_now.push_back(id);
        true
    }

    /// Removes a session from the registry.
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

#[cfg(test)]
mod tests;
