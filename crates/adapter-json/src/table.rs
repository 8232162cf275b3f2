//! The sessions in memory: packed rows, shared texts, and the lists of each device and subject.

use std::sync::Arc;

use hashbrown::HashTable;
use tenure_domain::{
    Bucket, ClientInfo, Credential, DeviceId, Digest, End, Horizon, Millis, Replaced, Revision, Session, SessionError,
    SessionId, SessionParts, Subject, Terms, Timestamp,
};

use crate::intern::{Interner, Keyed, grow};

/// No row, no list.
pub(crate) const NONE: u32 = u32::MAX;
/// No time. Later than any.
const NEVER: u64 = u64::MAX;

/// A session's row. A free one has generation 0.
pub(crate) struct Row {
    pub(crate) id: SessionId,
    pub(crate) current: [u8; 32],
    pub(crate) family: [u8; 32],
    pub(crate) created: u64,
    pub(crate) active: u64,
    pub(crate) expires: u64,
    pub(crate) rotated: u64,
    /// Of the directly replaced token; `NEVER` where none was replaced.
    pub(crate) stops: u64,
    pub(crate) tolerance: u64,
    pub(crate) order: u64,
    /// What few rows have.
    pub(crate) rare: Option<Box<Rare>>,
    pub(crate) generation: u32,
    pub(crate) device: u32,
    pub(crate) subject: u32,
    pub(crate) client: u32,
    pub(crate) terms: u32,
    pub(crate) of_device: Link,
    pub(crate) of_subject: Link,
    /// Named lapsed by a commit.
    pub(crate) lapsed: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Rare {
    pub(crate) previous: Option<[u8; 32]>,
    pub(crate) end: Option<End>,
}

/// A row's place in a list.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) before: u32,
    pub(crate) after: u32,
}

pub(crate) const UNLINKED: Link = Link { before: NONE, after: NONE };

pub(crate) struct DeviceRow {
    pub(crate) name: DeviceId,
    pub(crate) revision: Revision,
    pub(crate) horizon: Option<Horizon>,
    pub(crate) bucket: Bucket,
    pub(crate) first: u32,
}

pub(crate) struct SubjectRow {
    pub(crate) name: Subject,
    pub(crate) first: u32,
}

impl Keyed for DeviceRow {
    type Key<'a> = &'a str;

    fn key(&self) -> &str {
        self.name.as_str()
    }

    fn is(&self, key: &str) -> bool {
        self.key() == key
    }
}

impl Keyed for SubjectRow {
    type Key<'a> = &'a str;

    fn key(&self) -> &str {
        self.name.as_str()
    }

    fn is(&self, key: &str) -> bool {
        self.key() == key
    }
}

impl Keyed for Arc<ClientInfo> {
    type Key<'a> = [Option<&'a str>; 7];

    fn key(&self) -> Self::Key<'_> {
        tenure_domain::ClientField::ALL.map(|field| self.get(field))
    }

    fn is(&self, key: Self::Key<'_>) -> bool {
        self.key() == key
    }
}

impl Keyed for Terms {
    type Key<'a> = Self;

    fn key(&self) -> Self {
        *self
    }

    fn is(&self, key: Self) -> bool {
        *self == key
    }
}

#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    free: Vec<u32>,
    index: HashTable<u32>,
    pub(crate) devices: Interner<DeviceRow>,
    pub(crate) subjects: Interner<SubjectRow>,
    pub(crate) clients: Interner<Arc<ClientInfo>>,
    pub(crate) terms: Interner<Terms>,
}

