//! The journal as this process has read it: the table, and the place in the file up to which it was applied.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hashbrown::HashMap;
use tenure_domain::{Session, SessionId};
use tenure_ports::{StoreError, StoreEvent};
use tokio::sync::broadcast;

use crate::apply::{News, apply};
use crate::format::{Head, Op, Problem, Tx, parse_line};
use crate::guard::{check_file, corrupt, failed, symlink};
use crate::index::{self, Loaded};
use crate::table::Table;
use crate::time::StoreClock;
use crate::vfs::{Access, File, Vfs};

pub(crate) mod ahead;
mod follow;
mod sums;
mod torn;

pub(crate) use sums::Sums;
pub(crate) use torn::{Tail, is_torn};

/// Where the reading has got to.
#[derive(Clone, Default)]
pub(crate) struct Position {
    /// The end of the last line that was applied.
    pub(crate) end: u64,
    /// That line's transaction, and its checksum.
    pub(crate) number: u64,
    pub(crate) crc: u32,
    pub(crate) lines: u64,
    /// The last transaction known to be on the disk.
    pub(crate) synced: u64,
    /// Where that one's line ends.
    pub(crate) durable: u64,
    /// The last transaction that did more than to record activity.
    pub(crate) rules: u64,
    /// Lines that are not known to be on the disk.
    pending: VecDeque<(u64, u64)>,
    /// Whether another process wrote any of those.
    pub(crate) foreign: bool,
    pub(crate) head: Head,
    /// Of the file up to `end`, unless the reading began in its middle.
    pub(crate) sums: Sums,
    /// What the last line says of the time.
    pub(crate) recorded: Recorded,
    /// After a jump into a replacement: the transaction up to which all was applied before, and its checksum.
    skip: Option<(u64, u32)>,
}

impl Position {
    /// The end of the snapshot that this first line announces; all of that is on the disk.
    fn behind(head: Head) -> Self {
        Self {
            end: head.size,
            number: head.through,
            crc: head.last,
            lines: head.lines,
            synced: head.through,
            durable: head.size,
            head,
            ..Self::default()
        }
    }
}

/// A time that a line records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) at: u64,
    pub(crate) boot: String,
    pub(crate) elapsed: u64,
}

impl Recorded {
    fn take(&mut self, at: u64, boot: &str, elapsed: u64) {
        (self.at, self.elapsed) = (at, elapsed);
        if self.boot != boot {
            boot.clone_into(&mut self.boot);
        }
    }
}

impl Position {
    /// After a jump to a place: what is not known to be on the disk is one lump, and may be anybody's.
    pub(crate) fn resume(&mut self) {
        self.foreign = self.number > self.synced;
        self.pending = if self.foreign { [(self.number, self.end)].into() } else { VecDeque::new() };
    }
}

pub(crate) struct Journal {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    clock: Arc<StoreClock>,
    pub(crate) file: Arc<dyn File>,
    pub(crate) table: Table,
    pub(crate) at: Position,
    /// What made it of no use.
    broken: Option<StoreError>,
    /// Sessions that this process was told to end and could not: refused here whatever the file says.
    pub(crate) denied: HashMap<SessionId, Session>,
    /// Whether the directory is known to name this file for good.
    pub(crate) named: bool,
    /// It could only be opened to read.
    pub(crate) read_only: bool,
    /// Up to here the file held lines that nobody has said are on the disk when this process opened it. `None` until it
    /// was read for the first time.
    unsure: Option<u64>,
    /// Up to where an index covers the file that is in place; `None` where none is wanted.
    pub(crate) indexed: Option<u64>,
    feed: broadcast::Sender<StoreEvent>,
    buffer: Vec<u8>,
}

/// A line that was not applied.
struct Bad {
    message: Problem,
    /// Its checksum was right, so no torn write explains it.
    sealed: bool,
}

/// Opens the file and checks that it may be used.
pub(crate) fn open_file(vfs: &dyn Vfs, path: &Path) -> Result<(Arc<dyn File>, bool), StoreError> {
    let cannot = |error: &io::Error| match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::LOOP | rustix::io::Errno::MLINK) => symlink(path),
        _ => failed(path, "open the store", error),
    };
    let mut read_only = false;
    let file = match vfs.open(path, Access::Write) {
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) => {
            // It can still be looked at, unless another check tells better why not.
            if let Ok(stat) = vfs.stat(path) {
                check_file(vfs, path, &stat)?;
            }
            read_only = true;
            vfs.open(path, Access::Read)
        }
        other => other,
    }
    .map_err(|error| cannot(&error))?;
    let stat = file.stat().map_err(|error| failed(path, "look at the store", &error))?;
    check_file(vfs, path, &stat)?;
    Ok((file, read_only))
}

