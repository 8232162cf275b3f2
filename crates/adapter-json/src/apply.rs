//! What each operation of a transaction does to the table. The one way by which the table changes, but for activity
//! that is not written yet.

use std::borrow::Cow;
use std::sync::Arc;

use tenure_domain::{
    Bucket, DeviceId, EndReason, Revision, RevocationWatermark, SessionId, Subject, Terms, TextError, Timestamp,
};
use tenure_ports::{ChangeKind, StoreEvent};

use crate::format::{Client, Op, Patch, Problem, Record, Tx, What};
use crate::table::{DeviceRow, NONE, Row, Shares, SubjectRow, Table};

/// What a transaction did that others want to know.
#[derive(Default)]
pub(crate) struct News {
    pub(crate) items: Vec<StoreEvent>,
    /// Whether anybody listens.
    pub(crate) wanted: bool,
    /// Whether the transaction did more than to record activity.
    pub(crate) rules: bool,
}

impl News {
    fn tell(&mut self, session: SessionId, kind: ChangeKind, at: Timestamp) {
        if self.wanted {
            self.items.push(StoreEvent::Changed { session, kind, at });
        }
    }
}

fn words(error: TextError) -> Problem {
    Cow::Owned(error.to_string())
}

/// Applies a transaction's operations.
///
/// # Errors
/// What contradicts the table, in words; the table is then of no use any more.
pub(crate) fn apply(table: &mut Table, tx: Tx<'_>, news: &mut News) -> Result<(), Problem> {
    let at = Timestamp::from_millis(tx.at);
    let revision = Revision::new(tx.number);
    for op in tx.ops {
        news.rules |= !matches!(op, Op::Touch(_));
        match op {
            Op::Head(_) => return Err(Cow::Borrowed("a first line stands in the middle")),
            Op::Device { name, revision: own, watermark } => {
                device_facts(table, &name, own.map_or(revision, Revision::new), watermark)?;
            }
            Op::Record(what, record) => {
                let id = put(table, &record, (what != What::Record).then_some(revision))?;
                let end = record.patch.end.map(|end| end.reason);
                if let Some(kind) = kind(what, end) {
                    news.tell(id, kind, at);
                }
            }
            Op::Patch(what, patch) => {
                let end = patch.end.as_ref().map(|end| end.reason);
                let id = change(table, *patch, revision)?;
                if let Some(kind) = kind(what, end) {
                    news.tell(id, kind, at);
                }
            }
            Op::Lapse(ids) => {
                for id in ids {
                    let row = known(table, id)?;
                    table.row_mut(row).expired = true;
                    revise(table, row, revision);
                }
            }
            Op::Purge(ids) => {
                for id in ids {
                    let row = known(table, id)?;
                    let device = table.row(row).device;
                    table.remove(row);
                    table.forget(device, at);
                    news.tell(id, ChangeKind::Purged, at);
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

fn kind(what: What, end: Option<EndReason>) -> Option<ChangeKind> {
    match (what, end) {
        (What::Issue, _) => Some(ChangeKind::Issued),
        (What::Import, _) => Some(ChangeKind::Imported),
        (What::Rotate, _) => Some(ChangeKind::Rotated),
        (What::End, Some(reason)) => Some(ChangeKind::Ended(reason)),
        (What::End, None) | (What::Describe, _) => Some(ChangeKind::ClientUpdated),
        (What::Record, _) => None,
    }
}

fn known(table: &Table, id: SessionId) -> Result<u32, Problem> {
    table.find(id).ok_or_else(|| Cow::Owned(format!("session {id} has no record before it")))
}

/// Activity moves forward only, and an ended session has none.
pub(crate) fn touch(table: &mut Table, id: SessionId, at: Timestamp) -> bool {
    let Some(row) = table.find(id) else { return false };
    let row = table.row_mut(row);
    let moves = row.end().is_none() && row.active < at.as_millis();
    if moves {
        row.active = at.as_millis();
    }
    moves
}

fn revise(table: &mut Table, row: u32, revision: Revision) {
    let device = table.row(row).device;
    if let Some(device) = table.devices.get_mut(device) {
        device.revision = revision;
    }
}

fn device(table: &mut Table, name: &str) -> Result<u32, Problem> {
    if let Some(at) = table.devices.find_again(name) {
        return Ok(at);
    }
    let name = DeviceId::recorded(name).map_err(words)?;
    let bucket = Bucket::of(&name);
    Ok(table.devices.add(DeviceRow { name, revision: Revision::NONE, watermark: None, bucket, first: NONE }))
}

fn device_facts(
    table: &mut Table,
    name: &str,
    revision: Revision,
    watermark: Option<Option<RevocationWatermark>>,
) -> Result<(), Problem> {
    let at = device(table, name)?;
    if let Some(device) = table.devices.get_mut(at) {
        device.revision = revision;
        if let Some(watermark) = watermark {
            device.watermark = watermark;
        }
    }
    Ok(())
}

fn subject(table: &mut Table, name: &str) -> Result<u32, Problem> {
    if let Some(at) = table.subjects.find_again(name) {
        return Ok(at);
    }
    let name = Subject::recorded(name).map_err(words)?;
    Ok(table.subjects.add(SubjectRow { name, first: NONE }))
}

fn client(table: &mut Table, client: Option<&Client<'_>>) -> Result<u32, Problem> {
    let key = client.map_or([None; 7], |client| std::array::from_fn(|i| client.0[i].as_deref()));
    if let Some(at) = table.clients.find_again(key) {
        return Ok(at);
    }
    let built = client.map(Client::build).transpose().map_err(words)?.unwrap_or_default();
    Ok(table.clients.add(Arc::new(built)))
}

fn terms(table: &mut Table, terms: Terms) -> u32 {
    table.terms.find_again(terms).unwrap_or_else(|| table.terms.add(terms))
}

/// Puts a whole record in the place of the session's former one, if there was one. Later activity than its own stays.
fn put(table: &mut Table, record: &Record<'_>, revision: Option<Revision>) -> Result<SessionId, Problem> {
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
        active = active.max(table.row(former).active);
        table.remove(former);
    }
    let device = device(table, &record.device)?;
    if let Some(device) = table.devices.get_mut(device) {
        if device.bucket != id.bucket() {
            return Err(Cow::Owned(format!("session {id} does not lie in the bucket of its device")));
        }
        device.revision = revision.unwrap_or(device.revision);
    }
    let subject = subject(table, &record.subject)?;
    let client = client(table, patch.client.as_ref())?;
    let terms = terms(
        table,
        Terms { ttl: record.ttl, idle_timeout: record.idle, max_lifetime: record.life, retention: record.keep },
    );
    table.devices.acquire(device);
    table.subjects.acquire(subject);
    table.clients.acquire(client);
    table.terms.acquire(terms);
    let mut row = Row::new(id, current, record.family, Shares { device, subject, client, terms });
    row.created = record.created.as_millis();
    row.active = active;
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

/// Changes some of a record.
fn change(table: &mut Table, patch: Patch<'_>, revision: Revision) -> Result<SessionId, Problem> {
    let id = patch.id.ok_or("a change lacks its session's id")?;
    let at = known(table, id)?;
    if let Some(new) = &patch.client {
        let new = client(table, Some(new))?;
        table.clients.acquire(new);
        let old = std::mem::replace(&mut table.row_mut(at).client, new);
        if table.clients.release(old) == 0 {
            table.clients.remove(old);
        }
    }
    let row = table.row_mut(at);
    row.active = row.active.max(patch.active.map_or(0, Timestamp::as_millis));
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
    revise(table, at, revision);
    table.check(at).map_err(|error| Cow::Owned(error.to_string()))?;
    Ok(id)
}
