//! A simulated storage in memory. It counts operations, and fails or loses power at any of them. A power loss loses any
//! 512-byte sectors that were not synced.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::Errno;
use tenure_adapter_json::storage::{FileKind, Metadata, OpenMode, Storage, StorageFile};

const SECTOR: usize = 512;
const USER: u32 = 1000;

/// The fault at an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power fails before the operation. Every operation fails from then on.
    PowerLoss,
    /// The operation fails with this error, and so do as many operations after it as the number says. A write writes
    /// half of its bytes before it fails.
    Errors(Errno, usize),
}

#[derive(Clone, Default)]
struct Inode {
    /// The contents, as every process sees them.
    live: Vec<u8>,
    /// The contents after each operation since the last sync.
    versions: Vec<Vec<u8>>,
    durable: Vec<u8>,
    /// The sectors that the next sync writes. A failed sync clears the set.
    dirty: BTreeSet<usize>,
    resized: bool,
    links: u64,
    locked: Option<u64>,
}

type Names = BTreeMap<PathBuf, usize>;

#[derive(Default)]
struct Disk {
    inodes: Vec<Inode>,
    names: Names,
    /// The names as they were after each change since the directory was last synced.
    name_versions: Vec<Names>,
    durable_names: Names,
    directories: BTreeSet<PathBuf>,
    changes: usize,
    fault: Option<(usize, Fault)>,
    /// The largest size in bytes of all files together. A write beyond it is cut short.
    space: Option<usize>,
    /// The number of operations so far that change nothing.
    reads: usize,
    /// The operation that changes nothing which fails, how many after it fail too, and with which error.
    read_fault: Option<(usize, usize, Errno)>,
    is_off: bool,
    handles: u64,
    /// How often each kind of operation was called.
    counts: HashMap<&'static str, usize>,
}

/// A simulated storage in memory. Clones share the same files.
#[derive(Clone, Default)]
pub struct SimulatedStorage(Arc<Mutex<Disk>>);

struct Handle {
    fs: SimulatedStorage,
    inode: usize,
    id: u64,
}

fn sectors(from: usize, to: usize) -> std::ops::Range<usize> {
    from / SECTOR..to.div_ceil(SECTOR)
}

fn sector(bytes: &[u8], at: usize) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    let from = (at * SECTOR).min(bytes.len());
    let part = &bytes[from..bytes.len().min(from + SECTOR)];
    sector[..part.len()].copy_from_slice(part);
    sector
}

impl Disk {
    /// Counts an operation that changes something. Returns the error with which the operation has to fail, if any.
    fn count_change(&mut self, what: &'static str) -> io::Result<Option<Errno>> {
        *self.counts.entry(what).or_default() += 1;
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        self.changes += 1;
        match self.fault {
            Some((at, Fault::PowerLoss)) if at == self.changes => {
                self.is_off = true;
                Err(io::Error::other("the power went off"))
            }
            Some((at, Fault::Errors(error, more))) if (at..=at + more).contains(&self.changes) => Ok(Some(error)),
            _ => Ok(None),
        }
    }

