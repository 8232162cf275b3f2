//! Connections that last: each is held to its session for as long as it is open.
//!
//! One entry per session, however many connections it has, and one task for all of them. News of changes makes it
//! look at once; that it looks at least every 5 s is what can be relied on. An expiry is met by the store's clock. What
//! a look comes to is the domain's verdict ([`Sessions::still_holds`]).

mod driver;

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
const FIRST_LOOK: Duration = Duration::from_millis(150);
/// Activity is noted no more often than this.
const NOTE_EVERY: u64 = 1_000;

/// Why a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Its session no longer holds.
    Ended(Refusal),
    /// For longer than the grace nobody could tell whether its session holds.
    StoreLost,
    /// The gateway stops.
    Shutdown,
}

impl Cut {
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
pub struct Counts {
    /// Sessions with at least one connection, or that had one a moment ago.
    pub sessions: usize,
    /// Connections: WebSockets and long responses.
    pub connections: usize,
}

/// The registry of live connections.
pub struct Live {
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
    entries: HashMap<SessionId, Entry>,
    /// When each session may end by the clock alone, soonest first.
    dues: BTreeSet<(Timestamp, SessionId)>,
    /// When each is to be looked at, soonest first.
    checks: BTreeSet<(Instant, SessionId)>,
    /// Those to look at now.
    urgent: VecDeque<SessionId>,
    /// What every new connection is told, once nothing is watched any more.
    over: Option<Cut>,
    /// Whether connections are told to end, and those that finish something are watched until then.
    stopping: bool,
}

struct Entry {
    watched: Arc<Watched>,
    /// As it was last read.
    session: Session,
    /// Since when it cannot be read.
    lost: Option<Instant>,
    due: Timestamp,
    check: Instant,
    looking: Looking,
    /// Among the urgent.
    queued: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Looking {
    No,
    /// A look is under way.
    Yes,
    /// One is, and something happened since it began.
    Again,
}

/// What a session's connections see of it.
struct Watched {
    id: SessionId,
    cut: OnceLock<Cut>,
    ended: CancellationToken,
    /// From this instant (milliseconds) on nothing passes until it was looked at again.
    due: AtomicU64,
    /// Told after each look.
    looked: Notify,
    connections: AtomicUsize,
    /// When activity was last noted (milliseconds).
    noted: AtomicU64,
}

impl Watched {
    fn new(id: SessionId, due: Timestamp) -> Arc<Self> {
        Arc::new(Self {
            id,
            cut: OnceLock::new(),
            ended: CancellationToken::new(),
            due: AtomicU64::new(due.as_millis()),
            looked: Notify::new(),
            connections: AtomicUsize::new(0),
            noted: AtomicU64::new(0),
        })
    }

    fn end(&self, cut: Cut) {
        // The first reason stands.
        let _ = self.cut.set(cut);
        self.ended.cancel();
        self.looked.notify_waiters();
    }

    fn pass_until(&self, due: Timestamp) {
        self.due.store(due.as_millis(), Ordering::Release);
        self.looked.notify_waiters();
    }
}

impl Live {
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
    pub fn register(&self, session: &Session) -> Guard {
        if !self.shared.started.swap(true, Ordering::AcqRel) {
            driver::start(Arc::clone(&self.shared));
        }
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        let watched = self.shared.state.lock().admit(session);
        Guard { shared: Arc::clone(&self.shared), watched }
    }

    /// Tells every connection to end, and each that comes later, with [`Cut::Shutdown`]. What is finished after that
    /// is held to its session all the same: [`Guard::over`].
    pub fn shut_down(&self) {
        let mut state = self.shared.state.lock();
        state.stopping = true;
        for entry in state.entries.values() {
            entry.watched.ended.cancel();
        }
    }

    /// How much is being watched.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            sessions: self.shared.state.lock().entries.len(),
            connections: self.shared.connections.load(Ordering::Relaxed),
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The first instant at which the clock alone may end a session. When to ask, never the answer.
fn due_of(session: &Session) -> Timestamp {
    session.idle_at().map_or(session.expires_at, |idle| idle.min(session.expires_at))
}

impl Shared {
    /// Ends everything, since nobody watches any more.
    fn end_all(&self) {
        let mut state = self.state.lock();
        state.over = Some(Cut::Shutdown);
        for (_, entry) in state.entries.drain() {
            entry.watched.end(Cut::Shutdown);
        }
        state.dues.clear();
        state.checks.clear();
        state.urgent.clear();
    }

    /// Looks at a session as soon as can be.
    fn hint(&self, id: SessionId) {
        if self.state.lock().queue(id) {
            self.wake.notify_one();
        }
    }

