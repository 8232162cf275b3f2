//! The task that rechecks sessions with open connections, and the one that follows the store's events about them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tenure_domain::{Millis, Refusal, Session, SessionId, State as SessionState, Timestamp};
use tenure_ports::{ChangeKind, StoreEvent};
use tenure_service::VerifyError;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{CloseReason, RecheckState, Shared, State, deadline_of};

/// A session is rechecked this long after the last time, and up to half as long again: by its id, so that those
/// rechecked together do not stay together. With the recheck's own duration it is within 5 s.
const RECHECK_INTERVAL: Duration = Duration::from_secs(3);
/// The shortest interval between two rechecks of a session, however short the grace.
const MIN_RECHECK_INTERVAL: Duration = Duration::from_millis(300);
/// How soon a session is rechecked after the store could not be read.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// A recheck that takes longer has failed.
const RECHECK_TIMEOUT: Duration = Duration::from_secs(3);
/// The most rechecks that run at once.
const CONCURRENCY: usize = 256;
/// The most rechecks that run at once while the store does not answer.
const CONCURRENCY_WHILE_DOWN: usize = 4;
/// How long a session past its expiry may wait for a recheck: it may have been rotated. After that its last known
/// expiry is final.
const EXPIRY_RECHECK_WAIT: Millis = Millis::new(40);
/// How long data passes at a time while a session may be idle and the store cannot be read.
const IDLE_UNKNOWN_WINDOW: Millis = Millis::new(500);
/// The longest sleep, so that a store's clock that is set forward is noticed.
const MAX_SLEEP: Duration = Duration::from_millis(100);
/// How long to wait before subscribing again after the events broke off, at first and at most.
const RESUBSCRIBE_DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// The result of rechecking one session.
struct Recheck {
    id: SessionId,
    began: Instant,
    found: Result<Session, VerifyError>,
}

type Rechecks = FuturesUnordered<Pin<Box<dyn Future<Output = Recheck> + Send>>>;

/// Starts both tasks.
pub(super) fn start(shared: Arc<Shared>) {
    tokio::spawn(follow_events(Arc::clone(&shared)));
    tokio::spawn(async move {
        // If this task ever ended, no connection would stay open without rechecks.
        let close_all = CloseAllOnDrop(shared);
        let driver = RecheckLoop { shared: Arc::clone(&close_all.0), running: Rechecks::new(), down: None };
        driver.run().await;
    });
}

struct CloseAllOnDrop(Arc<Shared>);

impl Drop for CloseAllOnDrop {
    fn drop(&mut self) {
        self.0.close_all();
    }
}

/// Turns store events into rechecks, for as long as a session is registered.
async fn follow_events(shared: Arc<Shared>) {
    let mut delay = RESUBSCRIBE_DELAY.0;
    loop {
        let follow = async {
            match shared.sessions.subscribe().await {
                Ok(mut events) => {
                    delay = RESUBSCRIBE_DELAY.0;
                    shared.schedule_recheck_all();
                    while let Some(event) = events.next().await {
                        on_event(&shared, event);
                    }
                }
                Err(error) => tracing::warn!(%error, "no session events: open connections are checked periodically"),
            }
            sleep(delay).await;
            delay = (delay * 2).min(RESUBSCRIBE_DELAY.1);
        };
        tokio::select! {
            () = shared.closed.cancelled() => return,
            () = follow => {}
        }
    }
}

fn on_event(shared: &Shared, event: StoreEvent) {
    match event {
        StoreEvent::Lagged => shared.schedule_recheck_all(),
        StoreEvent::Changed { session, kind, .. } => match kind {
            ChangeKind::Issued | ChangeKind::ClientUpdated => {}
            ChangeKind::Ended(_) | ChangeKind::Rotated | ChangeKind::Imported | ChangeKind::Purged => {
                shared.schedule_recheck(session);
            }
        },
    }
}

struct RecheckLoop {
    shared: Arc<Shared>,
    running: Rechecks,
    /// The time since which no recheck could read the store.
    down: Option<Instant>,
}

