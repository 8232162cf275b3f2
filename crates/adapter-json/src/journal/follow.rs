//! Following other processes: the lines that they append, and the files with which they replace the journal.

use std::io;
use std::path::Path;

use tenure_ports::{StoreError, StoreEvent};

use super::position::{Position, RecordedTime};
use super::tail::{Damage, classify};
use super::{Journal, Tail, open_file};
use crate::error::{corrupt, io_error, unavailable};
use crate::format::{FormatError, Op, SnapshotHeader, parse_line};
use crate::storage::StorageFile;
use crate::table::Table;

/// The number of bytes that are read at a time.
const READ_SIZE: u64 = 1 << 20;
/// How often the tail of the file is read again if it changes while it is read.
const TAIL_RETRIES: usize = 100;
/// The largest size of a first line, in bytes.
const MAX_HEADER_SIZE: u64 = 4096;

impl Journal {
    /// Applies everything that was written since the last refresh, in this file or in those that replaced it.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read or is damaged. Damage is remembered until another file replaces this
    /// one.
    pub(crate) fn refresh(&mut self) -> Result<Tail, StoreError> {
        if let Some(broken) = &self.broken {
            if self.is_current().is_err() {
                return Err(broken.clone());
            }
            (self.file, self.read_only) = open_file(&*self.storage, &self.path)?;
            (self.directory_synced, self.broken, self.uncertain_end) = (false, None, None);
            self.reload();
        }
        let result = self.catch_up();
        self.buffer = Vec::new();
        if let Err(error @ StoreError::Corrupt { .. }) = &result {
            self.broken = Some(error.clone());
        }
        result
    }

    fn catch_up(&mut self) -> Result<Tail, StoreError> {
        loop {
            let metadata = self.file.metadata().map_err(|error| io_error(&self.path, "look at the store", error))?;
            if metadata.size < self.position.end {
                let message = "the file is shorter than what was already read of it";
                return Err(corrupt(&self.path, self.position.lines, message));
            }
            let tail = self.read_through(metadata.size)?;
            if !self.has_whole_snapshot() {
                let message = if metadata.size == 0 {
                    "the file is empty, and a store never is; remove it to begin a new one"
                } else {
                    "the file is incomplete, although it was complete when it became the store"
                };
                return Err(corrupt(&self.path, self.position.lines + 1, message));
            }
            if self.position.skip_through.is_some() {
                // The replacement lacks transactions that were applied, so it is an older copy.
                self.reload();
                continue;
            }
            if metadata.links != 0 {
                self.uncertain_end.get_or_insert(if self.position.pending.is_empty() { 0 } else { self.position.end });
                return Ok(tail);
            }
            // The file was replaced. Nobody writes to it any more, so all of it has been applied.
            self.follow_replacement()?;
        }
    }

    /// Whether the first line and the whole snapshot were read. They were durable before the file became the store.
    fn has_whole_snapshot(&self) -> bool {
        self.position.lines > 0 && self.position.lines >= self.position.header.lines
    }

