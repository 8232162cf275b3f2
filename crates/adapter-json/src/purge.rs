//! Removing records.

use tenure_domain::{Session, SessionId, Timestamp};
use tenure_ports::{Clock as _, Cursor, Purge, Purged, StoreError};

use crate::format::Ops;
use crate::table::Table;
use crate::writer::Shared;

/// How many records one line removes, and about how many rows are looked at under one lock.
const REMOVED_AT_ONCE: usize = 2048;
const SEEN_AT_ONCE: usize = 8192;

/// Records to be removed, device by device.
#[derive(Default)]
struct Doomed {
    ids: Vec<SessionId>,
    /// Devices that lose a session which had not ended: what was decided on it must not be applied any more.
    revised: Vec<u32>,
    /// How many of them are retained, and so could be seen.
    retained: u64,
}

/// Gathers what `doomed` picks at `now` from the devices from `from` on; answers where to go on.
fn gather(table: &Table, from: u32, now: Timestamp, doomed: impl Fn(&Session) -> bool) -> (Doomed, Option<u32>) {
    let mut found = Doomed::default();
    let mut seen = 0;
    for device in from..table.devices.bound() {
        if found.ids.len() >= REMOVED_AT_ONCE || seen >= SEEN_AT_ONCE {
            return (found, Some(device));
        }
        let before = found.ids.len();
        let mut unended = false;
        for (at, _) in table.device_rows(device) {
            seen += 1;
            if let Ok(session) = table.session(at)
                && doomed(&session)
            {
                found.ids.push(session.id);
                unended |= session.end.is_none();
                found.retained += u64::from(session.is_retained(now));
            }
        }
        seen += 1;
        if unended && before < found.ids.len() {
            found.revised.push(device);
        }
    }
    (found, None)
}

fn write(ops: &mut Ops<'_>, table: &Table, doomed: &Doomed) {
    for device in &doomed.revised {
        if let Some(row) = table.devices.get(*device) {
            ops.device(row.name.as_str(), None, None);
        }
    }
    ops.several("purge", &doomed.ids);
}

/// What puts operations into a line.
pub(crate) type Fill<'a> = &'a mut dyn FnMut(&mut Ops<'_>, &Table);

/// Some of a purge.
pub(crate) fn run(
    shared: &Shared,
    purge: &Purge,
    after: Option<Cursor>,
    append: impl FnOnce(&Shared, Fill<'_>) -> Result<(), StoreError>,
) -> Result<Purged, StoreError> {
    let from = after.map_or(0, |cursor| u32::try_from(cursor.0).unwrap_or(u32::MAX));
    let doomed = |session: &Session| session.inactive_since(purge.now).is_some_and(|since| since <= purge.inactive_by);
    let (found, next) = gather(&shared.journal.read().table, from, purge.now, doomed);
    if !found.ids.is_empty() && !purge.dry_run {
        remove(shared, &found, append)?;
    }
    Ok(Purged { removed: found.retained, next: next.map(|next| Cursor(next.into())) })
}

fn remove(
    shared: &Shared,
    found: &Doomed,
    append: impl FnOnce(&Shared, Fill<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    append(shared, &mut |ops, table| write(ops, table, found))
}

/// Removes every record whose retention is over.
pub(crate) fn stale(
    shared: &Shared,
    mut append: impl FnMut(&Shared, Fill<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let now: Timestamp = shared.clock.now();
    let mut from = Some(0);
    while let Some(location) = from {
        let (found, next) = gather(&shared.journal.read().table, location, now, |session| !session.is_retained(now));
        if !found.ids.is_empty() {
            remove(shared, &found, &mut append)?;
        }
        from = next;
    }
    Ok(())
}
