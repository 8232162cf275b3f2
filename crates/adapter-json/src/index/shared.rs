//! What rows share, as blocks of an index.

use std::sync::Arc;

use tenure_domain::{
    Bucket, ClientField, ClientInfo, DeviceId, Millis, Revision, RevocationWatermark, Subject, Terms, Timestamp,
};

use super::bytes::{In, Out};
use crate::intern::{Interner, Keyed};
use crate::table::{DeviceRow, SubjectRow, Table};

/// Begins a place that is free.
const FREE: u8 = 0;
const USED: u8 = 1;
/// Used, and with one more fact than the others.
const WITH: u8 = 2;

/// Writes some of the places; `put` writes a value and answers nothing but what begins its place.
fn put<T: Keyed>(values: &Interner<T>, from: u32, to: u32, out: &mut Out, write: impl Fn(&T, &mut Out)) {
    for at in from..to {
        match values.get(at) {
            None => out.byte(FREE),
            Some(value) => {
                out.byte(USED);
                out.word(values.uses(at));
                write(value, out);
            }
        }
    }
}

/// A place's value and how many rows use it.
pub(super) type Slot<T> = Option<(T, u32)>;

fn read<T>(bytes: &[u8], count: u32, value: impl Fn(&mut In<'_>) -> Option<T>) -> Option<Vec<Slot<T>>> {
    let mut bytes = In(bytes);
    let mut slots = Vec::with_capacity(count as usize);
    for _ in 0..count {
        slots.push(match bytes.byte()? {
            FREE => None,
            USED => {
                let uses = bytes.word()?;
                Some((value(&mut bytes)?, uses))
            }
            _ => return None,
        });
    }
    bytes.end()?;
    Some(slots)
}

pub(super) fn put_devices(table: &Table, from: u32, to: u32, out: &mut Out) {
    put(&table.devices, from, to, out, |device, out| {
        out.text(device.name.as_str());
        out.long(device.revision.get());
        out.short(device.bucket.index());
        out.word(device.first);
        match device.watermark {
            None => out.byte(USED),
            Some(RevocationWatermark { created_at, until }) => {
                out.byte(WITH);
                out.long(created_at.as_millis());
                out.long(until.as_millis());
            }
        }
    });
}

pub(super) fn read_devices(bytes: &[u8], count: u32) -> Option<Vec<Slot<DeviceRow>>> {
    read(bytes, count, |bytes| {
        let name = DeviceId::recorded(bytes.text()?).ok()?;
        let revision = Revision::new(bytes.long()?);
        let bucket = Bucket::all().nth(bytes.short()?.into())?;
        let first = bytes.word()?;
        let watermark = match bytes.byte()? {
            USED => None,
            WITH => {
                let (created, until) = (bytes.long()?, bytes.long()?);
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

pub(super) fn put_subjects(table: &Table, from: u32, to: u32, out: &mut Out) {
    put(&table.subjects, from, to, out, |subject, out| {
        out.text(subject.name.as_str());
        out.word(subject.first);
    });
}

pub(super) fn read_subjects(bytes: &[u8], count: u32) -> Option<Vec<Slot<SubjectRow>>> {
    read(bytes, count, |bytes| Some(SubjectRow { name: Subject::recorded(bytes.text()?).ok()?, first: bytes.word()? }))
}

pub(super) fn put_clients(table: &Table, from: u32, to: u32, out: &mut Out) {
    put(&table.clients, from, to, out, |client, out| {
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

pub(super) fn put_terms(table: &Table, from: u32, to: u32, out: &mut Out) {
    put(&table.terms, from, to, out, |terms, out| {
        out.long(terms.ttl.get());
        out.long(terms.max_lifetime.get());
        out.long(terms.retention.get());
        match terms.idle_timeout {
            None => out.byte(USED),
            Some(idle) => {
                out.byte(WITH);
                out.long(idle.get());
            }
        }
    });
}

pub(super) fn read_terms(bytes: &[u8], count: u32) -> Option<Vec<Slot<Terms>>> {
    read(bytes, count, |bytes| {
        let (ttl, max_lifetime, retention) = (bytes.long()?, bytes.long()?, bytes.long()?);
        let idle_timeout = match bytes.byte()? {
            USED => None,
            WITH => Some(Millis::new(bytes.long()?)),
            _ => return None,
        };
        let (ttl, max_lifetime) = (Millis::new(ttl), Millis::new(max_lifetime));
        Some(Terms { ttl, idle_timeout, max_lifetime, retention: Millis::new(retention) })
    })
}