impl Journal {
    /// Reads the whole file.
    pub(crate) fn read_whole(mut self) -> Result<Self, StoreError> {
        self.refresh()?;
        Ok(self)
    }

    /// The same, from the index where there is one that fits.
    pub(crate) fn read_indexed(mut self) -> Result<Self, StoreError> {
        self.indexed = Some(0);
        self.take_index();
        self.read_whole()
    }

    /// Opens the file, and reads nothing of it yet.
    pub(crate) fn open(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        clock: Arc<StoreClock>,
        feed: broadcast::Sender<StoreEvent>,
    ) -> Result<Self, StoreError> {
        let (file, read_only) = open_file(&*vfs, path)?;
        Ok(Self {
            vfs,
            path: path.to_owned(),
            clock,
            file,
            table: Table::default(),
            at: Position::default(),
            broken: None,
            denied: HashMap::new(),
            named: false,
            read_only,
            unsure: None,
            indexed: None,
            feed,
            buffer: Vec::new(),
        })
    }

    /// Begins where the index ends, if it fits the file.
    fn take_index(&mut self) {
        if self.indexed.is_none() {
            return;
        }
        self.indexed = Some(0);
        if let Some(Loaded { table, at }) = index::load(&*self.vfs, &self.path, &*self.file) {
            self.clock.record(at.recorded.at, &at.recorded.boot, at.recorded.elapsed);
            (self.table, self.indexed, self.at) = (table, Some(at.end), at);
        }
    }

    /// A journal whose state was put together otherwise, to be written anew: all transactions up to `number` are in it.
    pub(crate) fn rebuilt(
        vfs: Arc<dyn Vfs>,
        path: &Path,
        clock: Arc<StoreClock>,
        table: Table,
        number: u64,
    ) -> Result<Self, StoreError> {
        let (file, read_only) = open_file(&*vfs, path)?;
        Ok(Self {
            vfs,
            path: path.to_owned(),
            clock,
            file,
            table,
            at: Position { number, ..Position::default() },
            broken: None,
            denied: HashMap::new(),
            named: false,
            read_only,
            unsure: None,
            indexed: None,
            feed: broadcast::channel(1).0,
            buffer: Vec::new(),
        })
    }

    /// Whether nothing was written since the last look. One system call.
    pub(crate) fn is_fresh(&self) -> Result<bool, StoreError> {
        let stat = self.file.stat().map_err(|error| failed(&self.path, "look at the store", &error))?;
        match &self.broken {
            // A damaged file stays refused until another takes its place: it was repaired, or a back-up restored.
            Some(broken) if stat.links != 0 => Err(broken.clone()),
            Some(_) => Ok(false),
            None => Ok(stat.size == self.at.end && stat.links != 0),
        }
    }

    /// Applies the whole lines at the beginning of `bytes`, which continue the file from `at.end`; answers how many
    /// bytes that was.
    fn absorb(&mut self, bytes: &[u8], foreign: bool) -> Result<usize, Bad> {
        let mut news = News { wanted: self.feed.receiver_count() > 0, ..News::default() };
        let mut done = 0;
        let mut last = None;
        let mut outcome = Ok(());
        while let Some(length) = memchr::memchr(b'\n', &bytes[done..]) {
            let line = &bytes[done..done + length];
            outcome = self.absorb_line(line, &mut news, &mut last);
            if outcome.is_err() {
                break;
            }
            self.at.foreign |= foreign && !self.at.pending.is_empty();
            done += length + 1;
        }
        self.at.sums.extend(self.at.end - done as u64, &bytes[..done]);
        if let Some((at, boot, elapsed)) = last {
            self.clock.record(at, &boot, elapsed);
            self.at.recorded.take(at, &boot, elapsed);
        }
        for item in news.items {
            drop(self.feed.send(item));
        }
        outcome.map(|()| done)
    }

