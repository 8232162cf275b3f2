//! A new file with what the table holds, put in the journal's place: at the very beginning, and when the journal has
//! grown to more than it says.

use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::RwLock;
use tenure_domain::Timestamp;
use tenure_ports::{Clock as _, StoreError};

use crate::format::{Head, Line, Ops};
use crate::guard::{beside, failed, parent};
use crate::journal::{Journal, Recorded, Sums};
use crate::table::Table;
use crate::time::StoreClock;
use crate::vfs::{Access, File, Vfs, let_go};

/// How many devices are written between two chances for others to use the table.
const DEVICES_AT_ONCE: u32 = 256;
/// How much is gathered before it is written.
const BUFFER: usize = 1 << 20;

/// Writes bytes one after the other.
struct Writer<'a> {
    file: &'a dyn File,
    at: u64,
    bytes: Vec<u8>,
    /// What was written, in blocks.
    sums: Vec<(u32, u32)>,
}

impl Writer<'_> {
    fn flush(&mut self) -> io::Result<()> {
        write_all(self.file, &self.bytes, self.at)?;
        self.sums.push(block(&self.bytes));
        self.at += self.bytes.len() as u64;
        self.bytes.clear();
        Ok(())
    }
}

/// Its length and its CRC-32C.
fn block(bytes: &[u8]) -> (u32, u32) {
    (u32::try_from(bytes.len()).unwrap_or(u32::MAX), crc32c::crc32c(bytes))
}

pub(crate) fn write_all(file: &dyn File, bytes: &[u8], at: u64) -> io::Result<()> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(&bytes[done..], at + done as u64)? {
            0 => return Err(io::ErrorKind::StorageFull.into()),
            n => done += n,
        }
    }
    Ok(())
}

/// What all lines of one snapshot share.
#[derive(Clone, Copy)]
struct Stamp<'a> {
    at: Timestamp,
    boot: &'a str,
    elapsed: u64,
}

impl<'a> Stamp<'a> {
    fn now(clock: &'a StoreClock) -> Self {
        Self { at: clock.now(), boot: clock.boot_id(), elapsed: clock.elapsed().get() }
    }

    fn line(self, number: u64) -> Line<'a> {
        let Self { at, boot, elapsed } = self;
        Line { number, at, synced: number.saturating_sub(1), boot, elapsed }
    }

    fn head(self, head: &Head) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut ops = Ops::begin(&mut bytes, self.line((head.through + 1).saturating_sub(head.lines)));
        ops.head(head.through, head.last, head.size, head.lines, head.records);
        ops.end();
        bytes
    }
}

/// Opens the file that becomes the store, empty. The lock keeps others from it.
fn fresh_file(vfs: &dyn Vfs, path: &Path) -> io::Result<Arc<dyn File>> {
    let file = vfs.open(path, Access::Create)?;
    let stat = file.stat()?;
    if stat.links != 1 || stat.mode & 0o077 != 0 || stat.owner != vfs.user() {
        return Err(io::Error::other(format!("{} is not a file of ours; remove it", path.display())));
    }
    file.truncate(0)?;
    Ok(file)
}

/// Why a file did not become the store.
pub(crate) struct NotReplaced {
    pub(crate) error: StoreError,
    /// It is in place, and a power loss may bring the former one back.
    pub(crate) renamed: bool,
}

/// Makes an empty store. The caller holds the lock and knows that there is none.
pub(crate) fn create(vfs: &dyn Vfs, path: &Path, clock: &StoreClock) -> Result<(), StoreError> {
    let from = beside(path, ".new");
    let make = || {
        let file = fresh_file(vfs, &from)?;
        let stamp = Stamp::now(clock);
        let mut head = Head { through: 1, lines: 1, ..Head::default() };
        head.size = stamp.head(&head).len() as u64;
        write_all(&*file, &stamp.head(&head), 0)?;
        file.sync()?;
        vfs.rename(&from, path)?;
        vfs.sync_dir(&parent(path))
    };
    make().map_err(|error| failed(path, "make the store", &error))
}

