//! Purging: removing the records of inactive sessions.

use tenure_domain::{Session, SessionId, Timestamp};
use tenure_ports::{Clock as _, Cursor, Purge, Purged, StoreError};

use crate::format::LineWriter;
use crate::state::StoreState;
use crate::table::Table;

/// About the largest number of records that one line removes.
const MAX_IDS_PER_LINE: usize = 2048;
/// About the number of rows that are scanned each time the table is locked.
const MAX_ROWS_PER_SCAN: usize = 8192;

/// The records that one line removes. A device's records are never split between two lines.
#[derive(Default)]
struct PurgeBatch {
    ids: Vec<SessionId>,
    /// The devices that lose a session which had not ended. They get a new revision, so that no earlier decision on
    /// that session can be committed.
    revised: Vec<u32>,
    /// How many of the records are still retained.
    retained: u64,
}

/// Collects records that `is_selected` selects, from the device `first` on. Also returns the device to continue from.
/// `None` at the end.
fn gather(
    table: &Table,
    first: u32,
    now: Timestamp,
    is_selected: impl Fn(&Session) -> bool,
) -> (PurgeBatch, Option<u32>) {
    let mut found = PurgeBatch::default();
    let mut scanned = 0;
    for device in first..table.devices.slot_count() {
        if found.ids.len() >= MAX_IDS_PER_LINE || scanned >= MAX_ROWS_PER_SCAN {
            return (found, Some(device));
        }
        let before = found.ids.len();
        let mut has_unended = false;
        for (at, _) in table.device_rows(device) {
            scanned += 1;
            if let Ok(session) = table.session(at)
                && is_selected(&session)
            {
                found.ids.push(session.id);
                has_unended |= session.end.is_none();
                found.retained += u64::from(session.is_retained(now));
            }
        }
        scanned += 1;
        if has_unended && before < found.ids.len() {
            found.revised.push(device);
        }
    }
    (found, None)
}

fn write(line: &mut LineWriter<'_>, table: &Table, batch: &PurgeBatch) {
    for device in &batch.revised {
        if let Some(row) = table.devices.get(*device) {
            line.device(row.name.as_str(), None, None);
        }
    }
    line.session_list("purge", &batch.ids);
}

/// A function that writes operations into a line.
pub(crate) type FillLine<'a> = &'a mut dyn FnMut(&mut LineWriter<'_>, &Table);

/// Purges the records of some devices, from `after` on. `append` writes a line and makes it durable.
pub(crate) fn purge_page(
    state: &StoreState,
    purge: &Purge,
    after: Option<Cursor>,
    append: impl FnOnce(&StoreState, FillLine<'_>) -> Result<(), StoreError>,
) -> Result<Purged, StoreError> {
    let first = after.map_or(0, |cursor| u32::try_from(cursor.0).unwrap_or(u32::MAX));
    let is_selected =
        |session: &Session| session.inactive_since(purge.now).is_some_and(|since| since <= purge.inactive_by);
    let (found, next) = gather(&state.journal.read().table, first, purge.now, is_selected);
    if !found.ids.is_empty() && !purge.dry_run {
        remove(state, &found, append)?;
    }
    Ok(Purged { removed: found.retained, next: next.map(|next| Cursor(next.into())) })
}

fn remove(
    state: &StoreState,
    found: &PurgeBatch,
    append: impl FnOnce(&StoreState, FillLine<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    append(state, &mut |line, table| write(line, table, found))
}

/// Removes every record that is no longer retained.
pub(crate) fn purge_unretained(
    state: &StoreState,
    mut append: impl FnMut(&StoreState, FillLine<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let now: Timestamp = state.clock.now();
    let mut first = Some(0);
    while let Some(location) = first {
        let (found, next) = gather(&state.journal.read().table, location, now, |session| !session.is_retained(now));
        if !found.ids.is_empty() {
            remove(state, &found, &mut append)?;
        }
        first = next;
    }
    Ok(())
}
