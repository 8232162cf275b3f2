//! The values that rows share: devices, subjects, clients and terms.

use std::sync::Arc;

use tenure_domain::{Bucket, ClientField, ClientInfo, DeviceId, Revision, RevocationWatermark, Subject, Terms};

use super::interner::Keyed;

/// The device of one or more rows.
pub(crate) struct DeviceRow {
    pub(crate) name: DeviceId,
    pub(crate) revision: Revision,
    pub(crate) watermark: Option<RevocationWatermark>,
    pub(crate) bucket: Bucket,
    /// The slot of the first row of the device.
    pub(crate) first: u32,
}

/// The subject of one or more rows.
pub(crate) struct SubjectRow {
    pub(crate) name: Subject,
    /// The slot of the first row of the subject.
    pub(crate) first: u32,
}

impl Keyed for DeviceRow {
    type Key<'a> = &'a str;

    fn key(&self) -> &str {
        self.name.as_str()
    }

    fn has_key(&self, key: &str) -> bool {
        self.key() == key
    }
}

impl Keyed for SubjectRow {
    type Key<'a> = &'a str;

    fn key(&self) -> &str {
        self.name.as_str()
    }

    fn has_key(&self, key: &str) -> bool {
        self.key() == key
    }
}

impl Keyed for Arc<ClientInfo> {
    type Key<'a> = [Option<&'a str>; 7];

    fn key(&self) -> Self::Key<'_> {
        ClientField::ALL.map(|field| self.get(field))
    }

    fn has_key(&self, key: Self::Key<'_>) -> bool {
        self.key() == key
    }
}

impl Keyed for Terms {
    type Key<'a> = Self;

    fn key(&self) -> Self {
        *self
    }

    fn has_key(&self, key: Self) -> bool {
        *self == key
    }
}