    /// Counts an operation that changes nothing.
    fn count_read(&mut self) -> io::Result<()> {
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        self.reads += 1;
        match self.read_fault {
            Some((at, more, error)) if (at..=at + more).contains(&self.reads) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Returns how many bytes of a write from `from` to `to` there is space for.
    fn fits(&self, inode: usize, from: usize, to: usize) -> usize {
        let Some(space) = self.space else { return to - from };
        let used = |(at, other): (usize, &Inode)| if at != inode && other.links > 0 { other.live.len() } else { 0 };
        let others: usize = self.inodes.iter().enumerate().map(used).sum();
        let most = space.saturating_sub(others).max(self.inodes[inode].live.len());
        to.min(most).saturating_sub(from)
    }

    fn record_names(&mut self) {
        self.name_versions.push(self.names.clone());
    }
}

impl Inode {
    fn record_change(&mut self, from: usize, to: usize) {
        self.dirty.extend(sectors(from, to));
        self.versions.push(self.live.clone());
    }
}

impl StorageFile for Handle {
    fn metadata(&self) -> io::Result<Metadata> {
        let mut disk = self.fs.0.lock();
        disk.count_read()?;
        let inode = &disk.inodes[self.inode];
        Ok(Metadata {
            size: inode.live.len() as u64,
            inode: self.inode as u64,
            links: inode.links,
            mode: 0o600,
            owner: USER,
            kind: FileKind::File,
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.fs.0.lock();
        disk.count_read()?;
        let live = &disk.inodes[self.inode].live;
        let from = (offset as usize).min(live.len());
        let read = buffer.len().min(live.len() - from);
        buffer[..read].copy_from_slice(&live[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.fs.0.lock();
        let fault = disk.count_change("write")?;
        let from = offset as usize;
        let space = disk.fits(self.inode, from, from + bytes.len());
        let (count, fault) = match fault {
            Some(error) => (bytes.len() / 2, Some(error)),
            None if space < bytes.len() => (space, Some(Errno::NOSPC)),
            None => (bytes.len(), None),
        };
        let to = from + count;
        let inode = &mut disk.inodes[self.inode];
        if to > inode.live.len() {
            inode.live.resize(to, 0);
        }
        // Also where a sync failed that should have made the size durable: writing there again lets the next sync do
        // it.
        inode.resized |= to > inode.durable.len();
        inode.live[from..to].copy_from_slice(&bytes[..count]);
        inode.record_change(from, to);
        match fault {
            Some(error) if count == 0 => Err(error.into()),
            _ => Ok(count),
        }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut disk = self.fs.0.lock();
        if let Some(error) = disk.count_change("truncate")? {
            return Err(error.into());
        }
        let inode = &mut disk.inodes[self.inode];
        let (from, to) = (size as usize, inode.live.len());
        inode.live.resize(from, 0);
        inode.resized = true;
        inode.record_change(from.min(to), to.max(from));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.fs.0.lock();
        let fault = disk.count_change("sync")?;
        let inode = &mut disk.inodes[self.inode];
        let dirty = std::mem::take(&mut inode.dirty);
        let resized = std::mem::take(&mut inode.resized);
        if let Some(error) = fault {
            // Like a kernel: the pages count as clean from now on, and the error is reported once.
            inode.versions.clear();
            return Err(error.into());
        }
        if resized {
            inode.durable.resize(inode.live.len(), 0);
        }
        for at in dirty {
            let new = sector(&inode.live, at);
            let from = (at * SECTOR).min(inode.durable.len());
            let to = inode.durable.len().min(from + SECTOR);
            inode.durable[from..to].copy_from_slice(&new[..to - from]);
        }
        inode.versions.clear();
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut disk = self.fs.0.lock();
        if disk.is_off {
            return Err(io::Error::other("the power is off"));
        }
        let id = self.id;
        let locked = &mut disk.inodes[self.inode].locked;
        if locked.is_some_and(|holder| holder != id) {
            return Ok(false);
        }
        *locked = Some(id);
        Ok(true)
    }

    fn unlock(&self) -> io::Result<()> {
        self.fs.0.lock().inodes[self.inode].locked = None;
        Ok(())
    }
}

impl Storage for SimulatedStorage {
    fn open(&self, path: &Path, access: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        let mut disk = self.0.lock();
        disk.count_read()?;
        let inode = match disk.names.get(path) {
            Some(inode) => *inode,
            None if access == OpenMode::Create => {
                if let Some(error) = disk.count_change("create")? {
                    return Err(error.into());
                }
                let at = disk.inodes.len();
                disk.inodes.push(Inode { links: 1, ..Inode::default() });
                disk.names.insert(path.to_owned(), at);
                disk.record_names();
                at
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        disk.handles += 1;
        Ok(Arc::new(Handle { fs: self.clone(), inode, id: disk.handles }))
    }

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let mut disk = self.0.lock();
        disk.count_read()?;
        let metadata =
            Metadata { size: 0, inode: u64::MAX, links: 1, mode: 0o700, owner: USER, kind: FileKind::Directory };
        match disk.names.get(path) {
            Some(inode) => {
                let size = disk.inodes[*inode].live.len() as u64;
                Ok(Metadata { size, inode: *inode as u64, mode: 0o600, kind: FileKind::File, ..metadata })
            }
            None if disk.directories.contains(path) => Ok(metadata),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        if let Some(error) = disk.count_change("rename")? {
            return Err(error.into());
        }
        let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        if let Some(old) = disk.names.insert(to.to_owned(), inode) {
            disk.inodes[old].links = 0;
        }
        disk.record_names();
        Ok(())
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        if let Some(error) = disk.count_change("create_directory")? {
            return Err(error.into());
        }
        disk.directories.insert(path.to_owned());
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        if let Some(error) = disk.count_change("sync_directory")? {
            return Err(error.into());
        }
        disk.durable_names = disk.names.clone();
        disk.name_versions.clear();
        Ok(())
    }

    fn user_id(&self) -> u32 {
        USER
    }
}

impl SimulatedStorage {
    /// Makes an empty storage with this directory.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        let fs = Self::default();
        fs.0.lock().directories.insert(directory.to_owned());
        fs
    }

    /// Sets the fault at the change with this number, counted from 1.
    pub fn set_fault(&self, at: usize, fault: Fault) {
        self.0.lock().fault = Some((at, fault));
    }

    /// Makes the read with this number, counted from 1, and `more` reads after it fail with this error.
    pub fn set_read_fault(&self, at: usize, more: usize, error: Errno) {
        self.0.lock().read_fault = Some((at, more, error));
    }

    /// Sets the largest size in bytes of all files together. `None` is no limit.
    pub fn set_space(&self, space: Option<usize>) {
        self.0.lock().space = space;
    }

    /// Removes all faults and limits.
    pub fn clear_faults(&self) {
        let mut disk = self.0.lock();
        (disk.fault, disk.read_fault, disk.space) = (None, None, None);
    }

    /// Returns the number of operations so far that change something.
    #[must_use]
    pub fn changes(&self) -> usize {
        self.0.lock().changes
    }

    /// Returns the number of operations so far that change nothing: reading contents or metadata, and opening files.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.0.lock().reads
    }

    /// Returns the contents of a file. `None` if it does not exist.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.0.lock();
        disk.names.get(path).map(|inode| disk.inodes[*inode].live.clone())
    }

    /// Replaces the file at `path` by a new one, durably, as another program would.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut disk = self.0.lock();
        let at = disk.inodes.len();
        let (live, durable) = (bytes.to_vec(), bytes.to_vec());
        disk.inodes.push(Inode { live, durable, links: 1, ..Inode::default() });
        if let Some(old) = disk.names.insert(path.to_owned(), at) {
            disk.inodes[old].links = 0;
        }
        disk.durable_names.insert(path.to_owned(), at);
    }

    /// Returns how often an operation was called: `write`, `truncate`, `sync`, `create`, `rename`, `create_directory`
    /// or `sync_directory`.
    #[must_use]
    pub fn count(&self, what: &'static str) -> usize {
        self.0.lock().counts.get(what).copied().unwrap_or(0)
    }

    /// Returns the storage as a machine finds it after a power loss. `choose` returns a number below its argument. It
    /// picks what survived of everything that was not synced.
    pub fn after_power_loss(&self, mut choose: impl FnMut(usize) -> usize) -> Self {
        let disk = self.0.lock();
        let names = match choose(disk.name_versions.len() + 1) {
            0 => disk.durable_names.clone(),
            n => disk.name_versions[n - 1].clone(),
        };
        let inodes = disk.inodes.iter().map(|inode| survivor(inode, &mut choose)).collect();
        let directories = disk.directories.clone();
        let (name_versions, durable_names) = (Vec::new(), names.clone());
        Self(Arc::new(Mutex::new(Disk { inodes, names, name_versions, durable_names, directories, ..Disk::default() })))
    }
}

/// Returns a file as a power loss leaves it.
fn survivor(inode: &Inode, choose: &mut impl FnMut(usize) -> usize) -> Inode {
    let versions: Vec<&Vec<u8>> = std::iter::once(&inode.durable).chain(&inode.versions).collect();
    let size = if inode.resized { versions[choose(versions.len())].len() } else { inode.durable.len() };
    let mut bytes = vec![0; size];
    // Sometimes all sectors or none survive, which independent choices would hardly ever give.
    let all = choose(4);
    for at in sectors(0, size) {
        let version = match all {
            _ if !inode.dirty.contains(&at) => 0,
            0 => versions.len() - 1,
            1 => 0,
            _ => choose(versions.len()),
        };
        let from = at * SECTOR;
        let to = size.min(from + SECTOR);
        bytes[from..to].copy_from_slice(&sector(versions[version], at)[..to - from]);
    }
    Inode { live: bytes.clone(), durable: bytes, links: 1, ..Inode::default() }
}