/// Writes the state to a new file and puts it in the journal's place. The caller holds the lock and has caught up,
/// so that nothing but activity changes meanwhile; readers are not held up.
pub(crate) fn rewrite(
    vfs: &dyn Vfs,
    path: &Path,
    clock: &StoreClock,
    journal: &RwLock<Journal>,
) -> Result<(), NotReplaced> {
    let from = beside(path, ".new");
    let doing =
        |renamed| move |error: io::Error| NotReplaced { error: failed(path, "write the store anew", &error), renamed };
    let file = fresh_file(vfs, &from).map_err(doing(false))?;
    let stamp = Stamp::now(clock);
    let put_in_place = || {
        let written = write_snapshot(&*file, stamp, journal)?;
        file.sync()?;
        vfs.rename(&from, path)?;
        Ok(written)
    };
    let (head, sums) = put_in_place().map_err(|error| {
        // On a full disk an unfinished copy would take the room that the store's next line needs.
        let _ = file.truncate(0);
        doing(false)(error)
    })?;
    vfs.sync_dir(&parent(path)).map_err(doing(true))?;
    let recorded = Recorded { at: stamp.at.as_millis(), boot: stamp.boot.to_owned(), elapsed: stamp.elapsed };
    let former = journal.write().adopt(file, head, sums, recorded);
    let_go(former);
    Ok(())
}

fn write_snapshot(file: &dyn File, stamp: Stamp<'_>, journal: &RwLock<Journal>) -> io::Result<(Head, Sums)> {
    let ((through, last), bound) = {
        let journal = journal.read();
        (journal.last(), journal.table.devices.bound())
    };
    let mut head = Head { through, last, lines: 1, ..Head::default() };
    for from in (0..bound).step_by(DEVICES_AT_ONCE as usize) {
        let table = &journal.read().table;
        let places = from..bound.min(from + DEVICES_AT_ONCE);
        head.lines += places.filter(|&device| is_kept(table, device, stamp.at)).count() as u64;
    }
    let width = stamp.head(&head).len() as u64;
    let mut writer = Writer { file, at: width, bytes: Vec::with_capacity(BUFFER + BUFFER / 4), sums: vec![(0, 0)] };
    let more = || io::Error::other("it has more devices than transactions");
    let mut number = (through + 1).checked_sub(head.lines).ok_or_else(more)?;
    for from in (0..bound).step_by(DEVICES_AT_ONCE as usize) {
        {
            let table = &journal.read().table;
            for device in (from..bound.min(from + DEVICES_AT_ONCE)).filter(|&device| is_kept(table, device, stamp.at)) {
                number += 1;
                head.records += device_line(table, device, stamp.at, Ops::begin(&mut writer.bytes, stamp.line(number)));
            }
        }
        if writer.bytes.len() >= BUFFER {
            writer.flush()?;
        }
    }
    writer.flush()?;
    head.size = writer.at;
    // The numbers have a fixed width, so that the line fits the room that was left for it.
    let first = stamp.head(&head);
    debug_assert_eq!(first.len() as u64, width);
    write_all(file, &first, 0)?;
    writer.sums[0] = block(&first);
    Ok((head, Sums::of(writer.sums)))
}

/// Frees the room that an unfinished copy takes whose writer was killed. The caller holds the lock.
pub(crate) fn discard_unfinished(vfs: &dyn Vfs, path: &Path) {
    let from = beside(path, ".new");
    if vfs.stat(&from).is_ok_and(|stat| stat.size > 0)
        && let Err(error) = fresh_file(vfs, &from)
    {
        tracing::warn!(%error, path = %from.display(), "an unfinished copy of the store could not be emptied");
    }
}

/// Whether a device has anything left to say. The same at each call for one `now`, which numbers depend on.
fn is_kept(table: &Table, device: u32, now: Timestamp) -> bool {
    table.devices.get(device).is_some_and(|row| {
        table.devices.uses(device) > 0 || row.watermark.is_some_and(|watermark| now < watermark.until)
    })
}

/// Writes one device's line; answers how many records it has.
fn device_line(table: &Table, device: u32, now: Timestamp, mut ops: Ops<'_>) -> u64 {
    let mut records = 0;
    if let Some(row) = table.devices.get(device) {
        let watermark = row.watermark.filter(|watermark| now < watermark.until);
        ops.device(row.name.as_str(), Some(row.revision.get()), watermark.map(Some));
    }
    for (at, row) in table.device_rows(device) {
        // Every row was checked when it came in.
        if let Ok(session) = table.session(at) {
            ops.record("record", &session, row.expired);
            records += 1;
        }
    }
    ops.end();
    records
}
