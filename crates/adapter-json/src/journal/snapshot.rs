//! Snapshots: the table, written to a new file that replaces the journal. This is done to create a store, to compact a
//! journal, and after a failed sync.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use tenure_domain::Timestamp;
use tenure_ports::{Clock as _, StoreError};

use super::Journal;
use super::checksums::Checksums;
use super::position::RecordedTime;
use crate::clock::StoreClock;
use crate::error::io_error;
use crate::format::{LineHeader, LineWriter, SnapshotHeader};
use crate::storage::{
    OpenMode, Storage, StorageFile, close_in_background, parent_directory, sibling_path, write_all_at,
};
use crate::table::Table;

/// The number of devices that are written each time the table is locked.
const DEVICES_PER_LOCK: u32 = 256;
/// The number of bytes that are collected before they are written.
const BUFFER_SIZE: usize = 1 << 20;

/// A writer of a snapshot, which it writes block by block.
struct SnapshotWriter<'a> {
    file: &'a dyn StorageFile,
    offset: u64,
    bytes: Vec<u8>,
    /// The length and the checksum of each block that was written.
    checksums: Vec<(u32, u32)>,
}

impl SnapshotWriter<'_> {
    fn flush(&mut self) -> io::Result<()> {
        write_all_at(self.file, &self.bytes, self.offset)?;
        self.checksums.push(block_checksum(&self.bytes));
        self.offset += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// Returns the length and the CRC-32C of a block.
fn block_checksum(bytes: &[u8]) -> (u32, u32) {
    (u32::try_from(bytes.len()).unwrap_or(u32::MAX), crc32c::crc32c(bytes))
}

/// The time, the boot id and the uptime that all lines of one snapshot record.
#[derive(Clone, Copy)]
struct Stamp<'a> {
    at: Timestamp,
    boot: &'a str,
    uptime: u64,
}

impl<'a> Stamp<'a> {
    fn now(clock: &'a StoreClock) -> Self {
        Self { at: clock.now(), boot: clock.boot_id(), uptime: clock.uptime().get() }
    }

    fn line(self, number: u64) -> LineHeader<'a> {
        let Self { at, boot, uptime } = self;
        LineHeader { number, at, synced: number.saturating_sub(1), boot, uptime }
    }

    fn header(self, header: &SnapshotHeader) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut ops = LineWriter::begin(&mut bytes, self.line((header.through + 1).saturating_sub(header.lines)));
        ops.snapshot_header(header);
        ops.finish();
        bytes
    }
}

/// Opens the file that is to become the store, and empties it. The caller holds the lock.
fn create_empty(storage: &dyn Storage, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
    let file = storage.open(path, OpenMode::Create)?;
    let metadata = file.metadata()?;
    if metadata.links != 1 || metadata.mode & 0o077 != 0 || metadata.owner != storage.user_id() {
        return Err(io::Error::other(format!("{} does not belong to tenure; remove it", path.display())));
    }
    file.truncate(0)?;
    Ok(file)
}

/// The reason why a rewrite failed.
pub(crate) struct RewriteError {
    pub(crate) error: StoreError,
    /// Whether the new file has already replaced the former one. A power loss may then bring the former one back.
    pub(crate) renamed: bool,
}

/// Creates an empty store, durably. The caller holds the lock and knows that the store does not exist.
pub(crate) fn create(storage: &dyn Storage, path: &Path, clock: &StoreClock) -> Result<(), StoreError> {
    let from = sibling_path(path, ".new");
    let make = || {
        let file = create_empty(storage, &from)?;
        let stamp = Stamp::now(clock);
        let mut header = SnapshotHeader { through: 1, lines: 1, ..SnapshotHeader::default() };
        header.size = stamp.header(&header).len() as u64;
        write_all_at(&*file, &stamp.header(&header), 0)?;
        file.sync()?;
        storage.rename(&from, path)?;
        storage.sync_directory(&parent_directory(path))
    };
    make().map_err(|error| io_error(path, "create the store", error))
}

