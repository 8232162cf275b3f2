//! Appending bytes: how far it got, and what a commit in them is told.

use std::io;
use std::sync::Arc;

use tenure_ports::{CommitError, StoreError};

use super::Shared;
use crate::guard::failed;
use crate::snapshot;
use crate::vfs::File;

/// How far an append got.
pub(super) struct Written {
    /// How many bytes of whole lines stand in the file.
    whole: usize,
    /// How many bytes were written before it stopped.
    done: usize,
    /// What was written beyond the whole lines could not be cut: if only its newline is missing, it will count.
    lingers: bool,
    pub(super) message: Option<StoreError>,
}

impl Written {
    /// What a commit is told whose line stands between `start` and `end`, after the sync.
    pub(super) fn outcome(&self, start: usize, end: usize, synced: &Result<(), StoreError>) -> Result<(), CommitError> {
        match (&self.message, synced) {
            // Nothing of it is in the file, or no longer.
            (Some(error), _) if start >= self.done => Err(error.clone().into()),
            (Some(error), Ok(())) if end > self.whole && !self.lingers => Err(error.clone().into()),
            (Some(error), _) if end > self.whole => Err(unknown(error)),
            (_, Err(error)) => Err(unknown(error)),
            _ => Ok(()),
        }
    }
}

fn unknown(error: &StoreError) -> CommitError {
    let (StoreError::Unavailable { location, message }
    | StoreError::Full { location, message }
    | StoreError::Corrupt { location, message }) = error.clone()
    else {
        return CommitError::Store(error.clone());
    };
    CommitError::OutcomeUnknown {
        location,
        message: format!("it was written, if not whole, and may or may not be there later: {message}"),
    }
}

/// Appends lines.
pub(super) fn write(shared: &Shared, bytes: &[u8]) -> Written {
    let (file, from, durable, foreign) = {
        let journal = shared.journal.read();
        (Arc::clone(&journal.file), journal.at.end, journal.at.durable, journal.at.foreign)
    };
    let failed = |error: io::Error| failed(&shared.path, "write to the store", &error);
    if foreign && let Err(error) = write_again(&*file, durable, from) {
        return Written { whole: 0, done: 0, lingers: false, message: Some(failed(error)) };
    }
    let (mut done, mut message) = (0, None);
    while done < bytes.len() && message.is_none() {
        match file.write_at(&bytes[done..], from + done as u64) {
            Ok(0) => message = Some(failed(io::ErrorKind::StorageFull.into())),
            Ok(n) => done += n,
            Err(error) => message = Some(failed(error)),
        }
    }
    let whole = bytes[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let mut lingers = false;
    // Whole lines stay, since readers may have applied them. Should this fail, the next writer cuts.
    if whole < done
        && let Err(error) = file.truncate(from + whole as u64)
    {
        tracing::warn!(%error, "an incomplete line stays at the store's end until the next write");
        lingers = true;
    }
    if let Err(error) = shared.journal.write().wrote(&bytes[..whole], from) {
        message = Some(error);
    }
    Written { whole, done, lingers, message }
}

/// What another process wrote and may have failed to sync is written again as it is, so that the coming sync answers
/// for it: a failure that it saw is not reported to us.
fn write_again(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    let mut bytes = vec![0; usize::try_from(to - from).unwrap_or_default()];
    let read = file.read_at(&mut bytes, from)?;
    snapshot::write_all(file, &bytes[..read], from)
}
