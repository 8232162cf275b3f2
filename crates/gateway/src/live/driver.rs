//! The task that looks at sessions with live connections, and the one that listens for news of them.

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

use super::{Cut, Looking, Shared, State, due_of};

/// A session is looked at again this long after the last time, and up to half as long again: by its id, so that those
/// looked at together do not stay together. With a look's own length it is within 5 s.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// It is not looked at more often than this, however short the grace.
const LOOK_EVERY_LEAST: Duration = Duration::from_millis(300);
/// How soon a session is looked at again after the store could not be read.
const RETRY: Duration = Duration::from_millis(500);
/// A look that takes longer has failed.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// So many looks are under way at once,
const AT_ONCE: usize = 256;
/// and so many while the store does not answer.
const AT_ONCE_DOWN: usize = 4;
/// A session past its expiry is looked at, since it may have been rotated; without an answer after this long its last
/// known expiry stands.
const PATIENCE: Millis = Millis::new(40);
/// While a session may be idle and the store does not tell, data passes for so long at a time.
const UNTOLD: Millis = Millis::new(500);
/// The longest sleep, so that a store's clock that is set forward is noticed.
const TICK: Duration = Duration::from_millis(100);
/// How long to wait before listening again after the news broke off, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What came of looking at one session.
struct Look {
    id: SessionId,
    began: Instant,
    found: Result<Session, VerifyError>,
}

type Looks = FuturesUnordered<Pin<Box<dyn Future<Output = Look> + Send>>>;

/// Starts both tasks.
pub(super) fn start(shared: Arc<Shared>) {
    tokio::spawn(listen(Arc::clone(&shared)));
    tokio::spawn(async move {
        // Nothing stays open unwatched, should this task ever end.
        let end = EndAll(shared);
        let driver = Driver { shared: Arc::clone(&end.0), looks: Looks::new(), down: None };
        driver.run().await;
    });
}

struct EndAll(Arc<Shared>);

impl Drop for EndAll {
    fn drop(&mut self) {
        self.0.end_all();
    }
}

