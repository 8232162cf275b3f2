//! Writing commits: the operations of the line that records one.

use tenure_domain::{Change, Commit, Session, SessionId, SessionParts};

use crate::format::LineWriter;
use crate::table::Table;

/// Writes the operations of a valid commit.
pub(crate) fn write(line: &mut LineWriter<'_>, table: &Table, commit: &Commit) {
    let device = table.devices.find(commit.device.as_str());
    let known = device.and_then(|device| table.devices.get(device)).and_then(|row| row.watermark);
    if commit.watermark != known || commit.changes.is_empty() {
        line.device(commit.device.as_str(), None, (commit.watermark != known).then_some(commit.watermark));
    }
    // An imported session is not merged with an earlier record of the same id, so that record is removed first.
    let imported = |change: &Change| matches!(change, Change::Imported(_)).then(|| change.session().id);
    let leftover = commit.changes.iter().filter_map(imported).filter(|id| table.find(*id).is_some());
    let leftover: Vec<SessionId> = leftover.collect();
    if !leftover.is_empty() {
        line.session_list("purge", &leftover);
    }
    for change in &commit.changes {
        let stored = table.find(change.session().id).filter(|_| imported(change).is_none());
        let stored = stored.and_then(|at| table.session(at).ok());
        write_change(line, change, stored);
    }
    let expired: Vec<SessionId> = commit.expired.iter().copied().filter(|id| is_known(table, commit, *id)).collect();
    if !expired.is_empty() {
        line.session_list("lapse", &expired);
    }
    let dropped = beyond_retention(table, device, commit);
    if !dropped.is_empty() {
        line.session_list("purge", &dropped);
    }
}

fn is_known(table: &Table, commit: &Commit, id: SessionId) -> bool {
    table.find(id).is_some() || commit.changes.iter().any(|change| change.session().id == id)
}

/// Writes a change: only the fields that this kind of change usually affects, or the whole record if another field
/// differs.
fn write_change(line: &mut LineWriter<'_>, change: &Change, stored: Option<Session>) {
    let new = with_later_activity(change.session(), stored.as_ref());
    let same = |with: fn(&mut SessionParts, &SessionParts)| {
        stored.is_some_and(|stored| {
            let mut parts = stored.into_parts();
            parts.last_activity = new.last_activity;
            with(&mut parts, &new);
            parts == *new
        })
    };
    match change {
        Change::Issued(_) => line.record("issue", &new, false),
        Change::Imported(_) | Change::Merged(_) => line.record("import", &new, false),
        Change::Rotated(_) => {
            let only = same(|parts, new| {
                parts.expires_at = new.expires_at;
                parts.generation = new.generation;
                parts.rotated_at = new.rotated_at;
                parts.credential.current = new.credential.current;
                parts.credential.replaced.clone_from(&new.credential.replaced);
            });
            if only { line.rotate(&new) } else { line.record("rotate", &new, false) }
        }
        Change::Ended(_) => {
            let only = same(|parts, new| parts.end.clone_from(&new.end));
            match &new.end {
                Some(end) if only => line.end_session(&new, end),
                _ => line.record("end", &new, false),
            }
        }
        Change::ClientUpdated(_) => {
            let only = same(|parts, new| parts.client.clone_from(&new.client));
            if only && !new.client.is_empty() { line.update_client(&new) } else { line.record("describe", &new, false) }
        }
    }
}

/// Returns the record with the later one of its own last activity and the stored one.
fn with_later_activity(session: &Session, stored: Option<&Session>) -> Session {
    let own = session.clone();
    let Some(stored) = stored.filter(|stored| stored.last_activity > session.last_activity) else { return own };
    let fallback = own.clone();
    let parts = SessionParts { last_activity: stored.last_activity, ..own.into_parts() };
    // Later activity never contradicts another part.
    Session::from_parts(parts).unwrap_or(fallback)
}

/// Returns the inactive sessions of the device that exceed `commit.retain` after the commit. Those that ended first
/// come first.
fn beyond_retention(table: &Table, device: Option<u32>, commit: &Commit) -> Vec<SessionId> {
    let changed = |id| commit.changes.iter().any(|change| change.session().id == id);
    let rows = || device.into_iter().flat_map(|device| table.device_rows(device));
    let is_inactive = |id, inactive| inactive || commit.expired.contains(&id);
    let stored = || rows().filter(|(_, row)| !changed(row.id) && is_inactive(row.id, row.is_inactive()));
    let new = || commit.changes.iter().map(Change::session).filter(|new| is_inactive(new.id, new.end.is_some()));
    let surplus = (stored().count() + new().count()).saturating_sub(commit.retain);
    if surplus == 0 {
        return Vec::new();
    }
    let stored = stored().filter_map(|(at, row)| Some((table.session(at).ok()?.ended_at(), row.id)));
    let mut inactive: Vec<_> = stored.chain(new().map(|new| (new.ended_at(), new.id))).collect();
    inactive.sort_unstable();
    inactive.into_iter().take(surplus).map(|(_, id)| id).collect()
}
