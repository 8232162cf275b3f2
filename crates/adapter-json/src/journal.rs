//! The journal: its file, the table that its lines describe, and the position up to which they were applied.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use tenure_domain::{Session, SessionId};
use tenure_ports::{StoreError, StoreEvent};
use tokio::sync::broadcast;

use crate::clock::StoreClock;
use crate::error::{corrupt, io_error};
use crate::format::{FormatError, Op, SnapshotHeader, Transaction, parse_line};
use crate::index::{self, Loaded};
use crate::storage::permissions::{check_file, symlink_error};
use crate::storage::{OpenMode, Storage, StorageFile};
use crate::table::Table;
use crate::table::apply::{AppliedEvents, apply};

pub(crate) mod checksums;
mod follow;
mod parallel_replay;
pub(crate) mod position;
pub(crate) mod snapshot;
mod tail;

use checksums::Checksums;
use position::{Position, RecordedTime};
pub(crate) use tail::{Tail, is_torn};

/// A journal file and the sessions that its lines describe.
pub(crate) struct Journal {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    clock: Arc<StoreClock>,
    pub(crate) file: Arc<dyn StorageFile>,
    pub(crate) table: Table,
    pub(crate) position: Position,
    /// The damage that was found. Nothing is read from this file any more.
    broken: Option<StoreError>,
    /// The sessions that this process was to end, but could not write the end of. It refuses them, whatever the file
    /// says.
    pub(crate) refused_locally: HashMap<SessionId, Session>,
    /// Whether the file's name is known to be durable.
    pub(crate) directory_synced: bool,
    /// Whether the file could only be opened to read.
    pub(crate) read_only: bool,
    /// The end of the lines that were not known to be durable when this process opened the file. `None` until the file
    /// was read for the first time.
    uncertain_end: Option<u64>,
    /// The offset up to which an index covers the file in place; `None` where no index is wanted.
    pub(crate) indexed_end: Option<u64>,
    events: broadcast::Sender<StoreEvent>,
    buffer: Vec<u8>,
}

/// The reason why a line was not applied.
struct ReplayError {
    message: FormatError,
    /// Whether the line's checksum is right, so that no torn write explains the error.
    checksum_matches: bool,
}

/// Opens a store's file and checks its permissions. Also returns whether it could only be opened to read.
pub(crate) fn open_file(storage: &dyn Storage, path: &Path) -> Result<(Arc<dyn StorageFile>, bool), StoreError> {
    let cannot = |error: io::Error| match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::LOOP | rustix::io::Errno::MLINK) => symlink_error(path),
        _ => io_error(path, "open the store", error),
    };
    let mut read_only = false;
    let file = match storage.open(path, OpenMode::Write) {
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            // The file may still be readable. If another check fails, its error says more than this one.
            if let Ok(metadata) = storage.metadata(path) {
                check_file(storage, path, &metadata)?;
            }
            read_only = true;
            storage.open(path, OpenMode::Read)
        }
        other => other,
    }
    .map_err(cannot)?;
    let metadata = file.metadata().map_err(|error| io_error(path, "look at the store", error))?;
    check_file(storage, path, &metadata)?;
    Ok((file, read_only))
}

