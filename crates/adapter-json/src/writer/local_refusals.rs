//! Local refusals: sessions that this process was to end, but could not write the end of. It refuses them until an end
//! is written.

use tenure_domain::{Change, Commit};
use tenure_ports::CommitError;

use crate::error::unavailable;
use crate::journal::Journal;
use crate::state::StoreState;

/// Refuses, in this process, the sessions that a failed commit was to end explicitly. Other sessions that it was to end
/// continue: an issue that failed evicts nobody, and idleness is decided again at the next use.
pub(super) fn refuse_locally(state: &StoreState, commit: &Commit) {
    for change in &commit.changes {
        if let Change::Ended(session) = change
            && session.end.as_ref().is_some_and(|end| end.reason.is_explicit())
        {
            state.journal.write().refused_locally.insert(session.id, session.clone());
        }
    }
}

/// Stops refusing the sessions of a commit, now that it was written.
pub(super) fn clear(state: &StoreState, commit: &Commit) {
    let is_empty = state.journal.read().refused_locally.is_empty();
    if is_empty {
        return;
    }
    for change in &commit.changes {
        state.journal.write().refused_locally.remove(&change.session().id);
    }
}

/// Fails if a commit would continue a session that this process refuses.
pub(super) fn check(state: &StoreState, journal: &Journal, commit: &Commit) -> Result<(), CommitError> {
    let is_refused = |change: &&Change| {
        let session = change.session();
        session.end.is_none() && journal.refused_locally.contains_key(&session.id)
    };
    match commit.changes.iter().find(is_refused) {
        Some(change) => {
            let id = change.session().id;
            let message = format!("the end of session {id} could not be written; revoke it again");
            Err(unavailable(&state.path, message).into())
        }
        None => Ok(()),
    }
}
