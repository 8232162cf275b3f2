//! Rows, as blocks of an index.

use tenure_domain::{Digest, End, Millis, Replaced, SessionId, Timestamp};

use super::bytes::{In, Out};
use super::directory::Counts;
use crate::intern::Interner;
use crate::table::{DeviceRow, Link, NONE, Row, Shares, Table};

/// What begins a row: `USED`, and what else it has.
const USED: u8 = 1;
const ORDER: u8 = 2;
const ROTATED: u8 = 4;
const REPLACED: u8 = 8;
const PREVIOUS: u8 = 16;
const ENDED: u8 = 32;
const LAPSED: u8 = 64;
const FREE: u8 = 0;

pub(super) fn put(table: &Table, from: u32, to: u32, out: &mut Out) {
    for at in from..to {
        let row = table.row(at);
        if row.is_free() {
            out.byte(FREE);
        } else {
            put_row(row, out);
        }
    }
}

fn put_row(row: &Row, out: &mut Out) {
    let (rotated, replaced, end) = (row.rotated(), row.replaced(), row.end());
    let previous = replaced.as_ref().and_then(|replaced| replaced.digest);
    let has = |flag, has: bool| if has { flag } else { 0 };
    out.byte(
        USED | has(ORDER, row.order != 0)
            | has(ROTATED, rotated.is_some())
            | has(REPLACED, replaced.is_some())
            | has(PREVIOUS, previous.is_some())
            | has(ENDED, end.is_some())
            | has(LAPSED, row.expired),
    );
    out.raw(&row.id.as_u128().to_le_bytes()[..13]);
    out.raw(&row.current);
    out.raw(&row.family);
    for time in [row.created, row.active, row.expires] {
        out.long(time);
    }
    for number in [row.generation, row.device, row.subject, row.client, row.terms] {
        out.word(number);
    }
    for location in [row.of_device, row.of_subject.before, row.of_subject.after] {
        out.word(location);
    }
    if row.order != 0 {
        out.long(row.order);
    }
    if let Some(at) = rotated {
        out.long(at.as_millis());
    }
    if let Some(replaced) = &replaced {
        out.long(replaced.stops_at.as_millis());
        out.long(replaced.tolerance.get());
    }
    if let Some(digest) = previous {
        out.raw(digest.as_bytes());
    }
    if let Some(end) = end {
        put_end(end, out);
    }
}

fn put_end(end: &End, out: &mut Out) {
    out.text(end.reason.code());
    out.long(end.at.as_millis());
    // No text is empty.
    out.text(end.note.as_ref().map_or("", |text| text.as_str()));
    out.text(end.actor.as_ref().map_or("", |actor| actor.as_str()));
}

/// The rows in a block.
pub(super) fn read(bytes: &[u8], count: u32, counts: &Counts, devices: &Interner<DeviceRow>) -> Option<Vec<Row>> {
    let mut bytes = In(bytes);
    let mut rows = Vec::with_capacity(crate::table::PIECE.max(count as usize));
    for _ in 0..count {
        rows.push(match bytes.byte()? {
            FREE => Row::free(),
            flags => read_row(flags, &mut bytes, counts, devices)?,
        });
    }
    bytes.end()?;
    Some(rows)
}

fn below(number: u32, bound: u32) -> Option<u32> {
    (number < bound).then_some(number)
}

fn location(number: u32, bound: u32) -> Option<u32> {
    (number < bound || number == NONE).then_some(number)
}

fn read_row(flags: u8, bytes: &mut In<'_>, counts: &Counts, devices: &Interner<DeviceRow>) -> Option<Row> {
    let has = |flag| flags & flag != 0;
    let mut id = [0; 16];
    id[..13].copy_from_slice(&bytes.array::<13>()?);
    let id = SessionId::from_u128(u128::from_le_bytes(id))?;
    let (current, family) = (bytes.array()?, bytes.array()?);
    let (created, active, expires) = (bytes.long()?, bytes.long()?, bytes.long()?);
    let generation = bytes.word().filter(|generation| *generation > 0)?;
    let shared = Shares {
        device: below(bytes.word()?, counts.devices)?,
        subject: below(bytes.word()?, counts.subjects)?,
        client: below(bytes.word()?, counts.clients)?,
        terms: below(bytes.word()?, counts.terms)?,
    };
    let mut row = Row::new(id, current, family, shared);
    (row.created, row.active, row.expires, row.generation) = (created, active, expires, generation);
    row.name = Some(devices.get(shared.device)?.name.clone());
    row.of_device = location(bytes.word()?, counts.rows)?;
    row.of_subject =
        Link { before: location(bytes.word()?, counts.rows)?, after: location(bytes.word()?, counts.rows)? };
    row.expired = has(LAPSED);
    if has(ORDER) {
        row.order = bytes.long()?;
    }
    if has(ROTATED) {
        row.set_rotated(Some(Timestamp::from_millis(bytes.long()?)));
    }
    if has(REPLACED) {
        let stops_at = Timestamp::from_millis(bytes.long()?);
        let tolerance = Millis::new(bytes.long()?);
        let digest = if has(PREVIOUS) { Some(Digest::from_bytes(bytes.array()?)) } else { None };
        row.set_replaced(Some(&Replaced { digest, stops_at, tolerance }));
    }
    if has(ENDED) {
        row.set_end(read_end(bytes)?);
    }
    Some(row)
}

fn read_end(bytes: &mut In<'_>) -> Option<End> {
    let reason = bytes.text()?.parse().ok()?;
    let at = Timestamp::from_millis(bytes.long()?);
    let (text, actor) = (bytes.text()?, bytes.text()?);
    let text = if text.is_empty() { None } else { Some(text.parse().ok()?) };
    let actor = if actor.is_empty() { None } else { Some(actor.parse().ok()?) };
    Some(End { reason, at, note: text, actor })
}
