//! The real file system.

use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::{Access, File, Kind, Stat, Vfs};

/// The operating system's files.
pub(crate) struct OsFs;

impl From<rustix::fs::Stat> for Stat {
    #[expect(clippy::unnecessary_cast, reason = "the widths of these fields differ between systems")]
    fn from(stat: rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
        };
        Self {
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u64,
            mode: stat.st_mode as u32 & 0o7777,
            owner: stat.st_uid,
            kind,
        }
    }
}

impl File for std::fs::File {
    fn stat(&self) -> io::Result<Stat> {
        Ok(rustix::fs::fstat(self)?.into())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match std::os::unix::fs::FileExt::read_at(self, &mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match std::os::unix::fs::FileExt::write_at(self, &bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What was written stands in the file: the caller has to know how much, and asks again for the rest.
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn try_lock(&self) -> io::Result<bool> {
        match Self::try_lock(self) {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        Self::unlock(self)
    }
}

impl Vfs for OsFs {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        // NONBLOCK: a FIFO in the file's place must not hang the open.
        let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = flags | if access == Access::Read { OFlags::RDONLY } else { OFlags::RDWR };
        let open = |flags| rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR);
        let file = if access == Access::Create {
            match open(flags | OFlags::CREATE | OFlags::EXCL) {
                Ok(file) => {
                    // Whatever the process' mask took away.
                    rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)?;
                    file
                }
                Err(rustix::io::Errno::EXIST) => open(flags)?,
                Err(error) => return Err(error.into()),
            }
        } else {
            open(flags)?
        };
        Ok(Arc::new(std::fs::File::from(file)))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(rustix::fs::lstat(path)?.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        rustix::fs::mkdir(path, Mode::RWXU)?;
        Ok(rustix::fs::chmod(path, Mode::RWXU)?)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }

    fn user(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }
}
