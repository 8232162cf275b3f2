//! The index: the table as a file beside the journal, so that a process need not parse the journal to begin.
//!
//! It is derived and disposable, and the journal stays the truth. An index is used only where each block of the
//! journal that it covers has the checksum that it had when the index was made, so that no byte of the journal goes
//! unchecked: what an index saves is the parsing, not the checking. Lines after the covered part are applied as ever.
//! Whatever is missing, stale, damaged or of another version is as if it were not there: the journal is then parsed
//! whole, and says for itself what is wrong with it.
//!
//! Nothing is synced: after a power loss the checksums tell whether the file is whole. It is written by a process that
//! holds the store's lock (so that nothing but activity changes), under another name, and renamed when it is whole.
//! What it says of activity may be later than the journal does, which only ever moves forward.
//!
//! ```text
//! blocks, one after the other    devices, subjects, clients, terms, rows; each with its own CRC-32C
//! directory                      the place in the journal, the journal's blocks' sums, the blocks of this file
//! footer, 32 bytes               magic and version, the directory's offset, length and CRC-32C
//! ```
//! All numbers are little-endian; it is for the machine that wrote it, and no exchange format.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::guard::{beside, check_file};
use crate::journal::{Journal, Position};
use crate::snapshot::write_all;
use crate::table::{PIECE, Table};
use crate::vfs::{Access, File, Vfs, let_go};

mod bytes;
mod directory;
mod load;
mod rows;
mod shared;

use bytes::Out;
use directory::{Block, Counts, Directory, FOOTER, Kind};

pub(crate) use load::Loaded;

/// How many shared values a block has.
const VALUES_A_BLOCK: u32 = 4096;

fn name(store: &Path) -> std::path::PathBuf {
    beside(store, ".index")
}

/// What the index beside `store` knows of the journal in `file`, if it can be believed.
pub(crate) fn load(vfs: &dyn Vfs, store: &Path, file: &dyn File) -> Option<Loaded> {
    let path = name(store);
    let index = match vfs.open(&path, Access::Read) {
        Ok(index) => index,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::debug!(%error, path = %path.display(), "the index cannot be opened");
            }
            return None;
        }
    };
    let stat = index.stat().ok()?;
    if let Err(error) = check_file(vfs, &path, &stat) {
        tracing::debug!(%error, "the index is not used");
        return None;
    }
    let loaded = load::load(&*index, stat.size, file);
    if loaded.is_none() {
        tracing::debug!(path = %path.display(), "the index does not fit the store, which is read whole");
    }
    loaded
}

/// Blocks of the index, written one after the other.
struct Writer<'a> {
    file: &'a dyn File,
    at: u64,
    blocks: Vec<Block>,
}

impl Writer<'_> {
    fn block(&mut self, kind: Kind, count: u32, out: &Out) -> io::Result<()> {
        let bytes = out.bytes();
        write_all(self.file, bytes, self.at)?;
        let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a block is too large"))?;
        self.blocks.push(Block { kind, offset: self.at, length, crc: crc32c::crc32c(bytes), count });
        self.at += u64::from(length);
        Ok(())
    }
}

/// The file into which the index is written, locked, so that no two processes write it at once.
struct Draft<'a> {
    vfs: &'a dyn Vfs,
    file: Arc<dyn File>,
}

impl<'a> Draft<'a> {
    /// `None` where another process is at it.
    fn open(vfs: &'a dyn Vfs, path: &Path) -> io::Result<Option<Self>> {
        let file = vfs.open(path, Access::Create)?;
        if !file.try_lock()? {
            return Ok(None);
        }
        let draft = Self { vfs, file };
        let stat = draft.file.stat()?;
        check_file(vfs, path, &stat).map_err(|error| io::Error::other(error.to_string()))?;
        // Between the opening and the lock another process may have put this very file in the index's place.
        if vfs.stat(path)?.inode != stat.inode {
            return Ok(None);
        }
        draft.file.truncate(0)?;
        Ok(Some(draft))
    }
}

impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the index's lock is released when this process ends");
        }
    }
}

/// Writes the index of what `journal` holds. The caller holds the store's lock, has caught up, and takes an error for
/// no more than a slower start. Answers up to where it covers the journal; `None` where there is nothing to do.
pub(crate) fn write(vfs: &dyn Vfs, store: &Path, journal: &parking_lot::RwLock<Journal>) -> io::Result<Option<u64>> {
    let path = name(store);
    let at = journal.read().at.clone();
    let Some(sums) = at.sums.through(at.end) else { return Ok(None) };
    let from = beside(&path, ".new");
    let Some(draft) = Draft::open(vfs, &from)? else { return Ok(None) };
    let put_in_place = || {
        write_blocks(&*draft.file, journal, &at, sums)?;
        let former = vfs.open(&path, Access::Read);
        draft.vfs.rename(&from, &path)?;
        former.into_iter().for_each(let_go);
        io::Result::Ok(())
    };
    put_in_place().inspect_err(|_| {
        // On a full disk an unfinished one would take the room that the store's next line needs.
        let _ = draft.file.truncate(0);
    })?;
    Ok(Some(at.end))
}

fn write_blocks(
    file: &dyn File,
    journal: &parking_lot::RwLock<Journal>,
    at: &Position,
    sums: &[(u32, u32)],
) -> io::Result<()> {
    let mut writer = Writer { file, at: 0, blocks: Vec::new() };
    let mut out = Out::default();
    let counts = Counts::of(&journal.read().table);
    // Readers, and activity, get their turn between any two blocks.
    let mut each = |kind, total: u32, step: u32, put: &dyn Fn(&Table, u32, u32, &mut Out)| {
        let mut from = 0;
        while from < total {
            let to = total.min(from.saturating_add(step));
            out.clear();
            put(&journal.read().table, from, to, &mut out);
            writer.block(kind, to - from, &out)?;
            from = to;
        }
        Ok::<_, io::Error>(())
    };
    each(Kind::Devices, counts.devices, VALUES_A_BLOCK, &shared::put_devices)?;
    each(Kind::Subjects, counts.subjects, VALUES_A_BLOCK, &shared::put_subjects)?;
    each(Kind::Clients, counts.clients, VALUES_A_BLOCK, &shared::put_clients)?;
    each(Kind::Terms, counts.terms, VALUES_A_BLOCK, &shared::put_terms)?;
    each(Kind::Rows, counts.rows, PIECE as u32, &rows::put)?;
    let Writer { at: end, blocks, .. } = writer;
    let directory = Directory { at: at.clone(), sums: sums.to_vec(), counts, blocks };
    out.clear();
    directory.put(&mut out);
    let footer = directory::footer(end, out.bytes());
    debug_assert_eq!(footer.len() as u64, FOOTER);
    write_all(file, out.bytes(), end)?;
    write_all(file, &footer, end + out.bytes().len() as u64)
}
