//! The storage below a store: every file operation goes through [`Storage`] and [`StorageFile`].
//!
//! [`OsStorage`] is the real one. Another implementation can simulate faults or put the files elsewhere; it is passed
//! to a store in [`crate::Options::storage`].

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
    /// The size in bytes. Of no meaning for anything but a regular file.
    pub size: u64,
    /// A number that no other file of this storage has at the same time.
    pub inode: u64,
    /// The number of names that lead to the file; 0 once it was replaced or removed.
    pub links: u64,
    /// The permission bits, as in `chmod`.
    pub mode: u32,
    /// The owner's user id.
    pub owner: u32,
    /// What the path or the open file is.
    pub kind: FileKind,
}

/// The kinds of thing that a path can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// Anything else, such as a pipe or a device.
    Other,
}

/// How [`Storage::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file for reading and writing; created where there is none.
    Create,
}

/// An open file.
///
/// It stays the same file when another takes over its path. Any number of threads may use it at once. Closed on drop,
/// which also releases its lock.
///
/// Every method may fail with any [`io::Error`]. The store tells these kinds apart: `StorageFull`, `QuotaExceeded` and
/// `FileTooLarge` (no space), `ReadOnlyFilesystem` and `PermissionDenied`.
pub trait StorageFile: Send + Sync {
    /// Returns the file's metadata as it is now.
    ///
    /// A store calls this for every look-up, so it should cost no more than one system call. A write by any process
    /// that has returned before this call is part of the size, and a replacement that has returned makes `links` 0.
    ///
    /// # Errors
    /// [`io::Error`] where the file cannot be looked at.
    fn metadata(&self) -> io::Result<Metadata>;

    /// Fills `buffer` with the bytes from `offset` on, and returns how many there were: fewer than asked for only at
    /// the end of the file.
    ///
    /// Sees every write that has returned, by any process. Not atomic with concurrent writes.
    ///
    /// # Errors
    /// [`io::Error`]; what `buffer` holds is then undefined.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes `bytes` at `offset`, and returns how many were written: all of them, or as many as there was room for.
    ///
    /// The file grows as needed. Neither atomic nor durable: a power loss may keep any of the 512-byte sectors that were
    /// not synced, in any order, and a reader may see a part of the bytes.
    ///
    /// # Errors
    /// [`io::Error`] where nothing was written. After a part was written the call succeeds with that length, and the
    /// next call tells the error.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Sets the size: cuts the rest, or appends zeros. Not durable until the next [`StorageFile::sync`].
    ///
    /// # Errors
    /// [`io::Error`] where the size is as it was.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// Returns once the contents and the size are durable, those that other handles wrote included.
    ///
    /// # Errors
    /// [`io::Error`] where they may not be durable. A later call on the same file may then succeed without having
    /// written anything, and an error is reported to one caller only: the store replaces the file after an error.
    fn sync(&self) -> io::Result<()>;

    /// Takes the file's exclusive advisory lock if it is free, and returns whether it is now held. Held until
    /// [`StorageFile::unlock`] or until the file is closed, also by the death of the process. Never waits.
    ///
    /// # Errors
    /// [`io::Error`] where the file cannot be locked at all.
    fn try_lock(&self) -> io::Result<bool>;

    /// Releases the lock.
    ///
    /// # Errors
    /// [`io::Error`] where it may still be held; it is released when the file is closed.
    fn unlock(&self) -> io::Result<()>;
}

/// A file system. "Durable" means: there after a power loss.
pub trait Storage: Send + Sync {
    /// Opens a file, never through a symbolic link. A file that [`OpenMode::Create`] creates is empty and readable and writable for its owner alone
    /// (mode 0600), whatever the process' mask; its name is durable after [`Storage::sync_directory`].
    ///
    /// # Errors
    /// [`io::Error`]: `NotFound` where there is none and none is to be created; `PermissionDenied` or
    /// `ReadOnlyFilesystem` where it may not be written to; `ELOOP` for a symbolic link.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>>;

    /// Returns the metadata of what `path` itself names, a symbolic link included.
    ///
    /// # Errors
    /// [`io::Error`]: `NotFound` where there is nothing.
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;

    /// Gives a file another name, in the place of the file that had it. Atomic: at every moment `to` names the one or
    /// the other, also after a power loss. Durable after [`Storage::sync_directory`].
    ///
    /// # Errors
    /// [`io::Error`] where both names are as they were.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Creates a directory for its owner alone (mode 0700).
    ///
    /// # Errors
    /// [`io::Error`]: `AlreadyExists` where there is one.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// Returns once the names in the directory are durable.
    ///
    /// # Errors
    /// [`io::Error`] where they may not be.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Returns the id of the user on whose behalf this process works: the owner of what it creates.
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

/// Closes a replaced file on a thread of its own. Closing it frees its space, which takes a while for a large file, and
/// nobody has to wait for that.
pub(crate) fn close_in_background(file: Arc<dyn StorageFile>) {
    // Without a thread it is closed here and now.
    let _ = std::thread::Builder::new().name("tenure-closing".to_owned()).spawn(move || drop(file));
}

/// The directory that holds `path`.
pub(crate) fn parent_directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// A path beside `path`: its file name with `suffix` appended.
pub(crate) fn sibling_path(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}
