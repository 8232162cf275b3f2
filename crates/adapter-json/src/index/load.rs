//! Reading an index, with all processors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tenure_domain::{ClientInfo, Terms};

use super::directory::{self, Block, Directory, FOOTER, Kind};
use super::{rows, shared};
use crate::intern::{Interner, Keyed};
use crate::journal::{Position, Sums, ahead};
use crate::table::{DeviceRow, Row, SubjectRow, Table};
use crate::vfs::File;

/// A table, and the place in the journal where it is the state.
pub(crate) struct Loaded {
    pub(crate) table: Table,
    pub(crate) at: Position,
}

/// `None` for whatever does not fit, in itself or with the journal.
pub(super) fn load(index: &dyn File, size: u64, journal: &dyn File) -> Option<Loaded> {
    let directory = read_directory(index, size)?;
    if directory.at.end > journal.stat().ok()?.size {
        return None;
    }
    let threads = ahead::threads();
    let checks = Checks::new(journal, &directory.sums);
    let wanted = &directory.blocks;
    let (devices, subjects, clients, terms) = beside(threads, &|| checks.run(), || {
        let devices: Interner<DeviceRow> = values(index, wanted, Kind::Devices, shared::read_devices)?;
        let subjects: Interner<SubjectRow> = values(index, wanted, Kind::Subjects, shared::read_subjects)?;
        let clients: Interner<Arc<ClientInfo>> = values(index, wanted, Kind::Clients, shared::read_clients)?;
        let terms: Interner<Terms> = values(index, wanted, Kind::Terms, shared::read_terms)?;
        Some((devices, subjects, clients, terms))
    })?;
    let pieces = read_rows(index, &directory, &devices, threads)?;
    let table = beside(threads, &|| checks.run(), || Table::from_parts(pieces, devices, subjects, clients, terms));
    checks.run();
    if checks.failed.load(Ordering::Acquire) {
        return None;
    }
    let mut at = directory.at;
    at.sums = Sums::of(directory.sums);
    Some(Loaded { table, at })
}

/// Does one thing while other threads do another.
fn beside<T>(threads: usize, others: &(dyn Fn() + Sync), work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(others);
        }
        work()
    })
}

fn read_directory(index: &dyn File, size: u64) -> Option<Directory> {
    let mut footer = [0; FOOTER as usize];
    let from = size.checked_sub(FOOTER)?;
    let read = index.read_at(&mut footer, from).ok()?;
    let (offset, length, crc) = directory::find(&footer[..read], size)?;
    let mut buffer = Vec::new();
    Directory::read(block_bytes(index, offset, length, crc, &mut buffer)?, offset)
}

/// A block's bytes, if they are what they were.
fn block_bytes<'a>(file: &dyn File, offset: u64, length: u32, crc: u32, buffer: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    buffer.resize(length as usize, 0);
    let whole = file.read_at(buffer, offset).ok()? == buffer.len();
    (whole && crc32c::crc32c(buffer) == crc).then_some(buffer)
}

/// Whether the journal's blocks are those that the index was made from. Any number of threads share the work.
struct Checks<'a> {
    journal: &'a dyn File,
    blocks: Vec<(u64, u32, u32)>,
    next: AtomicUsize,
    failed: AtomicBool,
}

impl<'a> Checks<'a> {
    fn new(journal: &'a dyn File, sums: &[(u32, u32)]) -> Self {
        let mut end = 0;
        let location = |&(length, crc): &(u32, u32)| {
            end += u64::from(length);
            (end - u64::from(length), length, crc)
        };
        Self { journal, blocks: sums.iter().map(location).collect(), next: 0.into(), failed: false.into() }
    }

    fn run(&self) {
        let mut buffer = Vec::new();
        while let Some(&(offset, length, crc)) = self.blocks.get(self.next.fetch_add(1, Ordering::AcqRel)) {
            if block_bytes(self.journal, offset, length, crc, &mut buffer).is_none() {
                self.failed.store(true, Ordering::Release);
                return;
            }
        }
    }
}

fn values<T: Keyed>(
    index: &dyn File,
    blocks: &[Block],
    kind: Kind,
    read: impl Fn(&[u8], u32) -> Option<Vec<shared::Slot<T>>>,
) -> Option<Interner<T>> {
    let mut slots = Vec::new();
    let mut buffer = Vec::new();
    for block in blocks.iter().filter(|block| block.kind == kind) {
        let bytes = block_bytes(index, block.offset, block.length, block.crc, &mut buffer)?;
        slots.extend(read(bytes, block.count)?);
    }
    Some(Interner::from_slots(slots))
}

fn read_rows(
    index: &dyn File,
    directory: &Directory,
    devices: &Interner<DeviceRow>,
    threads: usize,
) -> Option<Vec<Vec<Row>>> {
    let blocks: Vec<&Block> = directory.blocks.iter().filter(|block| block.kind == Kind::Rows).collect();
    let pieces = Mutex::new((0..blocks.len()).map(|_| None).collect::<Vec<_>>());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::AcqRel);
            let Some(block) = blocks.get(at) else { return };
            let bytes = block_bytes(index, block.offset, block.length, block.crc, &mut buffer);
            let rows = bytes.and_then(|bytes| rows::read(bytes, block.count, &directory.counts, devices));
            if let Some(location) = pieces.lock().get_mut(at) {
                *location = rows;
            }
        }
    };
    beside(threads.min(blocks.len()), &work, work);
    pieces.into_inner().into_iter().collect()
}
