//! Sessions kept in memory for verification, each for as long as the server is known to tell of every change to it.
//!
//! Three things keep an outdated session from being used for longer than [`LEASE`]:
//! - A read takes a ticket before it is sent. News of a change spoils the tickets of all reads of that session under
//!   way, and only an unspoilt ticket stores: what was read before a change never gets in after its news.
//! - Nothing is used unless the server has answered a question that was *sent* within the last [`LEASE`], by saying that
//!   it is the primary. News travels on the connection of the questions and ahead of later answers, so every change made
//!   before that question is known here.
//! - With its connection, all that was learned over it is forgotten.
//!
//! Sessions are kept, not verdicts: the domain judges each time, at the time of that verification. What comes from
//! here only ever accepts.

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

/// Which reads are under way.
#[derive(Default)]
struct Reads {
    next: u64,
    /// Tickets below this are spoilt, whatever they are for.
    cleared: u64,
    by_session: HashMap<SessionId, Pending>,
}

struct Pending {
    /// Tickets below this are spoilt.
    clean_from: u64,
    outstanding: usize,
}

/// The sessions kept by the news of one server.
pub(crate) struct ClientCache {
    sessions: Cache<SessionId, Session>,
    // Also held while sessions are stored and removed, so that the two cannot pass each other.
    reads: Mutex<Reads>,
    /// On the steady clock, in microseconds; 0 while nothing may be used.
    usable_until: AtomicU64,
    /// Over which sessions are read to be kept, and changes are told.
    connection: ArcSwapOption<Connection>,
}

/// The right to store what a read brings, unless it is spoilt meanwhile.
pub(crate) struct Ticket<'a> {
    cache: &'a ClientCache,
    session: SessionId,
    number: u64,
}

impl ClientCache {
    /// Room for so many sessions.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            sessions: Cache::new(capacity),
            reads: Mutex::default(),
            usable_until: AtomicU64::new(0),
            connection: ArcSwapOption::empty(),
        }
    }

    /// A session, if it is kept and may be used now.
    pub(crate) fn get(&self, id: SessionId) -> Option<Session> {
        if self.is_usable() { self.sessions.get(&id) } else { None }
    }

    /// Whether what is kept may be used now.
    pub(crate) fn is_usable(&self) -> bool {
        monotonic_micros() <= self.usable_until.load(Ordering::Acquire)
    }

    /// A ticket for a read that is sent after this, and the connection to send it on; `None` while what it brings
    /// could not be kept.
    pub(crate) fn begin(&self, session: SessionId) -> Option<(Ticket<'_>, Connection)> {
        if !self.is_usable() {
            return None;
        }
        let ticket = self.ticket(session);
        // Taken after the ticket: had the connection been lost in between, the ticket would be spoilt.
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

    /// Forgets a session, and spoils the reads of it that are under way.
    pub(crate) fn forget(&self, session: SessionId) {
        let mut reads = self.reads.lock();
        let next = reads.next;
        if let Some(pending) = reads.by_session.get_mut(&session) {
            pending.clean_from = next;
        }
        self.sessions.remove(&session);
    }

    /// Forgets everything, and spoils all reads that are under way.
    pub(crate) fn forget_all(&self) {
        let mut reads = self.reads.lock();
        reads.cleared = reads.next;
        self.sessions.clear();
    }

    /// From now on sessions are read and changes are told over this connection.
    pub(crate) fn connected(&self, connection: Connection) {
        self.connection.store(Some(Arc::new(connection)));
    }

    /// The connection is lost or in doubt: nothing learned over it counts.
    pub(crate) fn disconnected(&self) {
        self.usable_until.store(0, Ordering::Release);
        self.connection.store(None);
        self.forget_all();
    }

    /// A connection ended, this or an earlier one: nothing may be used until the server answers again.
    pub(crate) fn suspend(&self) {
        self.usable_until.store(0, Ordering::Release);
        self.forget_all();
    }

    /// The server gave its sign to a question that was sent at this reading of the steady clock.
    pub(crate) fn renew(&self, sent: u64) {
        let lease = u64::try_from(LEASE.as_micros()).unwrap_or_default();
        self.usable_until.store(sent + lease, Ordering::Release);
    }
}

impl Ticket<'_> {
    /// Stores what the read brought, if nothing changed since the ticket was taken.
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