    /// Continues in the file that replaced this one: from the end of its snapshot if that is the state of the table,
    /// otherwise from its beginning.
    fn follow_replacement(&mut self) -> Result<(), StoreError> {
        let opened = open_file(&*self.storage, &self.path);
        let (file, read_only) = opened.map_err(|error| match self.storage.metadata(&self.path) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => unavailable(
                &self.path,
                "the store was removed while it was in use; put it back, or start with a new store",
            ),
            _ => error,
        })?;
        let (header, recorded) = read_header(&*file, &self.path)?;
        // The first line records the time of the rewrite. It is later than that of any line before, unless an operator
        // accepted a clock that is behind.
        self.clock.record(recorded.at, &recorded.boot, recorded.uptime);
        let own = (self.position.number, self.position.crc);
        (self.file, self.directory_synced, self.read_only, self.uncertain_end) = (file, false, read_only, None);
        if own.0 > header.through || own == (header.through, header.last_crc) {
            self.position = Position {
                last_change: self.position.last_change.min(header.through),
                recorded,
                skip_through: (own.0 > header.through).then_some(own),
                ..Position::at_snapshot_end(header)
            };
            self.indexed_end = self.indexed_end.map(|_| 0);
            return Ok(());
        }
        self.reload();
        Ok(())
    }

    /// Discards the table, so that the file is read again from its beginning or its index.
    fn reload(&mut self) {
        self.table = Table::default();
        self.position = Position::default();
        self.load_index();
        // An error only says that there are no subscribers.
        drop(self.events.send(StoreEvent::Lagged));
    }

    /// Applies the file's lines up to `size`, and returns how the file ends.
    fn read_through(&mut self, size: u64) -> Result<Tail, StoreError> {
        self.replay_in_parallel(size)?;
        let mut read_size = READ_SIZE;
        let mut retries = TAIL_RETRIES;
        while self.position.end < size {
            let whole = size - self.position.end <= read_size;
            let mut bytes = std::mem::take(&mut self.buffer);
            self.read(&mut bytes, read_size.min(size - self.position.end))?;
            let before = self.position.end;
            let result = self.apply_lines(&bytes, true);
            self.buffer = bytes;
            match result {
                // The line is longer than what was read.
                Ok(0) if !whole => read_size *= 2,
                Ok(_) if !whole => read_size = READ_SIZE,
                Ok(_) if self.position.end == size => break,
                Ok(_) => return self.classify(size, None, &mut retries),
                Err(error) if error.checksum_matches => {
                    return Err(corrupt(&self.path, self.position.lines + 1, &error.message));
                }
                Err(error) => match self.classify(size, Some(error.message), &mut retries)? {
                    // The tail changed meanwhile: a writer cut an incomplete line and wrote another.
                    Tail::Changed => continue,
                    tail => return Ok(tail),
                },
            }
            debug_assert!(self.position.end >= before);
        }
        Ok(Tail::Clean)
    }

    /// Reads up to `length` bytes from the position on.
    fn read(&self, bytes: &mut Vec<u8>, length: u64) -> Result<(), StoreError> {
        bytes.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        let read = self.file.read_at(bytes, self.position.end);
        let read = read.map_err(|error| io_error(&self.path, "read the store", error))?;
        bytes.truncate(read);
        Ok(())
    }

    /// Classifies the bytes after the last valid line.
    fn classify(&self, size: u64, message: Option<FormatError>, retries: &mut usize) -> Result<Tail, StoreError> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        self.read(&mut first, size - self.position.end)?;
        self.read(&mut second, size - self.position.end)?;
        let message = match classify(&first, self.position.end, self.position.number + 1) {
            _ if first != second || (message.is_some() && starts_with_valid_line(&first)) => {
                *retries = retries.saturating_sub(1);
                if *retries > 0 {
                    return Ok(Tail::Changed);
                }
                return Err(unavailable(
                    &self.path,
                    "its end changes whenever it is read; is another program writing it?",
                ));
            }
            // The snapshot was durable before the file became the store, so none of it may be missing.
            _ if !self.has_whole_snapshot() => {
                "the file is incomplete, although it was complete when it became the store"
            }
            Damage::Torn => return Ok(Tail::Torn),
            Damage::LacksNewline => return Ok(Tail::LacksNewline),
            Damage::Corrupt => "it is damaged",
        };
        Err(corrupt(&self.path, self.position.lines + 1, message))
    }
}

fn starts_with_valid_line(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next();
    line.is_some_and(|line| line.len() < bytes.len() && parse_line(line).is_ok())
}

/// Reads the first line of a file: the header of its snapshot, and the time at which it was written.
fn read_header(file: &dyn StorageFile, path: &Path) -> Result<(SnapshotHeader, RecordedTime), StoreError> {
    let mut bytes = vec![0; MAX_HEADER_SIZE as usize];
    let read = file.read_at(&mut bytes, 0).map_err(|error| io_error(path, "read the store", error))?;
    bytes.truncate(read);
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match parse_line(line) {
        Ok((tx, _)) => match tx.ops[..] {
            [Op::Header(header)] => {
                Ok((header, RecordedTime { at: tx.at, boot: tx.boot.into_owned(), uptime: tx.uptime }))
            }
            _ => Err(corrupt(path, 1, "the file does not begin as a journal does")),
        },
        Err(message) => Err(corrupt(path, 1, &message)),
    }
}
