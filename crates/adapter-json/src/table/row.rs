//! The packed row of a session.

use tenure_domain::{DeviceId, Digest, End, Millis, Replaced, SessionId, Timestamp};

/// The number that stands for no slot.
pub(crate) const NONE: u32 = u32::MAX;
/// The time that stands for no time. It is later than any other.
const NO_TIME: u64 = u64::MAX;

/// The row of a session. The row of a free slot has generation 0. A row fills three cache lines, which a look-up
/// fetches together. Times are in Unix milliseconds.
#[repr(align(64))]
pub(crate) struct Row {
    pub(crate) id: SessionId,
    pub(crate) current: [u8; 32],
    pub(crate) family: [u8; 32],
    pub(crate) created: u64,
    pub(crate) last_activity: u64,
    pub(crate) expires: u64,
    pub(crate) rotated: u64,
    /// When the directly replaced token stops being valid. [`NO_TIME`] if no token was replaced.
    pub(crate) replaced_stops_at: u64,
    pub(crate) order: u64,
    /// A copy of the device's id, so that a look-up need not fetch the device. `None` in a free row.
    pub(crate) device_id: Option<DeviceId>,
    /// The fields that few rows have.
    pub(crate) cold: Option<Box<ColdFields>>,
    pub(crate) generation: u32,
    pub(crate) device: u32,
    pub(crate) subject: u32,
    pub(crate) client: u32,
    pub(crate) terms: u32,
    /// The slot of the device's next row. A device has few rows, so its list needs no links back.
    pub(crate) next_of_device: u32,
    /// The slots of the neighbours in the list of the subject.
    pub(crate) subject_link: Link,
    /// The tolerance for the directly replaced token, in milliseconds. `u32::MAX` if it does not fit.
    tolerance: u32,
    /// Whether a commit named the session as expired.
    pub(crate) expired: bool,
}

/// The fields that few rows have. They are stored apart, so that the other rows need no space for them.
#[derive(Clone, Default)]
pub(crate) struct ColdFields {
    /// The digest of the directly replaced token, if that stays valid for a while.
    pub(crate) previous: Option<[u8; 32]>,
    /// The tolerance in milliseconds, if it does not fit the row.
    tolerance: Option<u64>,
    pub(crate) end: Option<End>,
}

/// The slots of the values that a row shares with others.
#[derive(Clone, Copy)]
pub(crate) struct SharedSlots {
    pub(crate) device: u32,
    pub(crate) subject: u32,
    pub(crate) client: u32,
    pub(crate) terms: u32,
}

/// The slots of a row's neighbours in a list. [`NONE`] at the ends.
#[derive(Clone, Copy)]
pub(crate) struct Link {
    pub(crate) previous: u32,
    pub(crate) next: u32,
}

const UNLINKED: Link = Link { previous: NONE, next: NONE };

/// The id in the rows of free slots. It is in no index, so no look-up finds such a row.
const UNUSED_ID: SessionId = match SessionId::from_u128(0) {
    Some(id) => id,
    None => unreachable!(),
};

impl Row {
    /// Makes a row with the fields that every session has. The others are empty.
    pub(crate) const fn new(id: SessionId, current: [u8; 32], family: [u8; 32], shared: SharedSlots) -> Self {
        let SharedSlots { device, subject, client, terms } = shared;
        Self {
            id,
            current,
            family,
            created: 0,
            last_activity: 0,
            expires: 0,
            rotated: NO_TIME,
            replaced_stops_at: NO_TIME,
            order: 0,
            device_id: None,
            cold: None,
            generation: 1,
            device,
            subject,
            client,
            terms,
            next_of_device: NONE,
            subject_link: UNLINKED,
            tolerance: 0,
            expired: false,
        }
    }

    /// Makes the row of a free slot.
    pub(crate) fn free() -> Self {
        let shared = SharedSlots { device: NONE, subject: NONE, client: NONE, terms: NONE };
        Self { generation: 0, ..Self::new(UNUSED_ID, [0; 32], [0; 32], shared) }
    }

    pub(crate) fn end(&self) -> Option<&End> {
        self.cold.as_ref()?.end.as_ref()
    }

    /// Whether the session has ended or was named as expired, so that decisions no longer load it.
    pub(crate) fn is_inactive(&self) -> bool {
        self.expired || self.end().is_some()
    }

    pub(crate) const fn is_free(&self) -> bool {
        self.generation == 0
    }

    pub(crate) fn set_replaced(&mut self, replaced: Option<&Replaced>) {
        self.replaced_stops_at = replaced.map_or(NO_TIME, |replaced| replaced.stops_at.as_millis());
        let tolerance = replaced.map_or(0, |replaced| replaced.tolerance.get());
        self.tolerance = u32::try_from(tolerance).unwrap_or(u32::MAX);
        let wide = (tolerance >= u64::from(u32::MAX)).then_some(tolerance);
        let previous = replaced.and_then(|replaced| replaced.digest).map(|digest| *digest.as_bytes());
        if previous.is_some() || wide.is_some() || self.cold.is_some() {
            let cold = self.cold.get_or_insert_default();
            (cold.previous, cold.tolerance) = (previous, wide);
        }
    }

    pub(crate) fn set_rotated(&mut self, at: Option<Timestamp>) {
        self.rotated = at.map_or(NO_TIME, Timestamp::as_millis);
    }

    pub(crate) fn set_end(&mut self, end: End) {
        self.cold.get_or_insert_default().end = Some(end);
    }

    pub(crate) fn replaced(&self) -> Option<Replaced> {
        let cold = self.cold.as_ref();
        let wide = cold.and_then(|cold| cold.tolerance);
        (self.replaced_stops_at != NO_TIME).then(|| Replaced {
            digest: cold.and_then(|cold| cold.previous).map(Digest::from_bytes),
            stops_at: Timestamp::from_millis(self.replaced_stops_at),
            tolerance: Millis::new(wide.unwrap_or_else(|| self.tolerance.into())),
        })
    }

    pub(crate) fn rotated(&self) -> Option<Timestamp> {
        (self.rotated != NO_TIME).then(|| Timestamp::from_millis(self.rotated))
    }
}