/// Writes the table to a new file and replaces the journal by it, atomically and durably. The caller holds the lock and
/// has caught up, so that only activity changes meanwhile. Reading goes on.
pub(crate) fn rewrite(
    storage: &dyn Storage,
    path: &Path,
    clock: &StoreClock,
    journal: &RwLock<Journal>,
) -> Result<(), RewriteError> {
    let from = sibling_path(path, ".new");
    let doing =
        |renamed| move |error: io::Error| RewriteError { error: io_error(path, "rewrite the store", error), renamed };
    let file = create_empty(storage, &from).map_err(doing(false))?;
    let stamp = Stamp::now(clock);
    let put_in_place = || {
        let written = write_snapshot(&*file, stamp, journal)?;
        file.sync()?;
        storage.rename(&from, path)?;
        Ok(written)
    };
    let (header, checksums) = put_in_place().map_err(|error| {
        // On a full disk, an unfinished file would take the space that the next line of the store needs.
        let _ = file.truncate(0);
        doing(false)(error)
    })?;
    storage.sync_directory(&parent_directory(path)).map_err(doing(true))?;
    let recorded = RecordedTime { at: stamp.at.as_millis(), boot: stamp.boot.to_owned(), uptime: stamp.uptime };
    let former = journal.write().switch_to(file, header, checksums, recorded);
    close_in_background(former);
    Ok(())
}

fn write_snapshot(
    file: &dyn StorageFile,
    stamp: Stamp<'_>,
    journal: &RwLock<Journal>,
) -> io::Result<(SnapshotHeader, Checksums)> {
    let ((through, last_crc), slot_count) = {
        let journal = journal.read();
        (journal.last_transaction(), journal.table.devices.slot_count())
    };
    let mut header = SnapshotHeader { through, last_crc, lines: 1, ..SnapshotHeader::default() };
    for from in (0..slot_count).step_by(DEVICES_PER_LOCK as usize) {
        let table = &journal.read().table;
        let slots = from..slot_count.min(from + DEVICES_PER_LOCK);
        header.lines += slots.filter(|&device| is_kept(table, device, stamp.at)).count() as u64;
    }
    let width = stamp.header(&header).len() as u64;
    let bytes = Vec::with_capacity(BUFFER_SIZE + BUFFER_SIZE / 4);
    let mut writer = SnapshotWriter { file, offset: width, bytes, checksums: vec![(0, 0)] };
    let too_many = || io::Error::other("it has more devices than transactions");
    let mut number = (through + 1).checked_sub(header.lines).ok_or_else(too_many)?;
    for from in (0..slot_count).step_by(DEVICES_PER_LOCK as usize) {
        {
            let table = &journal.read().table;
            for device in
                (from..slot_count.min(from + DEVICES_PER_LOCK)).filter(|&device| is_kept(table, device, stamp.at))
            {
                number += 1;
                let line = LineWriter::begin(&mut writer.bytes, stamp.line(number));
                header.records += write_device_line(table, device, stamp.at, line);
            }
        }
        if writer.bytes.len() >= BUFFER_SIZE {
            writer.flush()?;
        }
    }
    writer.flush()?;
    header.size = writer.offset;
    // The numbers have a fixed width, so the line fits the space that was left for it.
    let first = stamp.header(&header);
    debug_assert_eq!(first.len() as u64, width);
    write_all_at(file, &first, 0)?;
    writer.checksums[0] = block_checksum(&first);
    Ok((header, Checksums::of(writer.checksums)))
}

/// Empties the unfinished file of a rewrite whose process was killed. The caller holds the lock.
pub(crate) fn discard_unfinished(storage: &dyn Storage, path: &Path) {
    let from = sibling_path(path, ".new");
    if storage.metadata(&from).is_ok_and(|metadata| metadata.size > 0)
        && let Err(error) = create_empty(storage, &from)
    {
        tracing::warn!(%error, path = %from.display(), "an unfinished copy of the store could not be emptied");
    }
}

/// Whether a device is part of a snapshot that is made at `now`. The answer is the same at each call, since the number
/// of lines depends on it.
fn is_kept(table: &Table, device: u32, now: Timestamp) -> bool {
    table.devices.get(device).is_some_and(|row| {
        table.devices.use_count(device) > 0 || row.watermark.is_some_and(|watermark| now < watermark.until)
    })
}

/// Writes the line of one device, and returns the number of its records.
fn write_device_line(table: &Table, device: u32, now: Timestamp, mut line: LineWriter<'_>) -> u64 {
    let mut records = 0;
    if let Some(row) = table.devices.get(device) {
        let watermark = row.watermark.filter(|watermark| now < watermark.until);
        line.device(row.name.as_str(), Some(row.revision.get()), watermark.map(Some));
    }
    for (at, row) in table.device_rows(device) {
        // Each row was checked when it was inserted, so none fails here.
        if let Ok(session) = table.session(at) {
            line.record("record", &session, row.expired);
            records += 1;
        }
    }
    line.finish();
    records
}
