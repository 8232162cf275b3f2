//! Appending lines to the journal.

use std::io;
use std::sync::Arc;

use tenure_domain::Timestamp;
use tenure_ports::{Clock as _, CommitError, StoreError};

use super::durability::sync_if_needed;
use super::{WriterState, purge};
use crate::error::io_error;
use crate::format::{LineHeader, LineWriter};
use crate::journal::Journal;
use crate::state::StoreState;
use crate::storage::{StorageFile, write_all_at};

/// The result of an append: how many bytes are in the file, and the error that stopped it.
pub(super) struct AppendResult {
    /// The number of bytes of whole lines that are in the file.
    complete: usize,
    /// The number of bytes that were written before an error.
    written: usize,
    /// Whether the bytes after the whole lines could not be cut. If only the newline of such a line is missing, the
    /// next writer completes it.
    partial_line_remains: bool,
    pub(super) error: Option<StoreError>,
}

impl AppendResult {
    /// Returns the outcome of a commit, whose line is between the offsets `start` and `end` of the appended bytes.
    /// `synced` is the outcome of the sync.
    pub(super) fn outcome(&self, start: usize, end: usize, synced: &Result<(), StoreError>) -> Result<(), CommitError> {
        match (&self.error, synced) {
            // Nothing of the line is in the file, or it was cut.
            (Some(error), _) if start >= self.written => Err(error.clone().into()),
            (Some(error), Ok(())) if end > self.complete && !self.partial_line_remains => Err(error.clone().into()),
            (Some(error), _) if end > self.complete => Err(outcome_unknown(error)),
            (_, Err(error)) => Err(outcome_unknown(error)),
            _ => Ok(()),
        }
    }
}

fn outcome_unknown(error: &StoreError) -> CommitError {
    let (StoreError::Unavailable { location, message, source }
    | StoreError::Full { location, message, source }
    | StoreError::Corrupt { location, message, source }) = error.clone()
    else {
        return CommitError::Store(error.clone());
    };
    CommitError::OutcomeUnknown {
        location,
        message: format!("it was written, at least in part, and may or may not last: {message}"),
        source,
    }
}

/// Returns the header of the next line.
pub(super) fn next_line_header<'a>(state: &'a StoreState, journal: &Journal, at: Timestamp) -> LineHeader<'a> {
    let (boot, uptime) = (state.clock.boot_id(), state.clock.uptime().get());
    LineHeader { number: journal.position.number + 1, at, synced: journal.position.synced_number, boot, uptime }
}

/// Appends lines, and applies those that are whole in the file. Does not make them durable. The caller holds the lock
/// and has caught up.
pub(super) fn append(state: &StoreState, bytes: &[u8]) -> AppendResult {
    let (file, from, synced_end, has_foreign_lines) = {
        let journal = state.journal.read();
        let position = &journal.position;
        (Arc::clone(&journal.file), position.end, position.synced_end, position.has_foreign_lines)
    };
    let write_error = |error: io::Error| io_error(&state.path, "write to the store", error);
    if has_foreign_lines && let Err(error) = rewrite_unsynced(&*file, synced_end, from) {
        let error = Some(write_error(error));
        return AppendResult { complete: 0, written: 0, partial_line_remains: false, error };
    }
    let (mut written, mut error) = (0, None);
    while written < bytes.len() && error.is_none() {
        match file.write_at(&bytes[written..], from + written as u64) {
            Ok(0) => error = Some(write_error(io::ErrorKind::StorageFull.into())),
            Ok(n) => written += n,
            Err(failure) => error = Some(write_error(failure)),
        }
    }
    let complete = bytes[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut partial_line_remains = false;
    // Whole lines stay, because readers may have applied them. If the rest cannot be cut now, the next writer cuts it.
    if complete < written
        && let Err(error) = file.truncate(from + complete as u64)
    {
        tracing::warn!(%error, "an incomplete line stays at the store's end until the next write");
        partial_line_remains = true;
    }
    if let Err(failure) = state.journal.write().apply_own(&bytes[..complete], from) {
        error = Some(failure);
    }
    AppendResult { complete, written, partial_line_remains, error }
}

/// Writes lines again, unchanged, that another process may have failed to sync. The system reports a failed sync to one
/// process only. After this write, the next sync covers these lines too.
fn rewrite_unsynced(file: &dyn StorageFile, from: u64, to: u64) -> io::Result<()> {
    let mut bytes = vec![0; usize::try_from(to - from).unwrap_or_default()];
    let read = file.read_at(&mut bytes, from)?;
    write_all_at(file, &bytes[..read], from)
}

/// Appends one line that is not a commit, and makes it durable.
pub(super) fn append_line(
    state: &StoreState,
    memory: &mut WriterState,
    fill: purge::FillLine<'_>,
) -> Result<(), StoreError> {
    let mut bytes = Vec::new();
    {
        let journal = state.journal.read();
        let mut line = LineWriter::begin(&mut bytes, next_line_header(state, &journal, state.clock.now()));
        fill(&mut line, &journal.table);
        line.finish();
    }
    match append(state, &bytes).error {
        Some(error) => Err(error),
        None => sync_if_needed(state, memory, true),
    }
}
