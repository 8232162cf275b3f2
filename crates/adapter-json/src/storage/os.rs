//! The storage of the operating system.

use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, OFlags};

use super::{FileKind, Metadata, OpenMode, Storage, StorageFile};

/// The file system of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsStorage;

impl From<rustix::fs::Stat> for Metadata {
    #[expect(clippy::unnecessary_cast, reason = "the widths of these fields differ between systems")]
    fn from(metadata: rustix::fs::Stat) -> Self {
        let kind = match FileType::from_raw_mode(metadata.st_mode) {
            FileType::RegularFile => FileKind::File,
            FileType::Directory => FileKind::Directory,
            FileType::Symlink => FileKind::Symlink,
            _ => FileKind::Other,
        };
        Self {
            size: u64::try_from(metadata.st_size).unwrap_or_default(),
            inode: metadata.st_ino as u64,
            links: metadata.st_nlink as u64,
            mode: metadata.st_mode as u32 & 0o7777,
            owner: metadata.st_uid,
            kind,
        }
    }
}

impl StorageFile for std::fs::File {
    fn metadata(&self) -> io::Result<Metadata> {
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
                // The caller has to know how many bytes are in the file. It calls again for the rest.
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

impl Storage for OsStorage {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn StorageFile>> {
        // NONBLOCK: opening a FIFO in the file's place must not wait for a writer.
        let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = flags | if mode == OpenMode::Read { OFlags::RDONLY } else { OFlags::RDWR };
        let open = |flags| rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR);
        let file = if mode == OpenMode::Create {
            match open(flags | OFlags::CREATE | OFlags::EXCL) {
                Ok(file) => {
                    // The umask of the process may have removed some permissions.
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

    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        Ok(rustix::fs::lstat(path)?.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        rustix::fs::mkdir(path, Mode::RWXU)?;
        Ok(rustix::fs::chmod(path, Mode::RWXU)?)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        std::fs::File::open(path)?.sync_all()
    }

    fn user_id(&self) -> u32 {
        rustix::process::geteuid().as_raw()
    }
}
