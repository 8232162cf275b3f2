//! The transaction in a line.

use std::borrow::Cow;

use tenure_domain::{
    ClientField, ClientInfo, End, Millis, Replaced, RevocationWatermark, SessionId, TextError, Timestamp,
};

/// One line's transaction. It borrows what it can from the line.
#[derive(Debug, Default)]
pub(crate) struct Transaction<'a> {
    pub(crate) number: u64,
    /// The store's time when it was written, in Unix milliseconds.
    pub(crate) at: u64,
    /// The last transaction that its writer knew to be durable.
    pub(crate) synced: u64,
    /// The machine's boot id when it was written.
    pub(crate) boot: Cow<'a, str>,
    /// For how many milliseconds the machine had been up then.
    pub(crate) uptime: u64,
    pub(crate) ops: Vec<Op<'a>>,
}

impl Transaction<'_> {
    /// The sessions whose records the transaction writes.
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
    /// The description of the file: the only operation of the first line, and of no other.
    Header(SnapshotHeader),
    /// A device's revision (`None`: this transaction's number) and watermark (`None`: unchanged).
    Device { name: Cow<'a, str>, revision: Option<u64>, watermark: Option<Option<RevocationWatermark>> },
    /// A session's whole record.
    Record(RecordKind, Box<Record<'a>>),
    /// A change of some fields of a session's record.
    Patch(RecordKind, Box<Patch<'a>>),
    /// Sessions that had expired when their device was last decided on.
    Expire(Vec<SessionId>),
    /// Sessions whose records are removed.
    Purge(Vec<SessionId>),
    /// The last activity of sessions.
    Touch(Vec<(SessionId, Timestamp)>),
}

/// What an operation on a session records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Issue,
    Import,
    Rotate,
    End,
    UpdateClient,
    /// No change: a compaction copied the record.
    Record,
}

/// What the first line says of the snapshot that the file begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SnapshotHeader {
    /// The number of the last transaction that the snapshot contains.
    pub(crate) through: u64,
    /// The checksum of that transaction.
    pub(crate) last_crc: u32,
    /// The size of the snapshot in bytes, this line included.
    pub(crate) size: u64,
    /// How many lines the snapshot has, this one included.
    pub(crate) lines: u64,
    /// How many sessions the snapshot has.
    pub(crate) records: u64,
}

/// A session's whole record.
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

/// The fields of a record that a change may change.
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

/// The description of a client, not validated yet. In the order of [`ClientField::ALL`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Client<'a>(pub(crate) [Option<Cow<'a, str>>; 7]);

impl Client<'_> {
    /// Validates the description.
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