impl Journal {
    /// Opens the file without reading it.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        path: &Path,
        clock: Arc<StoreClock>,
        events: broadcast::Sender<StoreEvent>,
    ) -> Result<Self, StoreError> {
        let (file, read_only) = open_file(&*storage, path)?;
        Ok(Self {
            storage,
            path: path.to_owned(),
            clock,
            file,
            table: Table::default(),
            position: Position::default(),
            broken: None,
            refused_locally: HashMap::new(),
            directory_synced: false,
            read_only,
            uncertain_end: None,
            indexed_end: None,
            events,
            buffer: Vec::new(),
        })
    }

    /// Makes a journal from a table that a repair has built, so that it can be rewritten. The table contains all
    /// transactions up to `number`.
    pub(crate) fn from_table(
        storage: Arc<dyn Storage>,
        path: &Path,
        clock: Arc<StoreClock>,
        table: Table,
        number: u64,
    ) -> Result<Self, StoreError> {
        let journal = Self::open(storage, path, clock, broadcast::channel(1).0)?;
        Ok(Self { table, position: Position { number, ..Position::default() }, ..journal })
    }

    /// Reads the whole file, line by line.
    pub(crate) fn read_whole(mut self) -> Result<Self, StoreError> {
        self.refresh()?;
        Ok(self)
    }

    /// Reads the whole file, as much of it as possible from its index.
    pub(crate) fn read_indexed(mut self) -> Result<Self, StoreError> {
        self.indexed_end = Some(0);
        self.load_index();
        self.read_whole()
    }

    /// Loads the index, if there is one that fits the file. Reading then continues where the index ends.
    fn load_index(&mut self) {
        if self.indexed_end.is_none() {
            return;
        }
        self.indexed_end = Some(0);
        let threads = parallel_replay::thread_count();
        if let Some(Loaded { table, position }) = index::load(&*self.storage, &self.path, &*self.file, threads) {
            let RecordedTime { at, boot, uptime } = &position.recorded;
            self.clock.record(*at, boot, *uptime);
            (self.table, self.indexed_end, self.position) = (table, Some(position.end), position);
        }
    }

    /// Whether everything that any process has written is applied. Costs one system call.
    pub(crate) fn is_current(&self) -> Result<bool, StoreError> {
        Ok(self.backlog()? == Some(0))
    }

    /// Returns how many bytes were written and are not applied. `None` if another file has replaced this one. Costs one
    /// system call.
    pub(crate) fn backlog(&self) -> Result<Option<u64>, StoreError> {
        let metadata = self.file.metadata().map_err(|error| io_error(&self.path, "look at the store", error))?;
        match &self.broken {
            // A damaged file is refused until another file replaces it: a repaired one, or a back-up.
            Some(broken) if metadata.links != 0 => Err(broken.clone()),
            Some(_) => Ok(None),
            None => Ok((metadata.links != 0).then(|| metadata.size.abs_diff(self.position.end))),
        }
    }

    /// Applies the whole lines at the beginning of `bytes`, which continue the file from `position.end`. Returns the
    /// length of those lines. `is_foreign` says that another process wrote them.
    fn apply_lines(&mut self, bytes: &[u8], is_foreign: bool) -> Result<usize, ReplayError> {
        let mut events = AppliedEvents { has_subscribers: self.events.receiver_count() > 0, ..Default::default() };
        let mut done = 0;
        let mut last_time = None;
        let mut result = Ok(());
        while let Some(length) = memchr::memchr(b'\n', &bytes[done..]) {
            let line = &bytes[done..done + length];
            result = self.apply_line(line, &mut events, &mut last_time);
            if result.is_err() {
                break;
            }
            self.position.has_foreign_lines |= is_foreign && !self.position.pending.is_empty();
            done += length + 1;
        }
        self.position.checksums.extend(self.position.end - done as u64, &bytes[..done]);
        if let Some((at, boot, uptime)) = last_time {
            self.clock.record(at, &boot, uptime);
            self.position.recorded.update(at, &boot, uptime);
        }
        self.publish(events);
        result.map(|()| done)
    }

    /// Sends events to the subscribers.
    fn publish(&self, events: AppliedEvents) {
        for event in events.events {
            drop(self.events.send(event));
        }
    }

    fn apply_line<'a>(
        &mut self,
        line: &'a [u8],
        events: &mut AppliedEvents,
        last_time: &mut Option<(u64, Cow<'a, str>, u64)>,
    ) -> Result<(), ReplayError> {
        let (tx, crc) = parse_line(line).map_err(|message| ReplayError { message, checksum_matches: false })?;
        *last_time = Some((tx.at, tx.boot.clone(), tx.uptime));
        self.apply_transaction(tx, crc, line.len() as u64 + 1, events)
            .map_err(|message| ReplayError { message, checksum_matches: true })
    }

    /// Applies the transaction of the next line, which has `length` bytes with its newline, and moves the position.
    fn apply_transaction(
        &mut self,
        tx: Transaction<'_>,
        crc: u32,
        length: u64,
        events: &mut AppliedEvents,
    ) -> Result<(), FormatError> {
        let (number, synced) = (tx.number, tx.synced);
        let mut crc = crc;
        if self.position.lines == 0 {
            let [Op::Header(header)] = tx.ops[..] else {
                return Err("the file does not begin as a journal does".into());
            };
            if header.lines == 0 || number.checked_add(header.lines) != header.through.checked_add(1) {
                return Err("the first line's numbers contradict each other".into());
            }
            self.position.header = header;
        } else if number != self.position.number + 1 {
            let last = self.position.number;
            return Err(format!("transaction {} is missing; {number} follows {last}", last + 1).into());
        } else {
            self.apply_operations(tx, crc, events)?;
        }
        let position = &mut self.position;
        position.end += length;
        position.lines += 1;
        position.number = number;
        if position.lines <= position.header.lines {
            // A snapshot is durable before its file becomes the store.
            (position.synced_number, position.synced_end) = (number, position.end);
            if position.lines == position.header.lines {
                if position.end != position.header.size || number != position.header.through {
                    return Err("the snapshot does not end where the first line says".into());
                }
                crc = position.header.last_crc;
            }
        } else {
            position.pending.push_back((number, position.end));
            self.mark_synced(synced);
        }
        self.position.crc = crc;
        Ok(())
    }

    fn apply_operations(
        &mut self,
        tx: Transaction<'_>,
        crc: u32,
        events: &mut AppliedEvents,
    ) -> Result<(), FormatError> {
        let number = tx.number;
        match self.position.skip_through {
            Some((through, last_crc)) if number <= through => {
                if number == through {
                    // Another checksum means another history, which must not be mixed with this table.
                    self.position.skip_through = (crc != last_crc).then_some((u64::MAX, 0));
                }
                Ok(())
            }
            _ => {
                events.has_changes = false;
                apply(&mut self.table, tx, events)?;
                if events.has_changes {
                    self.position.last_change = number;
                }
                Ok(())
            }
        }
    }

    /// Records that the transactions up to `number` are durable.
    pub(crate) fn mark_synced(&mut self, number: u64) {
        let position = &mut self.position;
        position.synced_number = position.synced_number.max(number.min(position.number));
        let synced = position.synced_number;
        while let Some(&(number, end)) = position.pending.front().filter(|(number, _)| *number <= synced) {
            position.synced_end = end.max(position.synced_end);
            position.synced_number = position.synced_number.max(number);
            position.pending.pop_front();
        }
        position.has_foreign_lines &= !position.pending.is_empty();
    }

    /// Whether a successful sync does not prove that everything is durable. The system reports a failed sync only once,
    /// and it may have reported one to another process before this process opened the file.
    pub(crate) fn is_sync_inconclusive(&self) -> bool {
        self.position.has_foreign_lines && self.uncertain_end.is_none_or(|end| self.position.synced_end < end)
    }

    /// Applies the lines that this process has just written at `from`, except for those that another thread has already
    /// applied.
    pub(crate) fn apply_own(&mut self, bytes: &[u8], from: u64) -> Result<(), StoreError> {
        let done = usize::try_from(self.position.end.saturating_sub(from)).unwrap_or(usize::MAX);
        let Some(rest) = bytes.get(done..) else { return Ok(()) };
        match self.apply_lines(rest, false) {
            Ok(_) => Ok(()),
            Err(replay) => {
                let error = corrupt(&self.path, self.position.lines + 1, &replay.message);
                self.broken = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Switches to a file with which this process has just replaced the journal. It holds exactly the state of the
    /// table. Returns the former file.
    pub(crate) fn switch_to(
        &mut self,
        file: Arc<dyn StorageFile>,
        header: SnapshotHeader,
        checksums: Checksums,
        recorded: RecordedTime,
    ) -> Arc<dyn StorageFile> {
        let former = std::mem::replace(&mut self.file, file);
        (self.directory_synced, self.read_only, self.uncertain_end) = (true, false, Some(0));
        let last_change = self.position.last_change;
        self.position = Position { last_change, checksums, recorded, ..Position::at_snapshot_end(header) };
        self.indexed_end = self.indexed_end.map(|_| 0);
        former
    }

    /// Returns the number and the checksum of the last transaction, which a compaction writes into the first line.
    pub(crate) fn last_transaction(&self) -> (u64, u32) {
        (self.position.number, self.position.crc)
    }
}
