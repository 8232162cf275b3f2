//! Activity: verified use of sessions is noted in memory, and written to the store in batches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tenure_domain::{SessionId, Timestamp, Touch};
use tenure_ports::StoreError;

use crate::Sessions;

/// Whether a verification counts as use of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivityMode {
    /// The verification counts as use, and moves the session's last activity forward.
    Record,
    /// The verification does not count as use.
    Ignore,
}

/// The largest number of sessions whose activity is kept in memory while the store does not accept it. The activity of
/// others is then dropped: activity may be lost, but memory must be bounded.
const MAX_PENDING: usize = 1_000_000;
/// The number of locks. With several, threads seldom wait for each other.
const SHARDS: usize = 16;

/// The activity that is not written yet.
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
    /// Writes the activity that was noted since the last call, and returns the number of sessions. Each session is
    /// written once, however often it was used. Activity that the store does not accept is kept for the next call.
    ///
    /// A gateway calls this every second, a command at its end.
    ///
    /// # Errors
    /// [`StoreError`] if the store does not accept the activity. Verifications still work.
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

    /// Notes use of a session without a verification, such as traffic on a connection that stays open.
    pub fn note_activity(&self, session: SessionId) {
        self.activity.note(session, self.clock.now());
    }
}
