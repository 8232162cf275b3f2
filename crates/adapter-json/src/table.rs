//! The sessions in memory: packed rows, shared texts, and the lists of each device and subject.

use std::sync::Arc;

use tenure_domain::{
    Bucket, ClientInfo, Credential, DeviceId, Digest, End, Millis, Replaced, Revision, RevocationWatermark, Session,
    SessionError, SessionId, SessionParts, Subject, Terms, Timestamp,
};

use crate::intern::{Interner, Keyed};

mod places;
mod rows;

use places::Places;
pub(crate) use rows::PIECE;
use rows::Rows;

/// No row, no list.
pub(crate) const NONE: u32 = u32::MAX;
/// No time. Later than any.
const NEVER: u64 = u64::MAX;

/// A session's row. A free one has generation 0. Three lines of cache, which a look-up fetches together.
#[repr(align(64))]
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
    pub(crate) order: u64,
    /// The device's own, so that a look-up needs no look at the device. `None` in a free row.
    pub(crate) name: Option<DeviceId>,
    /// What few rows have.
    pub(crate) rare: Option<Box<Rare>>,
    pub(crate) generation: u32,
    pub(crate) device: u32,
    pub(crate) subject: u32,
    pub(crate) client: u32,
    pub(crate) terms: u32,
    /// The device's next row. A device has few, so that nothing leads back.
    pub(crate) of_device: u32,
    pub(crate) of_subject: Link,
    tolerance: u32,
    /// Named lapsed by a commit.
    pub(crate) expired: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Rare {
    pub(crate) previous: Option<[u8; 32]>,
    /// A tolerance for which the row has no room.
    tolerance: Option<u64>,
    pub(crate) end: Option<End>,
}

/// The places of what a row shares with others.
#[derive(Clone, Copy)]
pub(crate) struct Shares {
    pub(crate) device: u32,
    pub(crate) subject: u32,
    pub(crate) client: u32,
    pub(crate) terms: u32,
}

/// A row's place in a list.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) before: u32,
    pub(crate) after: u32,
}

const UNLINKED: Link = Link { before: NONE, after: NONE };

pub(crate) struct DeviceRow {
    pub(crate) name: DeviceId,
    pub(crate) revision: Revision,
    pub(crate) watermark: Option<RevocationWatermark>,
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
    rows: Rows,
    free: Vec<u32>,
    index: Places,
    pub(crate) devices: Interner<DeviceRow>,
    pub(crate) subjects: Interner<SubjectRow>,
    pub(crate) clients: Interner<Arc<ClientInfo>>,
    pub(crate) terms: Interner<Terms>,
}

/// An id for rows without a session: nobody looks for it.
const NOBODY: SessionId = match SessionId::from_u128(0) {
    Some(id) => id,
    None => unreachable!(),
};

/// Ids are random already; the multiplication spreads those that are not over all bits.
const fn hash(id: SessionId) -> u64 {
    let wide = id.as_u128();
    let product = ((wide >> 64) as u64 ^ wide as u64) as u128 * 0x9e37_79b9_7f4a_7c15;
    (product >> 64) as u64 ^ product as u64
}

impl Row {
    /// What every session has; the rest is as after an issue.
    pub(crate) const fn new(id: SessionId, current: [u8; 32], family: [u8; 32], shared: Shares) -> Self {
        let Shares { device, subject, client, terms } = shared;
        Self {
            id,
            current,
            family,
            created: 0,
            active: 0,
            expires: 0,
            rotated: NEVER,
            stops: NEVER,
            order: 0,
            name: None,
            rare: None,
            generation: 1,
            device,
            subject,
            client,
            terms,
            of_device: NONE,
            of_subject: UNLINKED,
            tolerance: 0,
            expired: false,
        }
    }

    /// A place without a session.
    pub(crate) fn free() -> Self {
        let shared = Shares { device: NONE, subject: NONE, client: NONE, terms: NONE };
        Self { generation: 0, ..Self::new(NOBODY, [0; 32], [0; 32], shared) }
    }

