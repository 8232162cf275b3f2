//! Watching sessions: following what happens to them in any process, expiry included.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use futures_util::StreamExt;
use tenure_domain::{Filter, Scope, Session, SessionId, State, Timestamp};
use tenure_ports::{ChangeKind, EventStream, StoreEvent};

use crate::Sessions;
use crate::error::WriteError;

const PAGE: usize = 1_000;
/// The longest sleep. A change of the clock is noticed after this time at most.
const LONGEST: Duration = Duration::from_secs(60);

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The session was changed.
    Changed(ChangeKind),
    /// The session expired.
    Expired,
}

impl EventKind {
    /// Returns the stable code: [`ChangeKind::code`], or `expired`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Changed(kind) => kind.code(),
            Self::Expired => "expired",
        }
    }
}

/// An event for a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// Something happened to a session.
    Session {
        /// The session.
        id: SessionId,
        /// What happened.
        kind: EventKind,
        /// The time, on the store's clock.
        at: Timestamp,
        /// The session's record when the event was reported. `None` if the record is gone.
        session: Option<Box<Session>>,
    },
    /// Events may have been missed, because the connection to the store broke or the watcher was slow.
    Lagged,
}

/// A watch: it follows what happens to sessions from its creation on.
pub struct Watch<'a> {
    sessions: &'a Sessions,
    feed: EventStream,
    /// The times at which sessions expire or become idle. An entry that `known` does not confirm is out of date.
    due: BinaryHeap<Reverse<(Timestamp, SessionId)>>,
    known: HashMap<SessionId, Timestamp>,
}

impl Sessions {
    /// Starts to follow what happens to sessions.
    ///
    /// # Errors
    /// [`WriteError`] if the store cannot be read or subscribed to.
    pub async fn watch(&self) -> Result<Watch<'_>, WriteError> {
        // The subscription comes first, so that nothing is missed between the two.
        let feed = self.subscribe().await?;
        let mut watch = Watch { sessions: self, feed, due: BinaryHeap::new(), known: HashMap::new() };
        watch.reload().await?;
        Ok(watch)
    }
}

impl Watch<'_> {
    /// Waits for the next event. `None` if the store was closed.
    ///
    /// # Errors
    /// [`WriteError`] if a session cannot be read now. The watch continues with the next call.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, WriteError> {
        loop {
            let pause = self.until_next();
            tokio::select! {
                biased;
                item = self.feed.next() => match item {
                    None => return Ok(None),
                    Some(StoreEvent::Lagged) => {
                        self.reload().await?;
                        return Ok(Some(WatchEvent::Lagged));
                    }
                    Some(StoreEvent::Changed { session, kind, at }) => return self.changed(session, kind, at).await.map(Some),
                },
                () = tokio::time::sleep(pause) => {
                    if let Some(event) = self.next_expired().await? {
                        return Ok(Some(event));
                    }
                }
            }
        }
    }

    async fn changed(&mut self, id: SessionId, kind: ChangeKind, at: Timestamp) -> Result<WatchEvent, WriteError> {
        let session = if kind == ChangeKind::Purged { None } else { self.sessions.get(id).await? };
        match &session {
            Some(session) => self.schedule(session),
            None => drop(self.known.remove(&id)),
        }
        Ok(WatchEvent::Session { id, kind: EventKind::Changed(kind), at, session: session.map(Box::new) })
    }

    fn until_next(&self) -> Duration {
        let now = self.sessions.now();
        self.due.peek().map_or(LONGEST, |Reverse((at, _))| Duration::from(at.since(now)).min(LONGEST))
    }

    /// Returns the session that expired first, if one did.
    async fn next_expired(&mut self) -> Result<Option<WatchEvent>, WriteError> {
        let now = self.sessions.now();
        while let Some(&Reverse((at, id))) = self.due.peek().filter(|Reverse((at, _))| *at <= now) {
            self.due.pop();
            if self.known.get(&id) != Some(&at) {
                continue;
            }
            self.known.remove(&id);
            // A session that is idle is recorded as ended when it is read, and the event stream reports it.
            let Some(session) = self.sessions.get(id).await? else { continue };
            match session.state(self.sessions.now()) {
                State::Expired => {
                    let at = session.expires_at;
                    let kind = EventKind::Expired;
                    return Ok(Some(WatchEvent::Session { id, kind, at, session: Some(Box::new(session)) }));
                }
                _ => self.schedule(&session),
            }
        }
        Ok(None)
    }

    fn schedule(&mut self, session: &Session) {
        if session.inactive_since(self.sessions.now()).is_some() {
            self.known.remove(&session.id);
            return;
        }
        let at = session.active_until();
        if self.known.insert(session.id, at) != Some(at) {
            self.due.push(Reverse((at, session.id)));
        }
    }

    async fn reload(&mut self) -> Result<(), WriteError> {
        let filter = Filter { scope: Scope::Active, ..Filter::default() };
        let mut cursor = None;
        loop {
            let page = self.sessions.page(&filter, cursor, PAGE).await.map_err(WriteError::from)?;
            for session in &page.sessions {
                self.schedule(session);
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }
}
