//! Validating commits: the checks against the table before one is written.

use tenure_domain::{Change, Commit, Revision, Timestamp};
use tenure_ports::CommitError;

use crate::table::Table;

/// Checks every condition of [`tenure_ports::SessionCommits::commit`].
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
        let used_since = |at| table.row(at).last_activity > guard.last_activity.as_millis();
        if table.find(guard.session).is_some_and(used_since) {
            return Err(CommitError::Conflict);
        }
    }
    for change in &commit.changes {
        let session = change.session();
        let found = table.find(session.id);
        let is_possible = match change {
            Change::Issued(_) => found.is_none(),
            Change::Rotated(_) | Change::Ended(_) | Change::ClientUpdated(_) => found.is_some(),
            Change::Imported(_) | Change::Merged(_) => true,
        };
        let is_own = found.is_none_or(|at| Some(table.row(at).device) == device);
        if !is_possible || !is_own || session.device != commit.device {
            return Err(CommitError::Conflict);
        }
    }
    Ok(())
}