    pub(crate) fn end(&self) -> Option<&End> {
        self.rare.as_ref()?.end.as_ref()
    }

    /// Whether it left the set that decisions load.
    pub(crate) fn is_over(&self) -> bool {
        self.expired || self.end().is_some()
    }

    pub(crate) const fn is_free(&self) -> bool {
        self.generation == 0
    }

    pub(crate) fn set_replaced(&mut self, replaced: Option<&Replaced>) {
        self.stops = replaced.map_or(NEVER, |replaced| replaced.stops_at.as_millis());
        let tolerance = replaced.map_or(0, |replaced| replaced.tolerance.get());
        self.tolerance = u32::try_from(tolerance).unwrap_or(u32::MAX);
        let wide = (tolerance >= u64::from(u32::MAX)).then_some(tolerance);
        let previous = replaced.and_then(|replaced| replaced.digest).map(|digest| *digest.as_bytes());
        if previous.is_some() || wide.is_some() || self.rare.is_some() {
            let rare = self.rare.get_or_insert_default();
            (rare.previous, rare.tolerance) = (previous, wide);
        }
    }

    pub(crate) fn set_rotated(&mut self, at: Option<Timestamp>) {
        self.rotated = at.map_or(NEVER, Timestamp::as_millis);
    }

    pub(crate) fn set_end(&mut self, end: End) {
        self.rare.get_or_insert_default().end = Some(end);
    }

    pub(crate) fn replaced(&self) -> Option<Replaced> {
        let rare = self.rare.as_ref();
        let wide = rare.and_then(|rare| rare.tolerance);
        (self.stops != NEVER).then(|| Replaced {
            digest: rare.and_then(|rare| rare.previous).map(Digest::from_bytes),
            stops_at: Timestamp::from_millis(self.stops),
            tolerance: Millis::new(wide.unwrap_or_else(|| self.tolerance.into())),
        })
    }

    pub(crate) fn rotated(&self) -> Option<Timestamp> {
        (self.rotated != NEVER).then(|| Timestamp::from_millis(self.rotated))
    }
}

