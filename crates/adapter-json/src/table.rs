//! The table of all sessions in memory: packed rows, the values that they share, and the lists of each device and
//! subject.

use std::sync::Arc;

use tenure_domain::{ClientInfo, Credential, Digest, Session, SessionError, SessionId, SessionParts, Terms, Timestamp};

pub(crate) mod apply;
pub(crate) mod interner;
mod row;
mod row_index;
mod rows;
mod shared_values;

use interner::Interner;
pub(crate) use row::{Link, NONE, Row, SharedSlots};
use row_index::RowIndex;
pub(crate) use rows::ROWS_PER_CHUNK;
use rows::Rows;
pub(crate) use shared_values::{DeviceRow, SubjectRow};

/// The table of all sessions of a store. Each row, and each value that rows share, has a numbered slot.
#[derive(Default)]
pub(crate) struct Table {
    rows: Rows,
    /// The slots without a session.
    free: Vec<u32>,
    index: RowIndex,
    pub(crate) devices: Interner<DeviceRow>,
    pub(crate) subjects: Interner<SubjectRow>,
    pub(crate) clients: Interner<Arc<ClientInfo>>,
    pub(crate) terms: Interner<Terms>,
}

/// Returns the hash of an id. Ids are random. The multiplication also spreads those of tests, which are not.
const fn hash(id: SessionId) -> u64 {
    let wide = id.as_u128();
    let product = ((wide >> 64) as u64 ^ wide as u64) as u128 * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

impl Table {
    /// Makes a table from rows, in chunks of [`ROWS_PER_CHUNK`], and the values that they share. All links and use
    /// counts must be set.
    pub(crate) fn from_parts(
        chunks: Vec<Vec<Row>>,
        devices: Interner<DeviceRow>,
        subjects: Interner<SubjectRow>,
        clients: Interner<Arc<ClientInfo>>,
        terms: Interner<Terms>,
    ) -> Self {
        let rows = Rows::from_chunks(chunks);
        let placed = || (0_u32..).zip(rows.from(0));
        let free = placed().filter(|(_, row)| row.is_free()).map(|(at, _)| at).collect();
        let mut index = RowIndex::default();
        index.insert_all(placed().filter(|(_, row)| !row.is_free()).map(|(at, row)| (hash(row.id), at)));
        Self { rows, free, index, devices, subjects, clients, terms }
    }

    /// Returns the number of sessions.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Returns the number of slots, free ones included.
    pub(crate) fn slot_count(&self) -> u32 {
        self.rows.len() as u32
    }

    /// Returns the slot of a session.
    pub(crate) fn find(&self, id: SessionId) -> Option<u32> {
        self.index.find(hash(id), |at| self.rows[at].id == id)
    }

    /// Loads the index entries of many sessions into the processor's cache. The processor fetches several at once, so
    /// that the look-ups that follow need not wait for memory.
    pub(crate) fn prefetch(&self, ids: impl Iterator<Item = SessionId>) {
        self.index.prefetch(ids.map(hash));
    }

    pub(crate) fn row(&self, at: u32) -> &Row {
        &self.rows[at]
    }

    pub(crate) fn row_mut(&mut self, at: u32) -> &mut Row {
        &mut self.rows[at]
    }

    /// Returns the rows from the slot `from` on, with their slots.
    pub(crate) fn rows_from(&self, from: u32) -> impl Iterator<Item = (u32, &Row)> {
        (from..).zip(self.rows.from(from)).filter(|(_, row)| !row.is_free())
    }

    /// Returns the rows of a device, with their slots.
    pub(crate) fn device_rows(&self, device: u32) -> impl Iterator<Item = (u32, &Row)> {
        let first = self.devices.get(device).map_or(NONE, |device| device.first);
        self.list(first, |row| row.next_of_device)
    }

    /// Returns the rows of a subject, with their slots.
    pub(crate) fn subject_rows(&self, subject: u32) -> impl Iterator<Item = (u32, &Row)> {
        let first = self.subjects.get(subject).map_or(NONE, |subject| subject.first);
        self.list(first, |row| row.subject_link.next)
    }

    fn list(&self, first: u32, next: impl Fn(&Row) -> u32) -> impl Iterator<Item = (u32, &Row)> {
        let mut at = first;
        std::iter::from_fn(move || {
            let row = self.rows.get(at)?;
            let here = at;
            at = next(row);
            Some((here, row))
        })
    }

    /// Returns the session in a slot.
    ///
    /// # Errors
    /// [`SessionError`] if the row contradicts itself.
    pub(crate) fn session(&self, at: u32) -> Result<Session, SessionError> {
        let row = &self.rows[at];
        let id = row.id;
        let lost = |message| SessionError { id, message };
        Session::from_parts(SessionParts {
            id,
            device: row.device_id.clone().ok_or_else(|| lost("its device is not known"))?,
            subject: self.subjects.get(row.subject).ok_or_else(|| lost("its subject is not known"))?.name.clone(),
            client: self.clients.get(row.client).ok_or_else(|| lost("its client is not known"))?.clone(),
            created_at: Timestamp::from_millis(row.created),
            order: row.order,
            last_activity: Timestamp::from_millis(row.last_activity),
            expires_at: Timestamp::from_millis(row.expires),
            generation: row.generation,
            rotated_at: row.rotated(),
            terms: *self.terms.get(row.terms).ok_or_else(|| lost("its terms are not known"))?,
            credential: Credential {
                current: Digest::from_bytes(row.current),
                family: Digest::from_bytes(row.family),
                replaced: row.replaced(),
            },
            end: row.end().cloned(),
        })
    }

    /// Checks that a row does not contradict itself.
    pub(crate) fn check(&self, at: u32) -> Result<(), SessionError> {
        self.session(at).map(drop)
    }

    /// Inserts a row, and adds it to the lists of its device and subject. The caller has acquired the row's shared
    /// values. Returns the slot.
    pub(crate) fn insert(&mut self, row: Row) -> u32 {
        let (id, device, subject) = (row.id, row.device, row.subject);
        let at = match self.free.pop() {
            Some(at) => {
                self.rows[at] = row;
                at
            }
            None => {
                self.rows.push(row);
                (self.rows.len() - 1) as u32
            }
        };
        self.index.insert(hash(id), at);
        self.link(at, device, subject);
        at
    }

    fn link(&mut self, at: u32, device: u32, subject: u32) {
        let device = self.devices.get_mut(device);
        let (device_id, next) =
            device.map_or((None, NONE), |device| (Some(device.name.clone()), std::mem::replace(&mut device.first, at)));
        let subject = self.subjects.get_mut(subject).map_or(NONE, |subject| std::mem::replace(&mut subject.first, at));
        let row = &mut self.rows[at];
        row.device_id = device_id;
        row.next_of_device = next;
        row.subject_link = Link { previous: NONE, next: subject };
        if subject != NONE {
            self.rows[subject].subject_link.previous = at;
        }
    }

    fn unlink(&mut self, at: u32) {
        let row = &self.rows[at];
        let (device, subject, next, subject_link) = (row.device, row.subject, row.next_of_device, row.subject_link);
        let previous = self.device_rows(device).find(|(_, row)| row.next_of_device == at).map(|(at, _)| at);
        match previous {
            Some(previous) => self.rows[previous].next_of_device = next,
            None => {
                if let Some(device) = self.devices.get_mut(device) {
                    device.first = next;
                }
            }
        }
        match subject_link.previous {
            NONE => {
                if let Some(subject) = self.subjects.get_mut(subject) {
                    subject.first = subject_link.next;
                }
            }
            previous => self.rows[previous].subject_link.next = subject_link.next,
        }
        if subject_link.next != NONE {
            self.rows[subject_link.next].subject_link.previous = subject_link.previous;
        }
    }

    /// Removes a row, and the values that no other row shares with it. Its device stays: see
    /// [`Table::remove_unused_device`].
    pub(crate) fn remove(&mut self, at: u32) {
        self.unlink(at);
        let row = &mut self.rows[at];
        let (id, device, subject, client, terms) = (row.id, row.device, row.subject, row.client, row.terms);
        (row.generation, row.cold, row.device_id) = (0, None, None);
        self.index.remove(hash(id), at);
        self.free.push(at);
        self.devices.release(device);
        if self.subjects.release(subject) == 0 {
            self.subjects.remove(subject);
        }
        if self.clients.release(client) == 0 {
            self.clients.remove(client);
        }
        if self.terms.release(terms) == 0 {
            self.terms.remove(terms);
        }
    }

    /// Removes a device, if it has no session and no watermark that is still needed at `now`.
    pub(crate) fn remove_unused_device(&mut self, device: u32, now: Timestamp) {
        let is_unused = self.devices.use_count(device) == 0
            && self
                .devices
                .get(device)
                .is_some_and(|device| device.watermark.is_none_or(|watermark| watermark.until <= now));
        if is_unused {
            self.devices.remove(device);
        }
    }
}
