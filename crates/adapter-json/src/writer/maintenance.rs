//! Maintenance: the compaction and the index, which the writer does after a round if they are due.

use parking_lot::RwLockReadGuard;
use tenure_ports::StoreError;

use super::append::append_line;
use super::durability::rewrite;
use super::{WriterState, purge};
use crate::index;
use crate::state::StoreState;

/// Compacts the file if it is larger than twice the last snapshot plus the threshold, or if most sessions of the
/// snapshot are gone. So on average each byte is copied about once.
pub(super) fn compact_if_due(state: &StoreState, memory: &mut WriterState) {
    let (size, header, records) = {
        let journal = state.journal.read();
        (journal.position.end, journal.position.header, journal.table.len() as u64)
    };
    let threshold = state.thresholds.compaction;
    let has_grown = size > header.size.saturating_mul(2).saturating_add(threshold);
    let is_mostly_gone = size > threshold && records < header.records / 4;
    if !(has_grown || is_mostly_gone) || size < memory.next_compaction_size {
        return;
    }
    memory.next_compaction_size = 0;
    if let Err(error) = compact(state, memory) {
        tracing::warn!(%error, "the store could not be compacted; it goes on growing until it can");
        memory.next_compaction_size = size.saturating_add(threshold);
    }
}

/// Removes the records that are no longer retained, and rewrites the file.
pub(super) fn compact(state: &StoreState, memory: &mut WriterState) -> Result<(), StoreError> {
    purge::purge_unretained(state, |state, fill| append_line(state, memory, fill))?;
    rewrite(state, memory)
}

/// Writes the index after each rewrite of the file, and once for the lines that this process had to parse when it
/// opened the store: if they are more than an eighth of what the last index covers, plus the threshold.
///
/// The lines that this process itself appends are not indexed again. So each byte of the journal costs at most three
/// bytes of indexes, and none in a process that keeps running.
pub(super) fn index_if_due(state: &StoreState, memory: &mut WriterState) {
    if std::mem::replace(&mut memory.has_checked_index, true) || !state.wants_index() {
        return;
    }
    let position = state.journal.read().position.clone();
    let table = || RwLockReadGuard::map(state.journal.read(), |journal| &journal.table);
    match index::write(&*state.storage, &state.path, &position, table) {
        Ok(Some(end)) => state.journal.write().indexed_end = Some(end),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, path = %state.path.display(), "the store's index could not be written"),
    }
}
