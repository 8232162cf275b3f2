//! Applying transactions to the table. Only this changes the table, except for activity that is not written yet.

use std::borrow::Cow;
use std::sync::Arc;

use tenure_domain::{
    Bucket, DeviceId, EndReason, Revision, RevocationWatermark, SessionId, Subject, Terms, TextError, Timestamp,
};
use tenure_ports::{ChangeKind, StoreEvent};

use super::{DeviceRow, NONE, Row, SharedSlots, SubjectRow, Table};
use crate::format::{Client, FormatError, Op, Patch, Record, RecordKind, Transaction};

/// The events of the transactions that were applied.
#[derive(Default)]
pub(crate) struct AppliedEvents {
    pub(crate) events: Vec<StoreEvent>,
    /// Whether there are subscribers. Without them, no events are collected.
    pub(crate) has_subscribers: bool,
    /// Whether a transaction did more than record activity.
    pub(crate) has_changes: bool,
}

impl AppliedEvents {
    fn push(&mut self, session: SessionId, kind: ChangeKind, at: Timestamp) {
        if self.has_subscribers {
            self.events.push(StoreEvent::Changed { session, kind, at });
        }
    }
}

fn text_error(error: TextError) -> FormatError {
    Cow::Owned(error.to_string())
}

/// Applies the operations of a transaction.
///
/// # Errors
/// [`FormatError`] if an operation contradicts the table. A part of the transaction may have been applied then, so the
/// table must not be used any more.
pub(crate) fn apply(table: &mut Table, tx: Transaction<'_>, events: &mut AppliedEvents) -> Result<(), FormatError> {
    let at = Timestamp::from_millis(tx.at);
    let revision = Revision::new(tx.number);
    for op in tx.ops {
        events.has_changes |= !matches!(op, Op::Touch(_));
        match op {
            Op::Header(_) => return Err(Cow::Borrowed("a first line is in the middle of the file")),
            Op::Device { name, revision: own, watermark } => {
                apply_device(table, &name, own.map_or(revision, Revision::new), watermark)?;
            }
            Op::Record(kind, record) => {
                let id = put_record(table, &record, (kind != RecordKind::Record).then_some(revision))?;
                let end = record.patch.end.map(|end| end.reason);
                if let Some(change) = change_kind(kind, end) {
                    events.push(id, change, at);
                }
            }
            Op::Patch(kind, patch) => {
                let end = patch.end.as_ref().map(|end| end.reason);
                let id = apply_patch(table, *patch, revision)?;
                if let Some(change) = change_kind(kind, end) {
                    events.push(id, change, at);
                }
            }
            Op::Expire(ids) => {
                for id in ids {
                    let row = find_known(table, id)?;
                    table.row_mut(row).expired = true;
                    set_revision(table, row, revision);
                }
            }
            Op::Purge(ids) => {
                for id in ids {
                    let row = find_known(table, id)?;
                    let device = table.row(row).device;
                    table.remove(row);
                    table.remove_unused_device(device, at);
                    events.push(id, ChangeKind::Purged, at);
                }
            }
            Op::Touch(seen) => {
                for (id, at) in seen {
                    touch(table, id, at);
                }
            }
        }
    }
    Ok(())
}

/// Returns the kind of the event that an operation causes. `None` if it causes no event.
fn change_kind(kind: RecordKind, end: Option<EndReason>) -> Option<ChangeKind> {
    match (kind, end) {
        (RecordKind::Issue, _) => Some(ChangeKind::Issued),
        (RecordKind::Import, _) => Some(ChangeKind::Imported),
        (RecordKind::Rotate, _) => Some(ChangeKind::Rotated),
        (RecordKind::End, Some(reason)) => Some(ChangeKind::Ended(reason)),
        (RecordKind::End, None) | (RecordKind::UpdateClient, _) => Some(ChangeKind::ClientUpdated),
        (RecordKind::Record, _) => None,
    }
}

/// Returns the slot of a session, which must have a record.
fn find_known(table: &Table, id: SessionId) -> Result<u32, FormatError> {
    table.find(id).ok_or_else(|| Cow::Owned(format!("session {id} has no record before it")))
}

/// Moves the last activity of a session forward, unless it has ended. Returns whether it moved.
pub(crate) fn touch(table: &mut Table, id: SessionId, at: Timestamp) -> bool {
    let Some(row) = table.find(id) else { return false };
    let row = table.row_mut(row);
    let moves = row.end().is_none() && row.last_activity < at.as_millis();
    if moves {
        row.last_activity = at.as_millis();
    }
    moves
}

/// Gives the device of a row its new revision.
fn set_revision(table: &mut Table, row: u32, revision: Revision) {
    let device = table.row(row).device;
    if let Some(device) = table.devices.get_mut(device) {
        device.revision = revision;
    }
}

fn intern_device(table: &mut Table, name: &str) -> Result<u32, FormatError> {
    if let Some(at) = table.devices.find_cached(name) {
        return Ok(at);
    }
    let name = DeviceId::recorded(name).map_err(text_error)?;
    let bucket = Bucket::of(&name);
    Ok(table.devices.add(DeviceRow { name, revision: Revision::NONE, watermark: None, bucket, first: NONE }))
}

