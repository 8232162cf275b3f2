//! The index: a file beside the journal that contains the table, so that a process need not parse the whole journal
//! when it opens the store.
//!
//! The journal stays the source of truth, and an index can be deleted at any time. It is used only if each block of the
//! journal that it covers has the same checksum as when the index was made. So every byte of the journal is checked: an
//! index saves the parsing, not the checking. Lines after the covered part are applied as usual. An index that is
//! missing, stale, damaged or of another version is ignored. The whole journal is then parsed, which also finds out
//! what is wrong with it.
//!
//! An index is never synced: after a power loss, its checksums show whether it is whole. A process that holds the
//! store's lock writes it under another name, so that only activity changes meanwhile, and renames it when it is whole.
//! Activity in an index may be later than in the journal, which does no harm, because activity only moves forward.
//!
//! ```text
//! blocks, one after the other    devices, subjects, clients, terms, rows; each with its own CRC-32C
//! directory                      the position in the journal, its blocks' checksums, the blocks of this file
//! footer, 32 bytes               magic and version, the directory's offset, length and CRC-32C
//! ```
//! All numbers are little-endian. The file is only for the machine that wrote it.

use std::io;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::journal::position::Position;
use crate::storage::permissions::check_file;
use crate::storage::{OpenMode, Storage, StorageFile, close_in_background, sibling_path, write_all_at};
use crate::table::{ROWS_PER_CHUNK, Table};

mod bytes;
mod directory;
mod load;
mod rows;
mod shared;

use bytes::ByteWriter;
use directory::{Block, BlockKind, Counts, Directory, FOOTER_SIZE};

pub(crate) use load::Loaded;

/// The largest number of shared values in a block.
const VALUES_PER_BLOCK: u32 = 4096;

fn index_path(store: &Path) -> PathBuf {
    sibling_path(store, ".index")
}

/// Loads the index of `store`, with up to `threads` threads. `None` if there is no index that fits the journal in
/// `file`.
pub(crate) fn load(storage: &dyn Storage, store: &Path, file: &dyn StorageFile, threads: usize) -> Option<Loaded> {
    let path = index_path(store);
    let index = match storage.open(&path, OpenMode::Read) {
        Ok(index) => index,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::debug!(%error, path = %path.display(), "the index cannot be opened");
            }
            return None;
        }
    };
    let metadata = index.metadata().ok()?;
    if let Err(error) = check_file(storage, &path, &metadata) {
        tracing::debug!(%error, "the index is not used");
        return None;
    }
    let loaded = load::load(&*index, metadata.size, file, threads);
    if loaded.is_none() {
        tracing::debug!(path = %path.display(), "the index does not fit the store, which is read whole");
    }
    loaded
}

/// A writer of the blocks of an index.
struct BlockWriter<'a> {
    file: &'a dyn StorageFile,
    offset: u64,
    blocks: Vec<Block>,
}

impl BlockWriter<'_> {
    fn write(&mut self, kind: BlockKind, count: u32, out: &ByteWriter) -> io::Result<()> {
        let bytes = out.bytes();
        write_all_at(self.file, bytes, self.offset)?;
        let length = u32::try_from(bytes.len()).map_err(|_| io::Error::other("a block is too large"))?;
        self.blocks.push(Block { kind, offset: self.offset, length, crc: crc32c::crc32c(bytes), count });
        self.offset += u64::from(length);
        Ok(())
    }
}

/// The file in which an index is prepared. It is locked, so that only one process at a time writes it.
struct IndexDraft<'a> {
    storage: &'a dyn Storage,
    file: Arc<dyn StorageFile>,
}

impl<'a> IndexDraft<'a> {
    /// Opens, locks and empties the file. `None` if another process is writing it.
    fn open(storage: &'a dyn Storage, path: &Path) -> io::Result<Option<Self>> {
        let file = storage.open(path, OpenMode::Create)?;
        if !file.try_lock()? {
            return Ok(None);
        }
        let draft = Self { storage, file };
        let metadata = draft.file.metadata()?;
        check_file(storage, path, &metadata).map_err(io::Error::other)?;
        // Before this process locked the file, another process may have made it the index.
        if storage.metadata(path)?.inode != metadata.inode {
            return Ok(None);
        }
        draft.file.truncate(0)?;
        Ok(Some(draft))
    }
}

impl Drop for IndexDraft<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::debug!(%error, "the index's lock is released when this process ends");
        }
    }
}

/// Writes the index of a journal that was read up to `position`. `table` locks the table. It is called once for each
/// block, so that readers and activity are not delayed.
///
/// The caller holds the store's lock and has caught up. Returns the offset up to which the index covers the journal.
/// `None` if no index can be written now. After an error, the next process only opens more slowly.
pub(crate) fn write<T: Deref<Target = Table>>(
    storage: &dyn Storage,
    store: &Path,
    position: &Position,
    table: impl Fn() -> T,
) -> io::Result<Option<u64>> {
    let path = index_path(store);
    let Some(checksums) = position.checksums.through(position.end) else { return Ok(None) };
    let from = sibling_path(&path, ".new");
    let Some(draft) = IndexDraft::open(storage, &from)? else { return Ok(None) };
    let put_in_place = || {
        write_blocks(&*draft.file, &table, position, checksums)?;
        let former = storage.open(&path, OpenMode::Read);
        draft.storage.rename(&from, &path)?;
        former.into_iter().for_each(close_in_background);
        io::Result::Ok(())
    };
    put_in_place().inspect_err(|_| {
        // On a full disk, an unfinished index would take the space that the next line of the store needs.
        let _ = draft.file.truncate(0);
    })?;
    Ok(Some(position.end))
}

fn write_blocks<T: Deref<Target = Table>>(
    file: &dyn StorageFile,
    table: &impl Fn() -> T,
    position: &Position,
    checksums: &[(u32, u32)],
) -> io::Result<()> {
    let mut writer = BlockWriter { file, offset: 0, blocks: Vec::new() };
    let mut out = ByteWriter::default();
    let counts = Counts::of(&table());
    let mut write_all = |kind, total: u32, step: u32, encode: &dyn Fn(&Table, u32, u32, &mut ByteWriter)| {
        let mut from = 0;
        while from < total {
            let to = total.min(from.saturating_add(step));
            out.clear();
            encode(&table(), from, to, &mut out);
            writer.write(kind, to - from, &out)?;
            from = to;
        }
        Ok::<_, io::Error>(())
    };
    write_all(BlockKind::Devices, counts.devices, VALUES_PER_BLOCK, &shared::encode_devices)?;
    write_all(BlockKind::Subjects, counts.subjects, VALUES_PER_BLOCK, &shared::encode_subjects)?;
    write_all(BlockKind::Clients, counts.clients, VALUES_PER_BLOCK, &shared::encode_clients)?;
    write_all(BlockKind::Terms, counts.terms, VALUES_PER_BLOCK, &shared::encode_terms)?;
    write_all(BlockKind::Rows, counts.rows, ROWS_PER_CHUNK as u32, &rows::encode)?;
    let BlockWriter { offset: end, blocks, .. } = writer;
    let directory = Directory { position: position.clone(), checksums: checksums.to_vec(), counts, blocks };
    out.clear();
    directory.encode(&mut out);
    let footer = directory::footer(end, out.bytes());
    debug_assert_eq!(footer.len() as u64, FOOTER_SIZE);
    write_all_at(file, out.bytes(), end)?;
    write_all_at(file, &footer, end + out.bytes().len() as u64)
}