/// Ids are random already; the multiplication spreads those that are not over all bits.
const fn hash(id: SessionId) -> u64 {
    let wide = id.as_u128();
    let product = ((wide >> 64) as u64 ^ wide as u64) as u128 * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

impl Row {
    pub(crate) fn end(&self) -> Option<&End> {
        self.rare.as_ref()?.end.as_ref()
    }

    /// Whether it left the set that decisions load.
    pub(crate) fn is_over(&self) -> bool {
        self.lapsed || self.end().is_some()
    }

    pub(crate) const fn is_free(&self) -> bool {
        self.generation == 0
    }

    pub(crate) fn set_replaced(&mut self, replaced: Option<&Replaced>) {
        self.stops = replaced.map_or(NEVER, |replaced| replaced.stops_at.as_millis());
        self.tolerance = replaced.map_or(0, |replaced| replaced.tolerance.get());
        let previous = replaced.and_then(|replaced| replaced.digest).map(|digest| *digest.as_bytes());
        if previous.is_some() || self.rare.as_ref().is_some_and(|rare| rare.previous.is_some()) {
            self.rare.get_or_insert_default().previous = previous;
        }
    }

    pub(crate) fn set_rotated(&mut self, at: Option<Timestamp>) {
        self.rotated = at.map_or(NEVER, Timestamp::as_millis);
    }

    pub(crate) fn set_end(&mut self, end: End) {
        self.rare.get_or_insert_default().end = Some(end);
    }

    fn replaced(&self) -> Option<Replaced> {
        (self.stops != NEVER).then(|| Replaced {
            digest: self.rare.as_ref().and_then(|rare| rare.previous).map(Digest::from_bytes),
            stops_at: Timestamp::from_millis(self.stops),
            tolerance: Millis::new(self.tolerance),
        })
    }
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// One past the last place that is or was in use.
    pub(crate) fn bound(&self) -> u32 {
        self.rows.len() as u32
    }

    pub(crate) fn find(&self, id: SessionId) -> Option<u32> {
        self.index.find(hash(id), |&at| self.rows[at as usize].id == id).copied()
    }

    pub(crate) fn row(&self, at: u32) -> &Row {
        &self.rows[at as usize]
    }

    pub(crate) fn row_mut(&mut self, at: u32) -> &mut Row {
        &mut self.rows[at as usize]
    }

    /// The rows from `from` on, with their places.
    pub(crate) fn rows_from(&self, from: u32) -> impl Iterator<Item = (u32, &Row)> {
        let rows = self.rows.get(from as usize..).unwrap_or_default();
        (from..).zip(rows).filter(|(_, row)| !row.is_free())
    }

    pub(crate) fn device_rows(&self, device: u32) -> impl Iterator<Item = (u32, &Row)> {
        let first = self.devices.get(device).map_or(NONE, |device| device.first);
        self.list(first, |row| row.of_device.after)
    }

    pub(crate) fn subject_rows(&self, subject: u32) -> impl Iterator<Item = (u32, &Row)> {
        let first = self.subjects.get(subject).map_or(NONE, |subject| subject.first);
        self.list(first, |row| row.of_subject.after)
    }

    fn list(&self, first: u32, after: impl Fn(&Row) -> u32) -> impl Iterator<Item = (u32, &Row)> {
        let mut at = first;
        std::iter::from_fn(move || {
            let row = self.rows.get(at as usize)?;
            let here = at;
            at = after(row);
            Some((here, row))
        })
    }

    /// The session in a row.
    pub(crate) fn session(&self, at: u32) -> Result<Session, SessionError> {
        let row = &self.rows[at as usize];
        let id = row.id;
        let lost = |problem| SessionError { id, problem };
        Session::from_parts(SessionParts {
            id,
            device: self.devices.get(row.device).ok_or_else(|| lost("its device is not known"))?.name.clone(),
            subject: self.subjects.get(row.subject).ok_or_else(|| lost("its subject is not known"))?.name.clone(),
            client: self.clients.get(row.client).ok_or_else(|| lost("its client is not known"))?.clone(),
            created_at: Timestamp::from_millis(row.created),
            order: row.order,
            last_activity: Timestamp::from_millis(row.active),
            expires_at: Timestamp::from_millis(row.expires),
            generation: row.generation,
            rotated_at: (row.rotated != NEVER).then(|| Timestamp::from_millis(row.rotated)),
            terms: *self.terms.get(row.terms).ok_or_else(|| lost("its terms are not known"))?,
            credential: Credential {
                current: Digest::from_bytes(row.current),
                family: Digest::from_bytes(row.family),
                replaced: row.replaced(),
            },
            end: row.end().cloned(),
        })
    }

    /// Whether a session can have what the row says.
    pub(crate) fn check(&self, at: u32) -> Result<(), SessionError> {
        self.session(at).map(drop)
    }

    /// Puts a row whose shared values are acquired, and lists it.
    pub(crate) fn insert(&mut self, row: Row) -> u32 {
        let id = row.id;
        let (device, subject) = (row.device, row.subject);
        let at = match self.free.pop() {
            Some(at) => {
                self.rows[at as usize] = row;
                at
            }
            None => {
                grow(&mut self.rows);
                self.rows.push(row);
                (self.rows.len() - 1) as u32
            }
        };
        let Self { rows, index, .. } = self;
        index.insert_unique(hash(id), at, |&other| hash(rows[other as usize].id));
        self.link(at, device, subject);
        at
    }

    fn link(&mut self, at: u32, device: u32, subject: u32) {
        let device = self.devices.get_mut(device).map_or(NONE, |device| std::mem::replace(&mut device.first, at));
        let subject = self.subjects.get_mut(subject).map_or(NONE, |subject| std::mem::replace(&mut subject.first, at));
        self.rows[at as usize].of_device = Link { before: NONE, after: device };
        self.rows[at as usize].of_subject = Link { before: NONE, after: subject };
        if device != NONE {
            self.rows[device as usize].of_device.before = at;
        }
        if subject != NONE {
            self.rows[subject as usize].of_subject.before = at;
        }
    }

    fn unlink(&mut self, at: u32) {
        let row = &self.rows[at as usize];
        let (device, subject, of_device, of_subject) = (row.device, row.subject, row.of_device, row.of_subject);
        match of_device.before {
            NONE => {
                if let Some(device) = self.devices.get_mut(device) {
                    device.first = of_device.after;
                }
            }
            before => self.rows[before as usize].of_device.after = of_device.after,
        }
        if of_device.after != NONE {
            self.rows[of_device.after as usize].of_device.before = of_device.before;
        }
        match of_subject.before {
            NONE => {
                if let Some(subject) = self.subjects.get_mut(subject) {
                    subject.first = of_subject.after;
                }
            }
            before => self.rows[before as usize].of_subject.after = of_subject.after,
        }
        if of_subject.after != NONE {
            self.rows[of_subject.after as usize].of_subject.before = of_subject.before;
        }
    }

    /// Removes a row and what nobody else shares with it. Its device stays: [`Table::forget`].
    pub(crate) fn remove(&mut self, at: u32) {
        self.unlink(at);
        let row = &mut self.rows[at as usize];
        let id = row.id;
        let (device, subject, client, terms) = (row.device, row.subject, row.client, row.terms);
        row.generation = 0;
        row.rare = None;
        if let Ok(entry) = self.index.find_entry(hash(id), |&other| other == at) {
            entry.remove();
        }
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

    /// Removes a device that has no session and no horizon that still counts at `now`.
    pub(crate) fn forget(&mut self, device: u32, now: Timestamp) {
        let idle = self.devices.uses(device) == 0
            && self.devices.get(device).is_some_and(|device| device.horizon.is_none_or(|horizon| horizon.until <= now));
        if idle {
            self.devices.remove(device);
        }
    }
}