fn apply_device(
    table: &mut Table,
    name: &str,
    revision: Revision,
    watermark: Option<Option<RevocationWatermark>>,
) -> Result<(), FormatError> {
    let at = intern_device(table, name)?;
    if let Some(device) = table.devices.get_mut(at) {
        device.revision = revision;
        if let Some(watermark) = watermark {
            device.watermark = watermark;
        }
    }
    Ok(())
}

fn intern_subject(table: &mut Table, name: &str) -> Result<u32, FormatError> {
    if let Some(at) = table.subjects.find_cached(name) {
        return Ok(at);
    }
    let name = Subject::recorded(name).map_err(text_error)?;
    Ok(table.subjects.add(SubjectRow { name, first: NONE }))
}

fn intern_client(table: &mut Table, client: Option<&Client<'_>>) -> Result<u32, FormatError> {
    let key = client.map_or([None; 7], |client| std::array::from_fn(|i| client.0[i].as_deref()));
    if let Some(at) = table.clients.find_cached(key) {
        return Ok(at);
    }
    let built = client.map(Client::build).transpose().map_err(text_error)?.unwrap_or_default();
    Ok(table.clients.add(Arc::new(built)))
}

fn intern_terms(table: &mut Table, terms: Terms) -> u32 {
    table.terms.find_cached(terms).unwrap_or_else(|| table.terms.add(terms))
}

/// Puts a whole record into the table, in place of the session's former record if there is one. The later activity of
/// both is kept.
fn put_record(table: &mut Table, record: &Record<'_>, revision: Option<Revision>) -> Result<SessionId, FormatError> {
    let patch = &record.patch;
    let (Some(id), Some(expires), Some(active), Some(generation), Some(current)) =
        (patch.id, patch.expires, patch.active, patch.generation, patch.current)
    else {
        return Err(Cow::Borrowed("a record lacks a member"));
    };
    if generation == 0 {
        return Err(Cow::Owned(format!("session {id}: the token generation is 0")));
    }
    let mut active = active.as_millis();
    if let Some(former) = table.find(id) {
        active = active.max(table.row(former).last_activity);
        table.remove(former);
    }
    let device = intern_device(table, &record.device)?;
    if let Some(device) = table.devices.get_mut(device) {
        if device.bucket != id.bucket() {
            return Err(Cow::Owned(format!("session {id} is not in the bucket of its device")));
        }
        device.revision = revision.unwrap_or(device.revision);
    }
    let subject = intern_subject(table, &record.subject)?;
    let client = intern_client(table, patch.client.as_ref())?;
    let terms = intern_terms(
        table,
        Terms {
            ttl: record.ttl,
            idle_timeout: record.idle_timeout,
            max_lifetime: record.max_lifetime,
            retention: record.retention,
        },
    );
    table.devices.acquire(device);
    table.subjects.acquire(subject);
    table.clients.acquire(client);
    table.terms.acquire(terms);
    let mut row = Row::new(id, current, record.family, SharedSlots { device, subject, client, terms });
    row.created = record.created.as_millis();
    row.last_activity = active;
    row.expires = expires.as_millis();
    row.order = record.order;
    row.generation = generation;
    row.expired = record.expired;
    row.set_rotated(patch.rotated);
    row.set_replaced(patch.replaced.as_ref());
    if let Some(end) = &patch.end {
        row.set_end(end.clone());
    }
    let at = table.insert(row);
    table.check(at).map_err(|error| Cow::Owned(error.to_string()))?;
    Ok(id)
}

/// Applies a change of some fields to a record.
fn apply_patch(table: &mut Table, patch: Patch<'_>, revision: Revision) -> Result<SessionId, FormatError> {
    let id = patch.id.ok_or("a change lacks its session's id")?;
    let at = find_known(table, id)?;
    if let Some(new) = &patch.client {
        let new = intern_client(table, Some(new))?;
        table.clients.acquire(new);
        let old = std::mem::replace(&mut table.row_mut(at).client, new);
        if table.clients.release(old) == 0 {
            table.clients.remove(old);
        }
    }
    let row = table.row_mut(at);
    row.last_activity = row.last_activity.max(patch.active.map_or(0, Timestamp::as_millis));
    row.expires = patch.expires.map_or(row.expires, Timestamp::as_millis);
    row.generation = patch.generation.unwrap_or(row.generation);
    row.current = patch.current.unwrap_or(row.current);
    if patch.generation.is_some() {
        row.set_rotated(patch.rotated);
        row.set_replaced(patch.replaced.as_ref());
    }
    if let Some(end) = patch.end {
        row.set_end(end);
    }
    if row.is_free() {
        return Err(Cow::Owned(format!("session {id}: the token generation is 0")));
    }
    set_revision(table, at, revision);
    table.check(at).map_err(|error| Cow::Owned(error.to_string()))?;
    Ok(id)
}