    /// Looks at every session as soon as can be.
    fn hint_all(&self) {
        let mut state = self.state.lock();
        let ids: Vec<SessionId> = state.entries.keys().copied().collect();
        for id in ids {
            state.queue(id);
        }
        drop(state);
        self.wake.notify_one();
    }
}

impl State {
    fn admit(&mut self, session: &Session) -> Arc<Watched> {
        let due = due_of(session);
        if let Some(cut) = self.over {
            let watched = Watched::new(session.id, due);
            watched.connections.fetch_add(1, Ordering::Relaxed);
            watched.end(cut);
            return watched;
        }
        let entry = self.entries.entry(session.id).or_insert_with(|| {
            let check = Instant::now() + FIRST_LOOK;
            self.dues.insert((due, session.id));
            self.checks.insert((check, session.id));
            let watched = Watched::new(session.id, due);
            Entry { watched, session: session.clone(), lost: None, due, check, looking: Looking::No, queued: false }
        });
        entry.watched.connections.fetch_add(1, Ordering::Relaxed);
        if self.stopping {
            entry.watched.ended.cancel();
        }
        Arc::clone(&entry.watched)
    }

    /// Has a session looked at as soon as can be; false where it is not watched, or in the queue already.
    fn queue(&mut self, id: SessionId) -> bool {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| !entry.queued) else { return false };
        entry.queued = true;
        self.urgent.push_back(id);
        true
    }

    /// Watches a session no longer.
    fn remove(&mut self, id: SessionId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.dues.remove(&(entry.due, id));
        self.checks.remove(&(entry.check, id));
        Some(entry)
    }

    fn check_at(&mut self, id: SessionId, check: Instant) {
        if let Some(entry) = self.entries.get_mut(&id) {
            self.checks.remove(&(entry.check, id));
            entry.check = check;
            self.checks.insert((check, id));
        }
    }

    fn due_at(&mut self, id: SessionId, due: Timestamp) {
        if let Some(entry) = self.entries.get_mut(&id) {
            self.dues.remove(&(entry.due, id));
            entry.due = due;
            self.dues.insert((due, id));
        }
    }
}

/// A connection that is watched; dropped, it is no longer.
pub struct Guard {
    shared: Arc<Shared>,
    watched: Arc<Watched>,
}

impl Guard {
    /// Whose connection it is.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.watched.id
    }

    /// Resolves when the connection must end, with the reason.
    pub fn ended(&self) -> impl Future<Output = Cut> + Send + use<> {
        let watched = Arc::clone(&self.watched);
        async move {
            watched.ended.cancelled().await;
            watched.cut.get().copied().unwrap_or(Cut::Shutdown)
        }
    }

    /// Resolves when the connection may not even finish what it has begun: as [`Guard::ended`], but not where the
    /// gateway only stops.
    pub fn over(&self) -> impl Future<Output = Cut> + Send + use<> {
        let watched = Arc::clone(&self.watched);
        async move {
            loop {
                let looked = watched.looked.notified();
                tokio::pin!(looked);
                looked.as_mut().enable();
                if let Some(cut) = watched.cut.get() {
                    return *cut;
                }
                looked.await;
            }
        }
    }

    /// Whether data may pass at this instant without asking further. Where not, [`Guard::pass`] asks.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.watched.cut.get().is_none() && self.before_due()
    }

    fn before_due(&self) -> bool {
        self.shared.sessions.now().as_millis() < self.watched.due.load(Ordering::Acquire)
    }

    /// Whether data may pass now. Where the clock may have ended the session, the answer waits for a look at it.
    ///
    /// # Errors
    /// [`Cut`]: nothing may pass any more.
    pub async fn pass(&self) -> Result<(), Cut> {
        loop {
            let looked = self.watched.looked.notified();
            tokio::pin!(looked);
            looked.as_mut().enable();
            if let Some(cut) = self.watched.cut.get() {
                return Err(*cut);
            }
            if self.before_due() {
                return Ok(());
            }
            self.shared.wake.notify_one();
            looked.await;
        }
    }

    /// Counts use of the session; at most once a second, however often it is called. Only after [`Guard::pass`].
    pub fn note_activity(&self) {
        let now = self.shared.sessions.now().as_millis();
        let noted = self.watched.noted.load(Ordering::Relaxed);
        if now.saturating_sub(noted) >= NOTE_EVERY {
            self.watched.noted.store(now, Ordering::Relaxed);
            self.shared.sessions.note_activity(self.watched.id);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // The driver forgets a session without connections when it next comes by.
        self.watched.connections.fetch_sub(1, Ordering::Relaxed);
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
