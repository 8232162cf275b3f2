//! The cached sessions of one server, kept while the server is known to report every change to them.
//!
//! Three rules keep an outdated session from being used for longer than [`LEASE`]:
//! - A read takes a ticket before it is sent. A reported change invalidates the tickets of all reads of that session in
//!   progress, and only a valid ticket may store. So a record that was read before a change is never stored after the
//!   change was reported.
//! - A record is used only if the server has said that it is the primary, in answer to a question that was *sent*
//!   within the last [`LEASE`]. Changes are reported on the same connection and before later answers, so every change
//!   before that question is known here.
//! - When a connection is lost, everything that was learned over it is dropped.
//!
//! Records are cached, not verdicts: the domain decides at each verification, at that time. A cached record can only
//! accept a token.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tenure_domain::{Session, SessionId};

use crate::client::connector::Connection;
use crate::client::role::LEASE;
use crate::repository::clock::monotonic_micros;

/// The reads in progress.
#[derive(Default)]
struct Reads {
    next: u64,
    /// Tickets below this number are invalid, for any session.
    cleared: u64,
    by_session: HashMap<SessionId, Pending>,
}

struct Pending {
    /// Tickets below this number are invalid.
    clean_from: u64,
    outstanding: usize,
}

/// The cache of one server's sessions.
pub(crate) struct ClientCache {
    sessions: Cache<SessionId, Session>,
    // The lock is held while sessions are stored and removed, so that the two happen in order.
    reads: Mutex<Reads>,
    /// The end of the lease, on the monotonic clock in microseconds; 0 while nothing may be used.
    usable_until: AtomicU64,
    /// The connection over which sessions are read for the cache, and changes are reported.
    connection: ArcSwapOption<Connection>,
}

/// The right to store the result of a read, unless it becomes invalid meanwhile.
pub(crate) struct Ticket<'a> {
    cache: &'a ClientCache,
    session: SessionId,
    number: u64,
}

impl ClientCache {
    /// Makes a cache for at most this many sessions.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            sessions: Cache::new(capacity),
            reads: Mutex::default(),
            usable_until: AtomicU64::new(0),
            connection: ArcSwapOption::empty(),
        }
    }

    /// Returns a session if it is cached and may be used now.
    pub(crate) fn get(&self, id: SessionId) -> Option<Session> {
        if self.is_usable() { self.sessions.get(&id) } else { None }
    }

    /// Whether cached sessions may be used now.
    pub(crate) fn is_usable(&self) -> bool {
        monotonic_micros() <= self.usable_until.load(Ordering::Acquire)
    }

    /// Returns a ticket for a read that is sent after this, and the connection to send it on. `None` while its result
    /// could not be cached.
    pub(crate) fn begin(&self, session: SessionId) -> Option<(Ticket<'_>, Connection)> {
        if !self.is_usable() {
            return None;
        }
        let ticket = self.ticket(session);
        // Read after the ticket was taken: if the connection had been lost in between, the ticket would be invalid.
        let connection = self.connection.load().as_deref().cloned()?;
        Some((ticket, connection))
    }

    fn ticket(&self, session: SessionId) -> Ticket<'_> {
        let mut reads = self.reads.lock();
        let number = reads.next;
        reads.next += 1;
        let pending = reads.by_session.entry(session).or_insert(Pending { clean_from: 0, outstanding: 0 });
        pending.outstanding += 1;
        Ticket { cache: self, session, number }
    }

    /// Removes a session, and invalidates the reads of it that are in progress.
    pub(crate) fn forget(&self, session: SessionId) {
        let mut reads = self.reads.lock();
        let next = reads.next;
        if let Some(pending) = reads.by_session.get_mut(&session) {
            pending.clean_from = next;
        }
        self.sessions.remove(&session);
    }

    /// Removes all sessions, and invalidates all reads in progress.
    pub(crate) fn forget_all(&self) {
        let mut reads = self.reads.lock();
        reads.cleared = reads.next;
        self.sessions.clear();
    }

    /// Uses this connection from now on to read sessions and to receive changes.
    pub(crate) fn connected(&self, connection: Connection) {
        self.connection.store(Some(Arc::new(connection)));
    }

    /// Drops everything, because the connection is lost or in doubt.
    pub(crate) fn disconnected(&self) {
        self.usable_until.store(0, Ordering::Release);
        self.connection.store(None);
        self.forget_all();
    }

    /// Ends the lease, because this or an earlier connection ended: nothing may be used until the server answers again.
    pub(crate) fn suspend(&self) {
        self.usable_until.store(0, Ordering::Release);
        self.forget_all();
    }

    /// Renews the lease: the server answered a question that was sent at this time of the monotonic clock.
    pub(crate) fn renew(&self, sent: u64) {
        let lease = u64::try_from(LEASE.as_micros()).unwrap_or_default();
        self.usable_until.store(sent + lease, Ordering::Release);
    }
}

impl Ticket<'_> {
    /// Stores the result of a read, if nothing changed since the ticket was taken.
    pub(crate) fn store(self, session: Session) {
        let reads = self.cache.reads.lock();
        let clean_from = reads.by_session.get(&self.session).map_or(u64::MAX, |pending| pending.clean_from);
        if self.number >= clean_from.max(reads.cleared) {
            self.cache.sessions.insert(self.session, session);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut reads = self.cache.reads.lock();
        if let Some(pending) = reads.by_session.get_mut(&self.session) {
            pending.outstanding -= 1;
            if pending.outstanding == 0 {
                reads.by_session.remove(&self.session);
            }
        }
    }
}
