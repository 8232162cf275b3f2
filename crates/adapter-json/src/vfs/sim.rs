//! A file system in memory that counts operations, fails or stops at any of them, and forgets on a power loss what
//! was not synced: any of the 512-byte sectors, in any order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Access, File, Kind, Stat, Vfs};

const SECTOR: usize = 512;
const USER: u32 = 1000;

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The power fails before the operation; nothing works from then on.
    PowerLoss,
    /// The operation and some more after it fail with this error. A write writes half before it does.
    Errors(rustix::io::Errno, usize),
}

#[derive(Clone, Default)]
struct Inode {
    /// What everybody sees, and what it was after each operation since the last sync.
    live: Vec<u8>,
    versions: Vec<Vec<u8>>,
    durable: Vec<u8>,
    /// Sectors that the next sync writes. A failed sync forgets them.
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
    operations: usize,
    fault: Option<(usize, Fault)>,
    /// How much the files may hold together; a write beyond is a short one.
    room: Option<usize>,
    /// Reads, looks and opens, and which of them fail.
    looks: usize,
    look_fault: Option<(usize, usize, rustix::io::Errno)>,
    off: bool,
    handles: u64,
    /// How often each kind of operation was asked for.
    counts: HashMap<&'static str, usize>,
}

#[derive(Clone, Default)]
pub(crate) struct SimFs(Arc<Mutex<Disk>>);

struct Handle {
    fs: SimFs,
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
    /// Counts an operation that can fail; what it is to do instead of its work, if anything.
    fn step(&mut self, what: &'static str) -> io::Result<Option<rustix::io::Errno>> {
        *self.counts.entry(what).or_default() += 1;
        if self.off {
            return Err(io::Error::other("the power is off"));
        }
        self.operations += 1;
        match self.fault {
            Some((at, Fault::PowerLoss)) if at == self.operations => {
                self.off = true;
                Err(io::Error::other("the power went off"))
            }
            Some((at, Fault::Errors(error, more))) if (at..=at + more).contains(&self.operations) => Ok(Some(error)),
            _ => Ok(None),
        }
    }