impl RecheckLoop {
    async fn run(mut self) {
        loop {
            let next = self.run_due();
            tokio::select! {
                biased;
                () = self.shared.closed.cancelled() => return,
                Some(recheck) = self.running.next() => self.apply(recheck),
                () = self.shared.wake.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Starts every recheck that is due, closes connections that need none, and returns when to run again.
    fn run_due(&mut self) -> Instant {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        self.process_deadlines(&mut state);
        while self.running.len() < CONCURRENCY {
            let Some(id) = state.queued_now.pop_front() else { break };
            self.recheck(&mut state, id);
        }
        self.process_rechecks(&mut state);
        self.next_wake(&state)
    }

    fn next_wake(&self, state: &State) -> Instant {
        let now = Instant::now();
        let by_clock = state
            .deadlines
            .first()
            .map_or(MAX_SLEEP, |(deadline, _)| deadline.since(self.shared.sessions.now()).into());
        let by_check =
            state.rechecks.first().map_or(MAX_SLEEP, |(next_recheck, _)| next_recheck.saturating_duration_since(now));
        // One more millisecond: a timer must not come a fraction too early, again and again.
        now + by_clock.min(by_check).min(MAX_SLEEP) + Duration::from_millis(1)
    }

    /// Rechecks the sessions that the clock may have ended.
    fn process_deadlines(&mut self, state: &mut State) {
        let now = self.shared.sessions.now();
        while let Some(&(deadline, id)) = state.deadlines.first().filter(|(deadline, _)| *deadline <= now) {
            let Some(tracked) = state.entries.get(&id) else {
                state.deadlines.remove(&(deadline, id));
                continue;
            };
            let waited = deadline > deadline_of(&tracked.session);
            if waited && tracked.session.state(now) == SessionState::Expired {
                // The store could not be read in time: the last known expiry is final.
                close_session(state, id, CloseReason::Ended(Refusal::Expired));
                continue;
            }
            state.set_deadline(id, now.plus(EXPIRY_RECHECK_WAIT));
            state.schedule_now(id);
        }
    }

    /// Rechecks the sessions that have not been rechecked for a while.
    fn process_rechecks(&mut self, state: &mut State) {
        let now = Instant::now();
        let grace = self.grace();
        let limit = if self.down.is_some() { CONCURRENCY_WHILE_DOWN } else { CONCURRENCY };
        while let Some(&(next_recheck, id)) = state.rechecks.first().filter(|(next_recheck, _)| *next_recheck <= now) {
            let Some(tracked) = state.entries.get(&id) else {
                state.rechecks.remove(&(next_recheck, id));
                continue;
            };
            // While the store does not answer, most rechecks are not started.
            if self.down.is_some_and(|down| now.duration_since(tracked.unreadable_since.unwrap_or(down)) >= grace) {
                close_session(state, id, CloseReason::StoreLost);
                continue;
            }
            state.recheck_at(id, now + RETRY_DELAY);
            if self.running.len() < limit {
                self.recheck(state, id);
            }
        }
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(self.shared.grace.load(Ordering::Relaxed))
    }

    /// Returns the time until the next recheck. It is shorter if the grace period is short, so that a lost store is
    /// noticed in time, and differs a little from session to session.
    fn recheck_interval(&self, id: SessionId) -> Duration {
        let every = RECHECK_INTERVAL.min(self.grace() / 2).max(MIN_RECHECK_INTERVAL);
        // The low bits of an id are random.
        every + every.mul_f64((id.as_u128() & 0xff) as f64 / 512.0)
    }

    fn recheck(&mut self, state: &mut State, id: SessionId) {
        let Some(tracked) = state.entries.get_mut(&id) else { return };
        tracked.queued = false;
        if tracked.entry.connections.load(Ordering::Relaxed) == 0 {
            state.remove(id);
            return;
        }
        if tracked.recheck_state != RecheckState::Idle {
            tracked.recheck_state = RecheckState::Stale;
            return;
        }
        tracked.recheck_state = RecheckState::Running;
        let sessions = Arc::clone(&self.shared.sessions);
        self.running.push(Box::pin(async move {
            let began = Instant::now();
            let found = timeout(RECHECK_TIMEOUT, sessions.check_active(id)).await;
            let found = found.unwrap_or_else(|_| Err(timeout_error().into()));
            Recheck { id, began, found }
        }));
    }

    fn apply(&mut self, recheck: Recheck) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        let Recheck { id, began, found } = recheck;
        match found {
            Ok(session) => {
                self.down = None;
                self.on_active(&mut state, session, began);
            }
            Err(VerifyError::Refused(refusal)) => {
                self.down = None;
                close_session(&mut state, id, CloseReason::Ended(refusal));
            }
            Err(error) => {
                if self.down.is_none() {
                    tracing::warn!(%error, "the sessions of live connections cannot be looked at");
                }
                let down = *self.down.get_or_insert_with(Instant::now);
                self.on_unavailable(&mut state, id, down, shared.sessions.now());
            }
        }
    }

    /// Handles a session that is still active.
    fn on_active(&mut self, state: &mut State, session: Session, began: Instant) {
        let (id, deadline) = (session.id, deadline_of(&session));
        let Some(tracked) = state.entries.get_mut(&id) else { return };
        let again = std::mem::replace(&mut tracked.recheck_state, RecheckState::Idle) == RecheckState::Stale;
        tracked.session = session;
        tracked.unreadable_since = None;
        tracked.entry.allow_until(deadline);
        state.set_deadline(id, deadline);
        state.recheck_at(id, began + self.recheck_interval(id));
        if again {
            self.recheck(state, id);
        }
    }

    /// Handles a session that could not be read. It stays for the grace period, but not past its last known expiry.
    fn on_unavailable(&self, state: &mut State, id: SessionId, down: Instant, now: Timestamp) {
        let Some(tracked) = state.entries.get_mut(&id) else { return };
        tracked.recheck_state = RecheckState::Idle;
        // Other sessions may be readable meanwhile, so each has its own time.
        let unreadable_since = *tracked.unreadable_since.get_or_insert(down);
        let grace = self.grace();
        if tracked.session.state(now) == SessionState::Expired {
            close_session(state, id, CloseReason::Ended(Refusal::Expired));
        } else if unreadable_since.elapsed() >= grace {
            close_session(state, id, CloseReason::StoreLost);
        } else {
            // Whether a session is idle is never decided by an old record.
            let until = now.plus(IDLE_UNKNOWN_WINDOW).min(tracked.session.expires_at);
            if deadline_of(&tracked.session) <= now {
                tracked.entry.allow_until(until);
                state.set_deadline(id, until);
            }
            state.recheck_at(id, Instant::now() + RETRY_DELAY);
        }
    }
}

fn close_session(state: &mut State, id: SessionId, close_reason: CloseReason) {
    if let Some(tracked) = state.remove(id) {
        tracing::debug!(session = %id, reason = close_reason.reason(), "cutting its connections");
        tracked.entry.close(close_reason);
    }
}

fn timeout_error() -> tenure_ports::StoreError {
    tenure_ports::StoreError::unavailable("store", "it did not answer in time")
}