    fn absorb_line<'a>(
        &mut self,
        line: &'a [u8],
        news: &mut News,
        last: &mut Option<(u64, Cow<'a, str>, u64)>,
    ) -> Result<(), Bad> {
        let (tx, crc) = parse_line(line).map_err(|message| Bad { message, sealed: false })?;
        *last = Some((tx.at, tx.boot.clone(), tx.elapsed));
        self.absorb_tx(tx, crc, line.len() as u64 + 1, news).map_err(|message| Bad { message, sealed: true })
    }

    fn absorb_tx(&mut self, tx: Tx<'_>, crc: u32, length: u64, news: &mut News) -> Result<(), Problem> {
        let (number, synced) = (tx.number, tx.synced);
        let mut crc = crc;
        if self.at.lines == 0 {
            let [Op::Head(head)] = tx.ops[..] else { return Err("the file does not begin as a journal does".into()) };
            if head.lines == 0 || number.checked_add(head.lines) != head.through.checked_add(1) {
                return Err("the first line's numbers contradict each other".into());
            }
            self.at.head = head;
        } else if number != self.at.number + 1 {
            return Err(
                format!("transaction {} is missing; {number} follows {}", self.at.number + 1, self.at.number).into()
            );
        } else {
            self.take(tx, crc, news)?;
        }
        let at = &mut self.at;
        at.end += length;
        at.lines += 1;
        at.number = number;
        if at.lines <= at.head.lines {
            // A snapshot was synced before it became the store.
            (at.synced, at.durable) = (number, at.end);
            if at.lines == at.head.lines {
                if at.end != at.head.size || number != at.head.through {
                    return Err("the snapshot does not end where the first line says".into());
                }
                crc = at.head.last;
            }
        } else {
            at.pending.push_back((number, at.end));
            self.synced_through(synced);
        }
        self.at.crc = crc;
        Ok(())
    }

    fn take(&mut self, tx: Tx<'_>, crc: u32, news: &mut News) -> Result<(), Problem> {
        let number = tx.number;
        match self.at.skip {
            Some((through, last)) if number <= through => {
                if number == through {
                    // Another history: nothing of it may be mixed with what is at hand.
                    self.at.skip = (crc != last).then_some((u64::MAX, 0));
                }
                Ok(())
            }
            _ => {
                news.rules = false;
                apply(&mut self.table, tx, news)?;
                if news.rules {
                    self.at.rules = number;
                }
                Ok(())
            }
        }
    }

    /// Takes note that the transactions up to this one are on the disk.
    pub(crate) fn synced_through(&mut self, number: u64) {
        let at = &mut self.at;
        at.synced = at.synced.max(number.min(at.number));
        while let Some(&(number, end)) = at.pending.front().filter(|(number, _)| *number <= at.synced) {
            at.durable = end.max(at.durable);
            at.synced = at.synced.max(number);
            at.pending.pop_front();
        }
        at.foreign &= !at.pending.is_empty();
    }

    /// Whether a sync may be no proof that all is on the disk: another process may have been told of a failure, before
    /// this one opened the file, and nobody is told twice.
    pub(crate) fn is_unsure(&self) -> bool {
        self.at.foreign && self.unsure.is_none_or(|unsure| self.at.durable < unsure)
    }

    /// Applies what this process itself has just written at `from`, as far as no other thread did so already.
    pub(crate) fn wrote(&mut self, bytes: &[u8], from: u64) -> Result<(), StoreError> {
        let done = usize::try_from(self.at.end.saturating_sub(from)).unwrap_or(usize::MAX);
        let Some(rest) = bytes.get(done..) else { return Ok(()) };
        match self.absorb(rest, false) {
            Ok(_) => Ok(()),
            Err(bad) => {
                let error = corrupt(&self.path, self.at.lines + 1, &bad.message);
                self.broken = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Goes on in a file that this process itself has just put in place of this one, with the very state at hand.
    /// Answers the former one.
    pub(crate) fn adopt(&mut self, file: Arc<dyn File>, head: Head, sums: Sums, recorded: Recorded) -> Arc<dyn File> {
        let former = std::mem::replace(&mut self.file, file);
        (self.named, self.read_only, self.unsure) = (true, false, Some(0));
        self.at = Position { rules: self.at.rules, sums, recorded, ..Position::behind(head) };
        self.indexed = self.indexed.map(|_| 0);
        former
    }

    /// What a compaction writes into the first line.
    pub(crate) fn last(&self) -> (u64, u32) {
        (self.at.number, self.at.crc)
    }
}
