//! Whether a commit holds, and the line that records it.

use tenure_domain::{Change, Commit, Revision, Session, SessionId, SessionParts, Timestamp};
use tenure_ports::CommitError;

use crate::format::Ops;
use crate::table::Table;

/// Checks everything that the port promises to check.
pub(super) fn check(table: &Table, commit: &Commit, now: Timestamp) -> Result<(), CommitError> {
    let device = table.devices.find(commit.device.as_str());
    let revision = device.and_then(|device| table.devices.get(device)).map_or(Revision::NONE, |row| row.revision);
    if revision != commit.expected {
        return Err(CommitError::Conflict);
    }
    if now > commit.not_after {
        return Err(CommitError::TooLate);
    }
    for guard in &commit.guards {
        if table.find(guard.session).is_some_and(|at| table.row(at).active > guard.last_activity.as_millis()) {
            return Err(CommitError::Conflict);
        }
    }
    for change in &commit.changes {
        let session = change.session();
        let found = table.find(session.id);
        let fits = match change {
            Change::Issued(_) => found.is_none(),
            Change::Rotated(_) | Change::Ended(_) | Change::ClientUpdated(_) => found.is_some(),
            Change::Imported(_) | Change::Merged(_) => true,
        };
        let own = found.is_none_or(|at| Some(table.row(at).device) == device);
        if !fits || !own || session.device != commit.device {
            return Err(CommitError::Conflict);
        }
    }
    Ok(())
}

/// Writes a checked commit's operations.
pub(crate) fn write(ops: &mut Ops<'_>, table: &Table, commit: &Commit) {
    let device = table.devices.find(commit.device.as_str());
    let known = device.and_then(|device| table.devices.get(device)).and_then(|row| row.watermark);
    if commit.watermark != known || commit.changes.is_empty() {
        ops.device(commit.device.as_str(), None, (commit.watermark != known).then_some(commit.watermark));
    }
    // What is left of a session that comes anew counts for nothing.
    let imported = |change: &Change| matches!(change, Change::Imported(_)).then(|| change.session().id);
    let leftover = commit.changes.iter().filter_map(imported).filter(|id| table.find(*id).is_some());
    let leftover: Vec<SessionId> = leftover.collect();
    if !leftover.is_empty() {
        ops.several("purge", &leftover);
    }
    for change in &commit.changes {
        let stored = table.find(change.session().id).filter(|_| imported(change).is_none());
        let stored = stored.and_then(|at| table.session(at).ok());
        write_change(ops, change, stored);
    }
    let expired: Vec<SessionId> = commit.expired.iter().copied().filter(|id| is_known(table, commit, *id)).collect();
    if !expired.is_empty() {
        ops.several("lapse", &expired);
    }
    let dropped = beyond_retention(table, device, commit);
    if !dropped.is_empty() {
        ops.several("purge", &dropped);
    }
}

fn is_known(table: &Table, commit: &Commit, id: SessionId) -> bool {
    table.find(id).is_some() || commit.changes.iter().any(|change| change.session().id == id)
}

/// Writes what differs, where only that differs which such a change may change; else the whole record.
fn write_change(ops: &mut Ops<'_>, change: &Change, stored: Option<Session>) {
    let new = later(change.session(), stored.as_ref());
    let same = |with: fn(&mut SessionParts, &SessionParts)| {
        stored.is_some_and(|stored| {
            let mut parts = stored.into_parts();
            parts.last_activity = new.last_activity;
            with(&mut parts, &new);
            parts == *new
        })
    };
    match change {
        Change::Issued(_) => ops.record("issue", &new, false),
        Change::Imported(_) | Change::Merged(_) => ops.record("import", &new, false),
        Change::Rotated(_) => {
            let only = same(|parts, new| {
                parts.expires_at = new.expires_at;
                parts.generation = new.generation;
                parts.rotated_at = new.rotated_at;
                parts.credential.current = new.credential.current;
                parts.credential.replaced.clone_from(&new.credential.replaced);
            });
            if only { ops.rotate(&new) } else { ops.record("rotate", &new, false) }
        }
        Change::Ended(_) => {
            let only = same(|parts, new| parts.end.clone_from(&new.end));
            match &new.end {
                Some(end) if only => ops.finish(&new, end),
                _ => ops.record("end", &new, false),
            }
        }
        Change::ClientUpdated(_) => {
            let only = same(|parts, new| parts.client.clone_from(&new.client));
            if only && !new.client.is_empty() { ops.describe(&new) } else { ops.record("describe", &new, false) }
        }
    }
}

/// The record with the later of its own and the stored activity.
fn later(session: &Session, stored: Option<&Session>) -> Session {
    let own = session.clone();
    let Some(stored) = stored.filter(|stored| stored.last_activity > session.last_activity) else { return own };
    let fallback = own.clone();
    let parts = SessionParts { last_activity: stored.last_activity, ..own.into_parts() };
    // Later activity contradicts nothing.
    Session::from_parts(parts).unwrap_or(fallback)
}

/// Which of the device's sessions that are over after the commit are too many, oldest first.
fn beyond_retention(table: &Table, device: Option<u32>, commit: &Commit) -> Vec<SessionId> {
    let changed = |id| commit.changes.iter().any(|change| change.session().id == id);
    let rows = || device.into_iter().flat_map(|device| table.device_rows(device));
    let is_over = |id, over| over || commit.expired.contains(&id);
    let stored = || rows().filter(|(_, row)| !changed(row.id) && is_over(row.id, row.is_over()));
    let new = || commit.changes.iter().map(Change::session).filter(|new| is_over(new.id, new.end.is_some()));
    let surplus = (stored().count() + new().count()).saturating_sub(commit.retain);
    if surplus == 0 {
        return Vec::new();
    }
    let stored = stored().filter_map(|(at, row)| Some((table.session(at).ok()?.ended_at(), row.id)));
    let mut over: Vec<_> = stored.chain(new().map(|new| (new.ended_at(), new.id))).collect();
    over.sort_unstable();
    over.into_iter().take(surplus).map(|(_, id)| id).collect()
}
