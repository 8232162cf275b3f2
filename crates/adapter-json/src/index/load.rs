//! Loading an index, with several threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tenure_domain::{ClientInfo, Terms};

use super::directory::{self, Block, BlockKind, Directory, FOOTER_SIZE};
use super::{rows, shared};
use crate::journal::checksums::Checksums;
use crate::journal::position::Position;
use crate::storage::StorageFile;
use crate::table::interner::{Interner, Keyed};
use crate::table::{DeviceRow, Row, SubjectRow, Table};

/// The contents of an index: a table, and the position in the journal up to which its lines are applied.
pub(crate) struct Loaded {
    pub(crate) table: Table,
    pub(crate) position: Position,
}

/// Loads an index of `size` bytes. `None` if it is damaged or does not fit the journal.
pub(super) fn load(index: &dyn StorageFile, size: u64, journal: &dyn StorageFile, threads: usize) -> Option<Loaded> {
    let directory = read_directory(index, size)?;
    if directory.position.end > journal.metadata().ok()?.size {
        return None;
    }
    let verifier = JournalVerifier::new(journal, &directory.checksums);
    let blocks = &directory.blocks;
    let (devices, subjects, clients, terms) = run_alongside(threads, &|| verifier.run(), || {
        let devices: Interner<DeviceRow> = read_values(index, blocks, BlockKind::Devices, shared::read_devices)?;
        let subjects: Interner<SubjectRow> = read_values(index, blocks, BlockKind::Subjects, shared::read_subjects)?;
        let clients: Interner<Arc<ClientInfo>> = read_values(index, blocks, BlockKind::Clients, shared::read_clients)?;
        let terms: Interner<Terms> = read_values(index, blocks, BlockKind::Terms, shared::read_terms)?;
        Some((devices, subjects, clients, terms))
    })?;
    let chunks = read_rows(index, &directory, &devices, threads)?;
    let build = || Table::from_parts(chunks, devices, subjects, clients, terms);
    let table = run_alongside(threads, &|| verifier.run(), build);
    verifier.run();
    if verifier.failed.load(Ordering::Acquire) {
        return None;
    }
    let checksums = Checksums::of(directory.checksums);
    let mut position = directory.position;
    position.checksums = checksums;
    Some(Loaded { table, position })
}

/// Runs `work`, while `threads - 1` other threads run `others`.
fn run_alongside<T>(threads: usize, others: &(dyn Fn() + Sync), work: impl FnOnce() -> T) -> T {
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(others);
        }
        work()
    })
}

fn read_directory(index: &dyn StorageFile, size: u64) -> Option<Directory> {
    let mut footer = [0; FOOTER_SIZE as usize];
    let from = size.checked_sub(FOOTER_SIZE)?;
    let read = index.read_at(&mut footer, from).ok()?;
    let (offset, length, crc) = directory::parse_footer(&footer[..read], size)?;
    let mut buffer = Vec::new();
    Directory::read(block_bytes(index, offset, length, crc, &mut buffer)?, offset)
}

/// Reads a block, and checks its checksum. `None` if it differs.
fn block_bytes<'a>(
    file: &dyn StorageFile,
    offset: u64,
    length: u32,
    crc: u32,
    buffer: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    buffer.resize(length as usize, 0);
    let whole = file.read_at(buffer, offset).ok()? == buffer.len();
    (whole && crc32c::crc32c(buffer) == crc).then_some(buffer)
}

/// A check that the blocks of the journal are those from which the index was made. Several threads share the work.
struct JournalVerifier<'a> {
    journal: &'a dyn StorageFile,
    blocks: Vec<(u64, u32, u32)>,
    next: AtomicUsize,
    failed: AtomicBool,
}

impl<'a> JournalVerifier<'a> {
    fn new(journal: &'a dyn StorageFile, checksums: &[(u32, u32)]) -> Self {
        let mut end = 0;
        let with_offset = |&(length, crc): &(u32, u32)| {
            end += u64::from(length);
            (end - u64::from(length), length, crc)
        };
        Self { journal, blocks: checksums.iter().map(with_offset).collect(), next: 0.into(), failed: false.into() }
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

fn read_values<T: Keyed>(
    index: &dyn StorageFile,
    blocks: &[Block],
    kind: BlockKind,
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
    index: &dyn StorageFile,
    directory: &Directory,
    devices: &Interner<DeviceRow>,
    threads: usize,
) -> Option<Vec<Vec<Row>>> {
    let blocks: Vec<&Block> = directory.blocks.iter().filter(|block| block.kind == BlockKind::Rows).collect();
    let chunks = Mutex::new((0..blocks.len()).map(|_| None).collect::<Vec<_>>());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut buffer = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::AcqRel);
            let Some(block) = blocks.get(at) else { return };
            let bytes = block_bytes(index, block.offset, block.length, block.crc, &mut buffer);
            let rows = bytes.and_then(|bytes| rows::read(bytes, block.count, &directory.counts, devices));
            if let Some(chunk) = chunks.lock().get_mut(at) {
                *chunk = rows;
            }
        }
    };
    run_alongside(threads.min(blocks.len()), &work, work);
    chunks.into_inner().into_iter().collect()
}
