//! Encoding and parsing the values that rows share, in an index.

use std::sync::Arc;

use tenure_domain::{
    Bucket, ClientField, ClientInfo, DeviceId, Millis, Revision, RevocationWatermark, Subject, Terms, Timestamp,
};

use super::bytes::{ByteReader, ByteWriter};
use crate::table::interner::{Interner, Keyed};
use crate::table::{DeviceRow, SubjectRow, Table};

/// The first byte of a free slot.
const FREE: u8 = 0;
/// The first byte of a slot with a value, and the only byte of an optional field without a value.
const USED: u8 = 1;
/// The first byte of an optional field with a value.
const PRESENT: u8 = 2;

/// Appends the slots from `from` up to `to`. `write` appends a value.
fn encode<T: Keyed>(
    values: &Interner<T>,
    from: u32,
    to: u32,
    out: &mut ByteWriter,
    write: impl Fn(&T, &mut ByteWriter),
) {
    for at in from..to {
        match values.get(at) {
            None => out.u8(FREE),
            Some(value) => {
                out.u8(USED);
                out.u32(values.use_count(at));
                write(value, out);
            }
        }
    }
}

/// The value of a slot, and the number of rows that use it. `None` in a free slot.
pub(super) type Slot<T> = Option<(T, u32)>;

fn read<T>(bytes: &[u8], count: u32, value: impl Fn(&mut ByteReader<'_>) -> Option<T>) -> Option<Vec<Slot<T>>> {
    let mut bytes = ByteReader(bytes);
    let mut slots = Vec::with_capacity(count as usize);
    for _ in 0..count {
        slots.push(match bytes.u8()? {
            FREE => None,
            USED => {
                let use_count = bytes.u32()?;
                Some((value(&mut bytes)?, use_count))
            }
            _ => return None,
        });
    }
    bytes.end()?;
    Some(slots)
}

pub(super) fn encode_devices(table: &Table, from: u32, to: u32, out: &mut ByteWriter) {
    encode(&table.devices, from, to, out, |device, out| {
        out.text(device.name.as_str());
        out.u64(device.revision.get());
        out.u16(device.bucket.index());
        out.u32(device.first);
        match device.watermark {
            None => out.u8(USED),
            Some(RevocationWatermark { created_at, until }) => {
                out.u8(PRESENT);
                out.u64(created_at.as_millis());
                out.u64(until.as_millis());
            }
        }
    });
}

pub(super) fn read_devices(bytes: &[u8], count: u32) -> Option<Vec<Slot<DeviceRow>>> {
    read(bytes, count, |bytes| {
        let name = DeviceId::recorded(bytes.text()?).ok()?;
        let revision = Revision::new(bytes.u64()?);
        let bucket = Bucket::all().nth(bytes.u16()?.into())?;
        let first = bytes.u32()?;
        let watermark = match bytes.u8()? {
            USED => None,
            PRESENT => {
                let (created, until) = (bytes.u64()?, bytes.u64()?);
                Some(RevocationWatermark {
                    created_at: Timestamp::from_millis(created),
                    until: Timestamp::from_millis(until),
                })
            }
            _ => return None,
        };
        Some(DeviceRow { name, revision, watermark, bucket, first })
    })
}

pub(super) fn encode_subjects(table: &Table, from: u32, to: u32, out: &mut ByteWriter) {
    encode(&table.subjects, from, to, out, |subject, out| {
        out.text(subject.name.as_str());
        out.u32(subject.first);
    });
}

pub(super) fn read_subjects(bytes: &[u8], count: u32) -> Option<Vec<Slot<SubjectRow>>> {
    read(bytes, count, |bytes| Some(SubjectRow { name: Subject::recorded(bytes.text()?).ok()?, first: bytes.u32()? }))
}

pub(super) fn encode_clients(table: &Table, from: u32, to: u32, out: &mut ByteWriter) {
    encode(&table.clients, from, to, out, |client, out| {
        for field in ClientField::ALL {
            // No text is empty.
            out.text(client.get(field).unwrap_or_default());
        }
    });
}

pub(super) fn read_clients(bytes: &[u8], count: u32) -> Option<Vec<Slot<Arc<ClientInfo>>>> {
    read(bytes, count, |bytes| {
        let mut client = ClientInfo::default();
        for field in ClientField::ALL {
            let text = bytes.text()?;
            if !text.is_empty() {
                client = client.with_recorded(field, text).ok()?;
            }
        }
        Some(Arc::new(client))
    })
}

pub(super) fn encode_terms(table: &Table, from: u32, to: u32, out: &mut ByteWriter) {
    encode(&table.terms, from, to, out, |terms, out| {
        out.u64(terms.ttl.get());
        out.u64(terms.max_lifetime.get());
        out.u64(terms.retention.get());
        match terms.idle_timeout {
            None => out.u8(USED),
            Some(idle) => {
                out.u8(PRESENT);
                out.u64(idle.get());
            }
        }
    });
}

pub(super) fn read_terms(bytes: &[u8], count: u32) -> Option<Vec<Slot<Terms>>> {
    read(bytes, count, |bytes| {
        let (ttl, max_lifetime, retention) = (bytes.u64()?, bytes.u64()?, bytes.u64()?);
        let idle_timeout = match bytes.u8()? {
            USED => None,
            PRESENT => Some(Millis::new(bytes.u64()?)),
            _ => return None,
        };
        let (ttl, max_lifetime) = (Millis::new(ttl), Millis::new(max_lifetime));
        Some(Terms { ttl, idle_timeout, max_lifetime, retention: Millis::new(retention) })
    })
}
