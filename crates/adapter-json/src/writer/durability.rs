//! Durability: syncing the file, and rewriting it after a failed sync.

use std::io;
use std::sync::Arc;

use tenure_ports::StoreError;

use super::WriterState;
use crate::error::io_error;
use crate::journal::snapshot;
use crate::state::StoreState;
use crate::storage::parent_directory;

/// The number of bytes of activity after which the writer syncs although nobody waits for it. So a power loss loses
/// only this much.
const MAX_UNSYNCED_BYTES: u64 = 64 << 10;

/// Makes what other processes wrote durable, for a reader. Does not need the lock.
pub(super) fn sync_only(state: &StoreState) -> Result<(), StoreError> {
    let file = Arc::clone(&state.journal.read().file);
    file.sync().map_err(|error| io_error(&state.path, "sync the store", error))
}

/// Makes everything durable that was written, if `must` is set or more than [`MAX_UNSYNCED_BYTES`] are not synced.
///
/// After a failed sync the file is rewritten, because a second sync can succeed without having written anything.
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

/// Makes the name of the file durable, once for each file. The process that put it in place may have died before it
/// did.
fn sync_directory(state: &StoreState) -> io::Result<()> {
    if !state.journal.read().directory_synced {
        state.storage.sync_directory(&parent_directory(&state.path))?;
        state.journal.write().directory_synced = true;
    }
    Ok(())
}

/// Replaces the journal by a new file with the table, durably.
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
