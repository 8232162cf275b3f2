//! Transactions, as the lines of a journal contain them.

use std::borrow::Cow;

use tenure_domain::{
    ClientField, ClientInfo, End, Millis, Replaced, RevocationWatermark, SessionId, TextError, Timestamp,
};

/// The transaction of one line. It borrows its texts from the line if they have no escapes.
#[derive(Debug, Default)]
pub(crate) struct Transaction<'a> {
    pub(crate) number: u64,
    /// The store's time when the transaction was written, in Unix milliseconds.
    pub(crate) at: u64,
    /// The number of the last transaction that the writer knew to be durable.
    pub(crate) synced: u64,
    /// The boot id of the machine when the transaction was written.
    pub(crate) boot: Cow<'a, str>,
    /// The uptime of the machine at that time, in milliseconds.
    pub(crate) uptime: u64,
    pub(crate) ops: Vec<Op<'a>>,
}

impl Transaction<'_> {
    /// Returns the sessions whose records the transaction writes.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.ops.iter().filter_map(|op| match op {
            Op::Record(_, record) => record.patch.id,
            Op::Patch(_, patch) => patch.id,
            _ => None,
        })
    }
}

/// One operation of a transaction.
#[derive(Debug)]
pub(crate) enum Op<'a> {
    /// The header of the snapshot. It is the only operation of the first line, and is in no other line.
    Header(SnapshotHeader),
    /// A device with its revision (`None` is the number of this transaction) and its watermark (`None` is unchanged).
    Device { name: Cow<'a, str>, revision: Option<u64>, watermark: Option<Option<RevocationWatermark>> },
    /// The whole record of a session.
    Record(RecordKind, Box<Record<'a>>),
    /// A change of some fields of a session's record.
    Patch(RecordKind, Box<Patch<'a>>),
    /// Sessions that a commit named as expired.
    Expire(Vec<SessionId>),
    /// Sessions whose records are removed.
    Purge(Vec<SessionId>),
    /// The last activity of sessions.
    Touch(Vec<(SessionId, Timestamp)>),
}

/// The kind of an operation on a session's record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Issue,
    Import,
    Rotate,
    End,
    UpdateClient,
    /// A compaction copied the record. The session did not change.
    Record,
}

/// The header of the snapshot that the file begins with, from the first line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SnapshotHeader {
    /// The number of the last transaction that the snapshot contains.
    pub(crate) through: u64,
    /// The checksum of that transaction.
    pub(crate) last_crc: u32,
    /// The size of the snapshot in bytes, this line included.
    pub(crate) size: u64,
    /// The number of lines of the snapshot, this line included.
    pub(crate) lines: u64,
    /// The number of sessions in the snapshot.
    pub(crate) records: u64,
}

/// The whole record of a session, not validated yet.
#[derive(Debug, Default)]
pub(crate) struct Record<'a> {
    pub(crate) patch: Patch<'a>,
    pub(crate) device: Cow<'a, str>,
    pub(crate) subject: Cow<'a, str>,
    pub(crate) created: Timestamp,
    pub(crate) order: u64,
    pub(crate) ttl: Millis,
    pub(crate) idle_timeout: Option<Millis>,
    pub(crate) max_lifetime: Millis,
    pub(crate) retention: Millis,
    pub(crate) family: [u8; 32],
    pub(crate) expired: bool,
}

/// The fields of a record that can change.
#[derive(Debug, Default)]
pub(crate) struct Patch<'a> {
    pub(crate) id: Option<SessionId>,
    pub(crate) active: Option<Timestamp>,
    pub(crate) expires: Option<Timestamp>,
    pub(crate) generation: Option<u32>,
    pub(crate) rotated: Option<Timestamp>,
    pub(crate) current: Option<[u8; 32]>,
    pub(crate) replaced: Option<Replaced>,
    pub(crate) end: Option<End>,
    pub(crate) client: Option<Client<'a>>,
}

/// The description of a client, not validated yet. The fields are in the order of [`ClientField::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Client<'a>(pub(crate) [Option<Cow<'a, str>>; 7]);

impl Client<'_> {
    /// Validates the description, and returns it.
    pub(crate) fn build(&self) -> Result<ClientInfo, TextError> {
        let mut client = ClientInfo::default();
        for (field, text) in ClientField::ALL.into_iter().zip(&self.0) {
            if let Some(text) = text {
                client = client.with_recorded(field, text)?;
            }
        }
        Ok(client)
    }
}
