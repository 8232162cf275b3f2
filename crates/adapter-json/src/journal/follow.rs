//! Following what others write: the lines that they append, and the files that they put in place of this one.

use std::io;
use std::path::Path;

use tenure_ports::{StoreError, StoreEvent};

use super::torn::{Verdict, judge};
use super::{Journal, Position, Recorded, Tail, open_file};
use crate::format::{Head, Op, Problem, parse_line};
use crate::guard::{corrupt, failed, unavailable};
use crate::table::Table;
use crate::vfs::File;

/// How much of the file is read at a time.
const CHUNK: u64 = 1 << 20;
/// How often a tail that changes while it is read is read again.
const PATIENCE: usize = 100;
/// Any first line fits.
const HEAD_MAX: u64 = 4096;

impl Journal {
    /// Applies what was written since the last look.
    pub(crate) fn refresh(&mut self) -> Result<Tail, StoreError> {
        if let Some(broken) = &self.broken {
            if self.is_fresh().is_err() {
                return Err(broken.clone());
            }
            (self.file, self.read_only) = open_file(&*self.vfs, &self.path)?;
            (self.named, self.broken, self.unsure) = (false, None, None);
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
            let stat = self.file.stat().map_err(|error| failed(&self.path, "look at the store", &error))?;
            if stat.size < self.at.end {
                let message = "the file became shorter than what was read of it";
                return Err(corrupt(&self.path, self.at.lines, message));
            }
            let tail = self.read_to(stat.size)?;
            if !self.is_whole() {
                let message = if stat.size == 0 {
                    "the file is empty, which no store is; remove it to begin a new one"
                } else {
                    "the file is not whole, and was when it became the store"
                };
                return Err(corrupt(&self.path, self.at.lines + 1, message));
            }
            if self.at.skip.is_some() {
                // The replacement lacks what was applied: somebody put an older copy there.
                self.reload();
                continue;
            }
            if stat.links != 0 {
                self.unsure.get_or_insert(if self.at.pending.is_empty() { 0 } else { self.at.end });
                return Ok(tail);
            }
            // Nobody writes to a file that was replaced, so all of it has been applied.
            self.follow()?;
        }
    }

    /// Whether the first line and the snapshot were read: they were on the disk before the file became the store.
    fn is_whole(&self) -> bool {
        self.at.lines > 0 && self.at.lines >= self.at.head.lines
    }

    /// Goes on in the file that replaced this one: from the end of its snapshot, where that is the state at hand.
    fn follow(&mut self) -> Result<(), StoreError> {
        let (file, read_only) = open_file(&*self.vfs, &self.path).map_err(|error| match self.vfs.stat(&self.path) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {
                unavailable(&self.path, "the store was removed while it was in use; put it back, or start anew")
            }
            _ => error,
        })?;
        let (head, stamp) = read_head(&*file, &self.path)?;
        // The time of the rewriting: later than any line before it, unless an operator accepted a clock that is behind.
        self.clock.record(stamp.0, &stamp.1, stamp.2);
        let mine = (self.at.number, self.at.crc);
        (self.file, self.named, self.read_only, self.unsure) = (file, false, read_only, None);
        if mine.0 > head.through || mine == (head.through, head.last) {
            self.at = Position {
                rules: self.at.rules.min(head.through),
                recorded: Recorded { at: stamp.0, boot: stamp.1, elapsed: stamp.2 },
                skip: (mine.0 > head.through).then_some(mine),
                ..Position::behind(head)
            };
            self.indexed = self.indexed.map(|_| 0);
            return Ok(());
        }
        self.reload();
        Ok(())
    }

    /// Forgets everything, to read the file from its beginning.
    fn reload(&mut self) {
        self.table = Table::default();
        self.at = Position::default();
        self.take_index();
        // Nobody listens, or somebody does: both are fine.
        drop(self.feed.send(StoreEvent::Lagged));
    }

    fn read_to(&mut self, size: u64) -> Result<Tail, StoreError> {
        self.read_ahead(size)?;
        let mut chunk = CHUNK;
        let mut patience = PATIENCE;
        while self.at.end < size {
            let whole = size - self.at.end <= chunk;
            let mut bytes = std::mem::take(&mut self.buffer);
            self.read(&mut bytes, chunk.min(size - self.at.end))?;
            let before = self.at.end;
            let outcome = self.absorb(&bytes, true);
            self.buffer = bytes;
            match outcome {
                // A whole chunk without a line's end.
                Ok(0) if !whole => chunk *= 2,
                Ok(_) if !whole => chunk = CHUNK,
                Ok(_) if self.at.end == size => break,
                Ok(_) => return self.judge(size, None, &mut patience),
                Err(bad) if bad.sealed => return Err(corrupt(&self.path, self.at.lines + 1, &bad.message)),
                Err(bad) => match self.judge(size, Some(bad.message), &mut patience)? {
                    // It changed under our eyes: a writer took an incomplete line back and wrote another.
                    Tail::Changed => continue,
                    tail => return Ok(tail),
                },
            }
            debug_assert!(self.at.end >= before);
        }
        Ok(Tail::Clean)
    }

    fn read(&self, bytes: &mut Vec<u8>, length: u64) -> Result<(), StoreError> {
        bytes.resize(usize::try_from(length).unwrap_or(usize::MAX), 0);
        let read = self.file.read_at(bytes, self.at.end);
        let read = read.map_err(|error| failed(&self.path, "read the store", &error))?;
        bytes.truncate(read);
        Ok(())
    }

    /// Decides what the bytes after the last good line are.
    fn judge(&self, size: u64, message: Option<Problem>, patience: &mut usize) -> Result<Tail, StoreError> {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        self.read(&mut first, size - self.at.end)?;
        self.read(&mut second, size - self.at.end)?;
        let message = match judge(&first, self.at.end, self.at.number + 1) {
            _ if first != second || (message.is_some() && self.good_line(&first)) => {
                *patience = patience.saturating_sub(1);
                if *patience > 0 {
                    return Ok(Tail::Changed);
                }
                return Err(unavailable(
                    &self.path,
                    "its end changes whenever it is read; is another program writing it?",
                ));
            }
            // Only bytes that were never promised may be missing.
            _ if !self.is_whole() => "the file is not whole, and was when it became the store",
            Verdict::Torn => return Ok(Tail::Torn),
            Verdict::LacksNewline => return Ok(Tail::LacksNewline),
            Verdict::Corrupt => "it is damaged",
        };
        Err(corrupt(&self.path, self.at.lines + 1, message))
    }

    fn good_line(&self, bytes: &[u8]) -> bool {
        bytes
            .split(|byte| *byte == b'\n')
            .next()
            .is_some_and(|line| line.len() < bytes.len() && parse_line(line).is_ok())
    }
}

/// Reads a file's first line: what it says, and the time, the machine's run and its length when it was written.
fn read_head(file: &dyn File, path: &Path) -> Result<(Head, (u64, String, u64)), StoreError> {
    let mut bytes = vec![0; HEAD_MAX as usize];
    let read = file.read_at(&mut bytes, 0).map_err(|error| failed(path, "read the store", &error))?;
    bytes.truncate(read);
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    match parse_line(line) {
        Ok((tx, _)) => match tx.ops[..] {
            [Op::Head(head)] => Ok((head, (tx.at, tx.boot.into_owned(), tx.elapsed))),
            _ => Err(corrupt(path, 1, "the file does not begin as a journal does")),
        },
        Err(message) => Err(corrupt(path, 1, &message)),
    }
}
