//! The guard of one connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tenure_domain::SessionId;

use super::{ACTIVITY_INTERVAL, CloseReason, SessionEntry, Shared};

/// A registered connection. Dropping the guard unregisters it.
pub struct ConnectionGuard {
    pub(super) shared: Arc<Shared>,
    pub(super) entry: Arc<SessionEntry>,
}

impl ConnectionGuard {
    /// Returns the session that the connection belongs to.
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

    /// Resolves when the connection may not even finish what it has begun. Unlike [`ConnectionGuard::closed`], it does
    /// not resolve when the server only stops.
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

    /// Whether data may pass now, as far as is known. If this is false, [`ConnectionGuard::check_open`] finds out.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.entry.close_reason.get().is_none() && self.before_deadline()
    }

    fn before_deadline(&self) -> bool {
        self.shared.sessions.now().as_millis() < self.entry.deadline.load(Ordering::Acquire)
    }

    /// Checks whether data may pass now. If the clock may have ended the session, it waits for a recheck.
    ///
    /// # Errors
    /// [`CloseReason`] if nothing may pass any more.
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

    /// Records use of the session, at most once a second. To be called only after [`ConnectionGuard::check_open`].
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
        // The next recheck removes a session without connections.
        self.entry.connections.fetch_sub(1, Ordering::Relaxed);
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