    /// Counts an operation that changes nothing, which can fail all the same.
    fn look(&mut self) -> io::Result<()> {
        if self.off {
            return Err(io::Error::other("the power is off"));
        }
        self.looks += 1;
        match self.look_fault {
            Some((at, more, error)) if (at..=at + more).contains(&self.looks) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// How much of a write from `from` to `to` there is room for.
    fn fits(&self, inode: usize, from: usize, to: usize) -> usize {
        let Some(room) = self.room else { return to - from };
        let used = |(at, other): (usize, &Inode)| if at != inode && other.links > 0 { other.live.len() } else { 0 };
        let others: usize = self.inodes.iter().enumerate().map(used).sum();
        let most = room.saturating_sub(others).max(self.inodes[inode].live.len());
        to.min(most).saturating_sub(from)
    }

    fn renamed(&mut self) {
        self.name_versions.push(self.names.clone());
    }
}

impl Inode {
    fn change(&mut self, from: usize, to: usize) {
        self.dirty.extend(sectors(from, to));
        self.versions.push(self.live.clone());
    }
}

impl File for Handle {
    fn stat(&self) -> io::Result<Stat> {
        let mut disk = self.fs.0.lock();
        disk.look()?;
        let inode = &disk.inodes[self.inode];
        Ok(Stat {
            size: inode.live.len() as u64,
            inode: self.inode as u64,
            links: inode.links,
            mode: 0o600,
            owner: USER,
            kind: Kind::File,
        })
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.fs.0.lock();
        disk.look()?;
        let live = &disk.inodes[self.inode].live;
        let from = (offset as usize).min(live.len());
        let read = buffer.len().min(live.len() - from);
        buffer[..read].copy_from_slice(&live[from..from + read]);
        Ok(read)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.fs.0.lock();
        let fault = disk.step("write")?;
        let from = offset as usize;
        let room = disk.fits(self.inode, from, from + bytes.len());
        let (count, fault) = match fault {
            Some(error) => (bytes.len() / 2, Some(error)),
            None if room < bytes.len() => (room, Some(rustix::io::Errno::NOSPC)),
            None => (bytes.len(), None),
        };
        let to = from + count;
        let inode = &mut disk.inodes[self.inode];
        if to > inode.live.len() {
            inode.live.resize(to, 0);
        }
        // Also where a sync failed that should have brought the size to the disk: writing there again tries again.
        inode.resized |= to > inode.durable.len();
        inode.live[from..to].copy_from_slice(&bytes[..count]);
        inode.change(from, to);
        match fault {
            Some(error) if count == 0 => Err(error.into()),
            _ => Ok(count),
        }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut disk = self.fs.0.lock();
        if let Some(error) = disk.step("truncate")? {
            return Err(error.into());
        }
        let inode = &mut disk.inodes[self.inode];
        let (from, to) = (size as usize, inode.live.len());
        inode.live.resize(from, 0);
        inode.resized = true;
        inode.change(from.min(to), to.max(from));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.fs.0.lock();
        let fault = disk.step("sync")?;
        let inode = &mut disk.inodes[self.inode];
        let dirty = std::mem::take(&mut inode.dirty);
        let resized = std::mem::take(&mut inode.resized);
        if let Some(error) = fault {
            // The kernel drops the pages' dirt, and says so once.
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
        if disk.off {
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

impl Vfs for SimFs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut disk = self.0.lock();
        disk.look()?;
        let inode = match disk.names.get(path) {
            Some(inode) => *inode,
            None if access == Access::Create => {
                if let Some(error) = disk.step("create")? {
                    return Err(error.into());
                }
                let at = disk.inodes.len();
                disk.inodes.push(Inode { links: 1, ..Inode::default() });
                disk.names.insert(path.to_owned(), at);
                disk.renamed();
                at
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        disk.handles += 1;
        Ok(Arc::new(Handle { fs: self.clone(), inode, id: disk.handles }))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let mut disk = self.0.lock();
        disk.look()?;
        let stat = Stat { size: 0, inode: u64::MAX, links: 1, mode: 0o700, owner: USER, kind: Kind::Directory };
        match disk.names.get(path) {
            Some(inode) => {
                let size = disk.inodes[*inode].live.len() as u64;
                Ok(Stat { size, inode: *inode as u64, mode: 0o600, kind: Kind::File, ..stat })
            }
            None if disk.directories.contains(path) => Ok(stat),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        if let Some(error) = disk.step("rename")? {
            return Err(error.into());
        }
        let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        if let Some(old) = disk.names.insert(to.to_owned(), inode) {
            disk.inodes[old].links = 0;
        }
        disk.renamed();
        Ok(())
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        if let Some(error) = disk.step("create_dir")? {
            return Err(error.into());
        }
        disk.directories.insert(path.to_owned());
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut disk = self.0.lock();
        if let Some(error) = disk.step("sync_dir")? {
            return Err(error.into());
        }
        disk.durable_names = disk.names.clone();
        disk.name_versions.clear();
        Ok(())
    }

    fn user(&self) -> u32 {
        USER
    }
}

impl SimFs {
    pub(crate) fn new(directory: &Path) -> Self {
        let fs = Self::default();
        fs.0.lock().directories.insert(directory.to_owned());
        fs
    }

    /// Lets the operation with this number, counted from 1, go wrong.
    pub(crate) fn set_fault(&self, at: usize, fault: Fault) {
        self.0.lock().fault = Some((at, fault));
    }

    /// Lets the look with this number, counted from 1, and some more after it fail.
    pub(crate) fn set_look_fault(&self, at: usize, more: usize, error: rustix::io::Errno) {
        self.0.lock().look_fault = Some((at, more, error));
    }

    /// From now on the files may hold this much together.
    pub(crate) fn set_room(&self, room: Option<usize>) {
        self.0.lock().room = room;
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        let mut disk = self.0.lock();
        (disk.fault, disk.look_fault, disk.room) = (None, None, None);
    }

    pub(crate) fn operations(&self) -> usize {
        self.0.lock().operations
    }

    pub(crate) fn looks(&self) -> usize {
        self.0.lock().looks
    }

    /// What a file holds, if there is one.
    pub(crate) fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.0.lock();
        disk.names.get(path).map(|inode| disk.inodes[*inode].live.clone())
    }

    /// Puts bytes into a file's place, as another program would: whole, and on the disk.
    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut disk = self.0.lock();
        let at = disk.inodes.len();
        let (live, durable) = (bytes.to_vec(), bytes.to_vec());
        disk.inodes.push(Inode { live, durable, links: 1, ..Inode::default() });
        if let Some(old) = disk.names.insert(path.to_owned(), at) {
            disk.inodes[old].links = 0;
        }
        disk.durable_names.insert(path.to_owned(), at);
    }

    pub(crate) fn count(&self, what: &'static str) -> usize {
        self.0.lock().counts.get(what).copied().unwrap_or(0)
    }

    /// What a machine finds when it starts again: of what was not synced, whatever `choose` (a number below its
    /// argument) picks.
    pub(crate) fn after_power_loss(&self, mut choose: impl FnMut(usize) -> usize) -> Self {
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

fn survivor(inode: &Inode, choose: &mut impl FnMut(usize) -> usize) -> Inode {
    let versions: Vec<&Vec<u8>> = std::iter::once(&inode.durable).chain(&inode.versions).collect();
    let size = if inode.resized { versions[choose(versions.len())].len() } else { inode.durable.len() };
    let mut bytes = vec![0; size];
    // Now and then all or nothing, which a fair choice for each sector hardly ever gives.
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