impl Table {
    /// From rows in pieces of [`PIECE`] and what they share, linked and counted already.
    pub(crate) fn from_parts(
        pieces: Vec<Vec<Row>>,
        devices: Interner<DeviceRow>,
        subjects: Interner<SubjectRow>,
        clients: Interner<Arc<ClientInfo>>,
        terms: Interner<Terms>,
    ) -> Self {
        let rows = Rows::from_pieces(pieces);
        let placed = || (0_u32..).zip(rows.from(0));
        let free = placed().filter(|(_, row)| row.is_free()).map(|(at, _)| at).collect();
        let mut index = Places::default();
        index.fill(placed().filter(|(_, row)| !row.is_free()).map(|(at, row)| (hash(row.id), at)));
        Self { rows, free, index, devices, subjects, clients, terms }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// One past the last place that is or was in use.
    pub(crate) fn bound(&self) -> u32 {
        self.rows.len() as u32
    }

    pub(crate) fn find(&self, id: SessionId) -> Option<u32> {
        self.index.find(hash(id), |at| self.rows[at].id == id)
    }

    /// Looks where these sessions are or would be. The processor does that for many at once, and then each is found
    /// without waiting for memory.
    pub(crate) fn warm(&self, ids: impl Iterator<Item = SessionId>) {
        self.index.warm(ids.map(hash));
    }

    pub(crate) fn row(&self, at: u32) -> &Row {
        &self.rows[at]
    }

    pub(crate) fn row_mut(&mut self, at: u32) -> &mut Row {
        &mut self.rows[at]
    }

    /// The rows from `from` on, with their places.
    pub(crate) fn rows_from(&self, from: u32) -> impl Iterator<Item = (u32, &Row)> {
        (from..).zip(self.rows.from(from)).filter(|(_, row)| !row.is_free())
    }

    pub(crate) fn device_rows(&self, device: u32) -> impl Iterator<Item = (u32, &Row)> {
        let first = self.devices.get(device).map_or(NONE, |device| device.first);
        self.list(first, |row| row.of_device)
    }

    pub(crate) fn subject_rows(&self, subject: u32) -> impl Iterator<Item = (u32, &Row)> {
        let first = self.subjects.get(subject).map_or(NONE, |subject| subject.first);
        self.list(first, |row| row.of_subject.after)
    }

    fn list(&self, first: u32, after: impl Fn(&Row) -> u32) -> impl Iterator<Item = (u32, &Row)> {
        let mut at = first;
        std::iter::from_fn(move || {
            let row = self.rows.get(at)?;
            let here = at;
            at = after(row);
            Some((here, row))
        })
    }

    /// The session in a row.
    pub(crate) fn session(&self, at: u32) -> Result<Session, SessionError> {
        let row = &self.rows[at];
        let id = row.id;
        let lost = |message| SessionError { id, message };
        Session::from_parts(SessionParts {
            id,
            device: row.name.clone().ok_or_else(|| lost("its device is not known"))?,
            subject: self.subjects.get(row.subject).ok_or_else(|| lost("its subject is not known"))?.name.clone(),
            client: self.clients.get(row.client).ok_or_else(|| lost("its client is not known"))?.clone(),
            created_at: Timestamp::from_millis(row.created),
            order: row.order,
            last_activity: Timestamp::from_millis(row.active),
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

    /// Whether a session can have what the row says.
    pub(crate) fn check(&self, at: u32) -> Result<(), SessionError> {
        self.session(at).map(drop)
    }

    /// Puts a row whose shared values are acquired, and lists it.
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
        let (name, next) =
            device.map_or((None, NONE), |device| (Some(device.name.clone()), std::mem::replace(&mut device.first, at)));
        let subject = self.subjects.get_mut(subject).map_or(NONE, |subject| std::mem::replace(&mut subject.first, at));
        let row = &mut self.rows[at];
        row.name = name;
        row.of_device = next;
        row.of_subject = Link { before: NONE, after: subject };
        if subject != NONE {
            self.rows[subject].of_subject.before = at;
        }
    }

    fn unlink(&mut self, at: u32) {
        let row = &self.rows[at];
        let (device, subject, next, of_subject) = (row.device, row.subject, row.of_device, row.of_subject);
        let before = self.device_rows(device).find(|(_, row)| row.of_device == at).map(|(at, _)| at);
        match before {
            Some(before) => self.rows[before].of_device = next,
            None => {
                if let Some(device) = self.devices.get_mut(device) {
                    device.first = next;
                }
            }
        }
        match of_subject.before {
            NONE => {
                if let Some(subject) = self.subjects.get_mut(subject) {
                    subject.first = of_subject.after;
                }
            }
            before => self.rows[before].of_subject.after = of_subject.after,
        }
        if of_subject.after != NONE {
            self.rows[of_subject.after].of_subject.before = of_subject.before;
        }
    }

    /// Removes a row and what nobody else shares with it. Its device stays: [`Table::forget`].
    pub(crate) fn remove(&mut self, at: u32) {
        self.unlink(at);
        let row = &mut self.rows[at];
        let (id, device, subject, client, terms) = (row.id, row.device, row.subject, row.client, row.terms);
        (row.generation, row.rare, row.name) = (0, None, None);
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

    /// Removes a device that has no session and no watermark that still counts at `now`.
    pub(crate) fn forget(&mut self, device: u32, now: Timestamp) {
        let idle = self.devices.uses(device) == 0
            && self
                .devices
                .get(device)
                .is_some_and(|device| device.watermark.is_none_or(|watermark| watermark.until <= now));
        if idle {
            self.devices.remove(device);
        }
    }
}
