//! The seam through which every file operation goes, so that faults can be simulated.

use std::io;
use std::path::Path;
use std::sync::Arc;

mod os;
#[cfg(any(test, feature = "fuzz"))]
#[cfg_attr(not(test), expect(dead_code, reason = "the fuzzers' entry functions need its files only, not its faults"))]
pub(crate) mod sim;

pub(crate) use os::OsFs;

/// What one look at an open file or a path tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) size: u64,
    /// Tells it from all other files at the same time.
    pub(crate) inode: u64,
    /// 0 once the file was replaced or removed.
    pub(crate) links: u64,
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) kind: Kind,
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Other,
}

/// How a file is opened. No symbolic link is ever followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// An existing one, to read.
    Read,
    /// An existing one, to read and write.
    Write,
    /// The same, made (0600) where there is none.
    Create,
}

/// An open file.
pub(crate) trait File: Send + Sync {
    fn stat(&self) -> io::Result<Stat>;
    /// Fills `buffer` from `offset`; less only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at `offset`, all of it or as much as there was room for.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    fn truncate(&self, size: u64) -> io::Result<()>;
    /// Returns once the contents and the size are on the disk.
    fn sync(&self) -> io::Result<()>;
    /// Whether the advisory lock was free and is now held, until unlocked or closed.
    fn try_lock(&self) -> io::Result<bool>;
    fn unlock(&self) -> io::Result<()>;
}

/// Closes a file that another has taken the place of: its room is given back then, which takes a large one some time
/// that nobody has to wait for.
pub(crate) fn let_go(file: Arc<dyn File>) {
    // Where no thread can be had, it is closed here and now.
    let _ = std::thread::Builder::new().name("tenure-closing".to_owned()).spawn(move || drop(file));
}

/// A file system.
pub(crate) trait Vfs: Send + Sync {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;
    /// What `path` itself names, without following a symbolic link.
    fn stat(&self, path: &Path) -> io::Result<Stat>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a directory for the owner alone.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Returns once the directory's entries are on the disk.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// On whose behalf this process works.
    fn user(&self) -> u32;
}
