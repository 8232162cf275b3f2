//! Encoding and parsing rows, in an index.

use tenure_domain::{Digest, End, Millis, Replaced, SessionId, Timestamp};

use super::bytes::{ByteReader, ByteWriter};
use super::directory::Counts;
use crate::table::interner::Interner;
use crate::table::{DeviceRow, Link, NONE, Row, SharedSlots, Table};

// The flags in the first byte of a row: `USED`, and one for each optional field that the row has.
const USED: u8 = 1;
const ORDER: u8 = 2;
const ROTATED: u8 = 4;
const REPLACED: u8 = 8;
const PREVIOUS: u8 = 16;
const ENDED: u8 = 32;
const EXPIRED: u8 = 64;
const FREE: u8 = 0;

pub(super) fn encode(table: &Table, from: u32, to: u32, out: &mut ByteWriter) {
    for at in from..to {
        let row = table.row(at);
        if row.is_free() {
            out.u8(FREE);
        } else {
            encode_row(row, out);
        }
    }
}

fn encode_row(row: &Row, out: &mut ByteWriter) {
    let (rotated, replaced, end) = (row.rotated(), row.replaced(), row.end());
    let previous = replaced.as_ref().and_then(|replaced| replaced.digest);
    let has = |flag, has: bool| if has { flag } else { 0 };
    out.u8(USED
        | has(ORDER, row.order != 0)
        | has(ROTATED, rotated.is_some())
        | has(REPLACED, replaced.is_some())
        | has(PREVIOUS, previous.is_some())
        | has(ENDED, end.is_some())
        | has(EXPIRED, row.expired));
    out.raw(&row.id.as_u128().to_le_bytes()[..13]);
    out.raw(&row.current);
    out.raw(&row.family);
    for time in [row.created, row.last_activity, row.expires] {
        out.u64(time);
    }
    for number in [row.generation, row.device, row.subject, row.client, row.terms] {
        out.u32(number);
    }
    for slot in [row.next_of_device, row.subject_link.previous, row.subject_link.next] {
        out.u32(slot);
    }
    if row.order != 0 {
        out.u64(row.order);
    }
    if let Some(at) = rotated {
        out.u64(at.as_millis());
    }
    if let Some(replaced) = &replaced {
        out.u64(replaced.stops_at.as_millis());
        out.u64(replaced.tolerance.get());
    }
    if let Some(digest) = previous {
        out.raw(digest.as_bytes());
    }
    if let Some(end) = end {
        encode_end(end, out);
    }
}

fn encode_end(end: &End, out: &mut ByteWriter) {
    out.text(end.reason.code());
    out.u64(end.at.as_millis());
    // No text is empty.
    out.text(end.note.as_ref().map_or("", |text| text.as_str()));
    out.text(end.actor.as_ref().map_or("", |actor| actor.as_str()));
}

/// Parses the rows of a block. `None` if the block is not valid.
pub(super) fn read(bytes: &[u8], count: u32, counts: &Counts, devices: &Interner<DeviceRow>) -> Option<Vec<Row>> {
    let mut bytes = ByteReader(bytes);
    let mut rows = Vec::with_capacity(crate::table::ROWS_PER_CHUNK.max(count as usize));
    for _ in 0..count {
        rows.push(match bytes.u8()? {
            FREE => Row::free(),
            flags => read_row(flags, &mut bytes, counts, devices)?,
        });
    }
    bytes.end()?;
    Some(rows)
}

fn slot_below(number: u32, slot_count: u32) -> Option<u32> {
    (number < slot_count).then_some(number)
}

fn slot_or_none(number: u32, slot_count: u32) -> Option<u32> {
    (number < slot_count || number == NONE).then_some(number)
}

fn read_row(flags: u8, bytes: &mut ByteReader<'_>, counts: &Counts, devices: &Interner<DeviceRow>) -> Option<Row> {
    let has = |flag| flags & flag != 0;
    let mut id = [0; 16];
    id[..13].copy_from_slice(&bytes.array::<13>()?);
    let id = SessionId::from_u128(u128::from_le_bytes(id))?;
    let (current, family) = (bytes.array()?, bytes.array()?);
    let (created, active, expires) = (bytes.u64()?, bytes.u64()?, bytes.u64()?);
    let generation = bytes.u32().filter(|generation| *generation > 0)?;
    let shared = SharedSlots {
        device: slot_below(bytes.u32()?, counts.devices)?,
        subject: slot_below(bytes.u32()?, counts.subjects)?,
        client: slot_below(bytes.u32()?, counts.clients)?,
        terms: slot_below(bytes.u32()?, counts.terms)?,
    };
    let mut row = Row::new(id, current, family, shared);
    (row.created, row.last_activity, row.expires, row.generation) = (created, active, expires, generation);
    row.device_id = Some(devices.get(shared.device)?.name.clone());
    row.next_of_device = slot_or_none(bytes.u32()?, counts.rows)?;
    row.subject_link =
        Link { previous: slot_or_none(bytes.u32()?, counts.rows)?, next: slot_or_none(bytes.u32()?, counts.rows)? };
    row.expired = has(EXPIRED);
    if has(ORDER) {
        row.order = bytes.u64()?;
    }
    if has(ROTATED) {
        row.set_rotated(Some(Timestamp::from_millis(bytes.u64()?)));
    }
    if has(REPLACED) {
        let stops_at = Timestamp::from_millis(bytes.u64()?);
        let tolerance = Millis::new(bytes.u64()?);
        let digest = if has(PREVIOUS) { Some(Digest::from_bytes(bytes.array()?)) } else { None };
        row.set_replaced(Some(&Replaced { digest, stops_at, tolerance }));
    }
    if has(ENDED) {
        row.set_end(read_end(bytes)?);
    }
    Some(row)
}

fn read_end(bytes: &mut ByteReader<'_>) -> Option<End> {
    let reason = bytes.text()?.parse().ok()?;
    let at = Timestamp::from_millis(bytes.u64()?);
    let (text, actor) = (bytes.text()?, bytes.text()?);
    let text = if text.is_empty() { None } else { Some(text.parse().ok()?) };
    let actor = if actor.is_empty() { None } else { Some(actor.parse().ok()?) };
    Some(End { reason, at, note: text, actor })
}
