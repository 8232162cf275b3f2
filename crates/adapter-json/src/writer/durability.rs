//! Making what was written durable.

use std::io;
use std::sync::Arc;

use tenure_ports::StoreError;

use super::WriterState;
use crate::error::io_error;
use crate::journal::snapshot;
use crate::state::StoreState;
use crate::storage::parent_directory;

/// Nobody waits for activity to be durable. Beyond this many bytes of it the writer syncs all the same, so that a power
/// loss takes little of it.
const MAX_UNSYNCED_BYTES: u64 = 64 << 10;

/// Makes durable what another process wrote, for a reader. Does not need the lock.
pub(super) fn sync_only(state: &StoreState) -> Result<(), StoreError> {
    let file = Arc::clone(&state.journal.read().file);
    file.sync().map_err(|error| io_error(&state.path, "sync the store", error))
}

/// Makes everything durable that was written, if `must` asks for it or much has gathered.
///
/// After a failed sync the file is rewritten, since a second sync on it can succeed without having written anything.
pub(super) fn sync_if_needed(state: &StoreState, memory: &mut WriterState, must: bool) -> Result<(), StoreError> {
    let (file, number, unsynced) = {
        let journal = state.journal.read();
        let position = &journal.position;
        (Arc::clone(&journal.file), position.number, position.end - position.synced_end)
    };
    if !must && unsynced < MAX_UNSYNCED_BYTES {
        return Ok(());
    }
    match sync_directory(state).and_then(|()| file.sync()) {
        Ok(()) => {
            state.journal.write().mark_synced(number);
            Ok(())
        }
        Err(error) => {
            tracing::warn!(%error, path = %state.path.display(), "a sync failed; the store is rewritten");
            memory.must_rewrite = true;
            rewrite(state, memory)
        }
    }
}

/// Makes the file's name durable, once. The process that put the file in place may have died before it did so.
fn sync_directory(state: &StoreState) -> io::Result<()> {
    if !state.journal.read().directory_synced {
        state.storage.sync_directory(&parent_directory(&state.path))?;
        state.journal.write().directory_synced = true;
    }
    Ok(())
}

/// Writes the table to a new file, durably, and puts it in the journal's place.
pub(super) fn rewrite(state: &StoreState, memory: &mut WriterState) -> Result<(), StoreError> {
    match snapshot::rewrite(&*state.storage, &state.path, &state.clock, &state.journal) {
        Ok(()) => {
            (memory.must_rewrite, memory.has_checked_index) = (false, false);
            Ok(())
        }
        Err(failure) => {
            memory.must_rewrite |= failure.renamed;
            Err(failure.error)
        }
    }
}
