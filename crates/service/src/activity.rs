//! Activity, gathered: verified use is noted in memory and written in batches, apart from the verifying.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tenure_domain::{SessionId, Timestamp, Touch};
use tenure_ports::StoreError;

use crate::Sessions;

/// Whether a verification counts as use of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivityMode {
    /// It does.
    Record,
    /// It only looks.
    Ignore,
}

/// So many sessions' activity is held while the store does not take it; beyond that the rest is forgotten, since
/// activity may be lost but memory must be bounded.
const MAX_PENDING: usize = 1_000_000;
/// Locks, so that threads seldom meet.
const SHARDS: usize = 16;

#[derive(Default)]
pub(crate) struct Activity {
    shards: [Mutex<HashMap<SessionId, Timestamp>>; SHARDS],
    held: AtomicUsize,
}

impl Activity {
    fn shard(&self, session: SessionId) -> &Mutex<HashMap<SessionId, Timestamp>> {
        &self.shards[(session.as_u128() as usize) % SHARDS]
    }

    pub(crate) fn note(&self, session: SessionId, at: Timestamp) {
        let mut shard = self.shard(session).lock();
        if let Some(known) = shard.get_mut(&session) {
            *known = at.max(*known);
        } else if self.held.load(Ordering::Relaxed) < MAX_PENDING {
            shard.insert(session, at);
            self.held.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&self) -> Vec<Touch> {
        let mut touches = Vec::with_capacity(self.held.load(Ordering::Relaxed));
        for shard in &self.shards {
            let mut shard = shard.lock();
            self.held.fetch_sub(shard.len(), Ordering::Relaxed);
            touches.extend(shard.drain().map(|(session, at)| Touch { session, at }));
        }
        touches
    }
}

impl Sessions {
    /// Writes the activity noted since the last time: one touch per session, however often it was used. What the
    /// store does not take is kept for the next time. A gateway calls this every second, a command at its end.
    /// Answers how many sessions' activity was written.
    ///
    /// # Errors
    /// [`StoreError`] where the store does not take it; no verification is the worse for it.
    pub async fn flush_activity(&self) -> Result<usize, StoreError> {
        let touches = self.activity.take();
        if touches.is_empty() {
            return Ok(0);
        }
        let written = self.repository.touch(&touches).await;
        if written.is_err() {
            for touch in &touches {
                self.activity.note(touch.session, touch.at);
            }
        }
        written.map(|()| touches.len())
    }

    /// Counts use of a session that its verification did not: traffic on a connection that stays open.
    pub fn note_activity(&self, session: SessionId) {
        self.activity.note(session, self.clock.now());
    }
}
