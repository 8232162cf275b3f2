//! The storage beneath a store. Every file operation of a store goes through [`Storage`] and [`StorageFile`].
//!
//! [`OsStorage`] is the operating system's file system. Another implementation can simulate faults, or keep the files
//! elsewhere. Pass it to a store in [`crate::Options::storage`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) mod lock;
mod os;
pub(crate) mod permissions;

pub use os::OsStorage;

/// The metadata of a file, a directory or a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// The size in bytes. It has no meaning except for a regular file.
    pub size: u64,
    /// The number that identifies the file. No other file of the storage has it at the same time.
    pub inode: u64,
    /// The number of names of the file. 0 once it was replaced or removed.
    pub links: u64,
    /// The permission bits, as in `chmod`.
    pub mode: u32,
    /// The owner's user id.
    pub owner: u32,
    /// The kind of the file.
    pub kind: FileKind,
}

/// The kind of what a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Something else, such as a pipe or a device.
    Other,
}

/// The mode in which [`Storage::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Open an existing file for reading.
    Read,
    /// Open an existing file for reading and writing.
    Write,
    /// Open a file for reading and writing. Create it if it does not exist.
    Create,
}

/// An open file.
///
/// It stays the same file when another file replaces it at its path. Any number of threads may use it concurrently. It
/// is closed when it is dropped, which also releases its lock.
///
/// Every method may fail with any [`io::Error`]. The store distinguishes these kinds: `StorageFull`, `QuotaExceeded`
/// and `FileTooLarge` (no space), `ReadOnlyFilesystem`, and `PermissionDenied`.
pub trait StorageFile: Send + Sync {
    /// Returns the current metadata of the file.
    ///
    /// A store calls this for every look-up, so it should cost no more than one system call. The size includes every
    /// write of any process that returned before this call. `links` is 0 if a replacement returned before it.
    ///
    /// # Errors
    /// [`io::Error`] if the metadata cannot be read.
    fn metadata(&self) -> io::Result<Metadata>;

    /// Fills `buffer` with the bytes from `offset` on, and returns their number. It is less than the length of `buffer`
    /// only at the end of the file.
    ///
    /// The result includes every write of any process that has returned. It may show a part of a concurrent write.
    ///
    /// # Errors
    /// [`io::Error`] if the bytes cannot be read. The contents of `buffer` are then undefined.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes `bytes` at `offset`, and returns how many of them were written: all, or as many as there is space for.
    /// The file grows as needed.
    ///
    /// The write is neither atomic nor durable. A reader may see a part of the bytes. A power loss may keep any of the
    /// 512-byte sectors that were not synced, in any order.
    ///
    /// # Errors
    /// [`io::Error`] if nothing was written. If a part was written, the call succeeds with its length, and the next
    /// call returns the error.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Sets the size of the file in bytes: cuts the rest, or appends zeros. It is durable after the next
    /// [`StorageFile::sync`].
    ///
    /// # Errors
    /// [`io::Error`] if the size cannot be changed. It is then as it was.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Makes the contents and the size of the file durable, including what other handles wrote.
    ///
    /// # Errors
    /// [`io::Error`] if they may not be durable. The error may be reported to one caller only, and a later call on the
    /// same file may succeed without having written anything. So the store replaces the file after an error.
    fn sync(&self) -> io::Result<()>;

    /// Takes the exclusive advisory lock of the file if it is free, and returns whether this handle now holds it. It
    /// never waits. The lock is held until [`StorageFile::unlock`], or until the file is closed, as when the process
    /// dies.
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be locked at all.
    fn try_lock(&self) -> io::Result<bool>;

    /// Releases the lock of the file.
    ///
    /// # Errors
    /// [`io::Error`] if the lock may still be held. It is released when the file is closed.
    fn unlock(&self) -> io::Result<()>;
}

/// A file system. What is *durable* survives a power loss.
pub trait Storage: Send + Sync {
    /// Opens a file, but never through a symbolic link.
    ///
    /// A file that [`OpenMode::Create`] creates is empty. Only its owner can read and write it (mode 0600), whatever
    /// the umask of the process. Its name is durable after [`Storage::sync_directory`].
    ///
    /// # Errors
    /// [`io::Error`]: `NotFound` if the file does not exist and is not to be created; `PermissionDenied` or
    /// `ReadOnlyFilesystem` if it cannot be written; `ELOOP` if it is a symbolic link.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>>;

    /// Returns the metadata of what is at `path`. It does not follow a symbolic link.
    ///
    /// # Errors
    /// [`io::Error`]: `NotFound` if nothing is there.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Renames a file, and replaces the file at `to` if there is one.
    ///
    /// This is atomic: at any moment, and after a power loss, `to` names either the one or the other file. It is
    /// durable after [`Storage::sync_directory`].
    ///
    /// # Errors
    /// [`io::Error`] if the file cannot be renamed. Both names are then as they were.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Creates a directory that only its owner can use (mode 0700).
    ///
    /// # Errors
    /// [`io::Error`]: `AlreadyExists` if there is something at `path`.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// [`io::Error`] if they may not be durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Returns the effective user id of this process, which owns the files that it creates.
    fn user_id(&self) -> u32;
}

/// Writes all of `bytes` at `offset`, or fails.
pub(crate) fn write_all_at(file: &dyn StorageFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(&bytes[written..], offset + written as u64)? {
            0 => return Err(io::ErrorKind::StorageFull.into()),
            n => written += n,
        }
    }
    Ok(())
}

/// Closes a replaced file on a thread of its own. Closing frees its space, which takes a while for a large file, so
/// nobody should wait for it.
pub(crate) fn close_in_background(file: Arc<dyn StorageFile>) {
    // If no thread can be started, the file is closed here.
    let _ = std::thread::Builder::new().name("tenure-closing".to_owned()).spawn(move || drop(file));
}

/// Returns the directory that contains `path`.
pub(crate) fn parent_directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Returns the path in the same directory whose file name is that of `path` with `suffix` appended.
pub(crate) fn sibling_path(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}