/// Turns news into looks, for as long as anybody is watched.
async fn listen(shared: Arc<Shared>) {
    let mut pause = PAUSES.0;
    loop {
        let follow = async {
            match shared.sessions.subscribe().await {
                Ok(mut feed) => {
                    pause = PAUSES.0;
                    shared.hint_all();
                    while let Some(item) = feed.next().await {
                        heed(&shared, item);
                    }
                }
                Err(error) => tracing::warn!(%error, "no session events: open connections are checked periodically"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        };
        tokio::select! {
            () = shared.closed.cancelled() => return,
            () = follow => {}
        }
    }
}

fn heed(shared: &Shared, item: StoreEvent) {
    match item {
        StoreEvent::Lagged => shared.hint_all(),
        StoreEvent::Changed { session, kind, .. } => match kind {
            ChangeKind::Issued | ChangeKind::ClientUpdated => {}
            ChangeKind::Ended(_) | ChangeKind::Rotated | ChangeKind::Imported | ChangeKind::Purged => {
                shared.hint(session);
            }
        },
    }
}

struct Driver {
    shared: Arc<Shared>,
    looks: Looks,
    /// Since when no look has found a store, where the latest did not.
    down: Option<Instant>,
}

impl Driver {
    async fn run(mut self) {
        loop {
            let next = self.work();
            tokio::select! {
                biased;
                () = self.shared.closed.cancelled() => return,
                Some(look) = self.looks.next() => self.settle(look),
                () = self.shared.wake.notified() => {}
                () = sleep_until(next) => {}
            }
        }
    }

    /// Starts every look that is due, ends what needs none, and says when to come again.
    fn work(&mut self) -> Instant {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        self.meet_dues(&mut state);
        while self.looks.len() < AT_ONCE {
            let Some(id) = state.urgent.pop_front() else { break };
            self.look(&mut state, id);
        }
        self.meet_checks(&mut state);
        self.next_wake(&state)
    }

    fn next_wake(&self, state: &State) -> Instant {
        let now = Instant::now();
        let by_clock = state.dues.first().map_or(TICK, |(due, _)| due.since(self.shared.sessions.now()).into());
        let by_check = state.checks.first().map_or(TICK, |(check, _)| check.saturating_duration_since(now));
        // One more millisecond: a timer must not come a fraction too early, again and again.
        now + by_clock.min(by_check).min(TICK) + Duration::from_millis(1)
    }

    /// Sessions that the clock may have ended.
    fn meet_dues(&mut self, state: &mut State) {
        let now = self.shared.sessions.now();
        while let Some(&(due, id)) = state.dues.first().filter(|(due, _)| *due <= now) {
            let Some(entry) = state.entries.get(&id) else {
                state.dues.remove(&(due, id));
                continue;
            };
            let waited = due > due_of(&entry.session);
            if waited && entry.session.state(now) == SessionState::Expired {
                // Nobody could be asked in time: what was last known of it stands.
                end(state, id, Cut::Ended(Refusal::Expired));
                continue;
            }
            state.due_at(id, now.plus(PATIENCE));
            state.queue(id);
        }
    }

    /// Sessions that were not looked at for a while.
    fn meet_checks(&mut self, state: &mut State) {
        let now = Instant::now();
        let grace = self.grace();
        let at_once = if self.down.is_some() { AT_ONCE_DOWN } else { AT_ONCE };
        while let Some(&(check, id)) = state.checks.first().filter(|(check, _)| *check <= now) {
            let Some(entry) = state.entries.get(&id) else {
                state.checks.remove(&(check, id));
                continue;
            };
            // While nobody is answered, most are not asked for.
            if self.down.is_some_and(|down| now.duration_since(entry.lost.unwrap_or(down)) >= grace) {
                end(state, id, Cut::StoreLost);
                continue;
            }
            state.check_at(id, now + RETRY);
            if self.looks.len() < at_once {
                self.look(state, id);
            }
        }
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(self.shared.grace.load(Ordering::Relaxed))
    }

    /// How long after a look the next one is due: sooner where the grace is short, so that a loss is noticed in good
    /// time, and for each session a little different.
    fn look_after(&self, id: SessionId) -> Duration {
        let every = LOOK_EVERY.min(self.grace() / 2).max(LOOK_EVERY_LEAST);
        // The low bits of an id are random.
        every + every.mul_f64((id.as_u128() & 0xff) as f64 / 512.0)
    }

    fn look(&mut self, state: &mut State, id: SessionId) {
        let Some(entry) = state.entries.get_mut(&id) else { return };
        entry.queued = false;
        if entry.watched.connections.load(Ordering::Relaxed) == 0 {
            state.remove(id);
            return;
        }
        if entry.looking != Looking::No {
            entry.looking = Looking::Again;
            return;
        }
        entry.looking = Looking::Yes;
        let sessions = Arc::clone(&self.shared.sessions);
        self.looks.push(Box::pin(async move {
            let began = Instant::now();
            let found = timeout(LOOK_LIMIT, sessions.check_active(id)).await;
            let found = found.unwrap_or_else(|_| Err(no_answer().into()));
            Look { id, began, found }
        }));
    }

    fn settle(&mut self, look: Look) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        let Look { id, began, found } = look;
        match found {
            Ok(session) => {
                self.down = None;
                self.seen(&mut state, session, began);
            }
            Err(VerifyError::Refused(refusal)) => {
                self.down = None;
                end(&mut state, id, Cut::Ended(refusal));
            }
            Err(error) => {
                if self.down.is_none() {
                    tracing::warn!(%error, "the sessions of live connections cannot be looked at");
                }
                let down = *self.down.get_or_insert_with(Instant::now);
                self.unseen(&mut state, id, down, shared.sessions.now());
            }
        }
    }

    /// A session that still holds.
    fn seen(&mut self, state: &mut State, session: Session, began: Instant) {
        let (id, due) = (session.id, due_of(&session));
        let Some(entry) = state.entries.get_mut(&id) else { return };
        let again = std::mem::replace(&mut entry.looking, Looking::No) == Looking::Again;
        entry.session = session;
        entry.lost = None;
        entry.watched.pass_until(due);
        state.due_at(id, due);
        state.check_at(id, began + self.look_after(id));
        if again {
            self.look(state, id);
        }
    }

    /// A session that could not be looked at: it stays for the grace, but not past the expiry last known.
    fn unseen(&self, state: &mut State, id: SessionId, down: Instant, now: Timestamp) {
        let Some(entry) = state.entries.get_mut(&id) else { return };
        entry.looking = Looking::No;
        // Others may be readable meanwhile: this one's own count goes on.
        let lost = *entry.lost.get_or_insert(down);
        let grace = self.grace();
        if entry.session.state(now) == SessionState::Expired {
            end(state, id, Cut::Ended(Refusal::Expired));
        } else if lost.elapsed() >= grace {
            end(state, id, Cut::StoreLost);
        } else {
            // Idleness is never told from what was known earlier.
            let until = now.plus(UNTOLD).min(entry.session.expires_at);
            if due_of(&entry.session) <= now {
                entry.watched.pass_until(until);
                state.due_at(id, until);
            }
            state.check_at(id, Instant::now() + RETRY);
        }
    }
}

fn end(state: &mut State, id: SessionId, cut: Cut) {
    if let Some(entry) = state.remove(id) {
        tracing::debug!(session = %id, reason = cut.reason(), "cutting its connections");
        entry.watched.end(cut);
    }
}

fn no_answer() -> tenure_ports::StoreError {
    tenure_ports::StoreError::Unavailable {
        location: "store".to_owned(),
        message: "it did not answer in time".to_owned(),
    }
}
