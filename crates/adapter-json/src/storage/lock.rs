//! The writers' lock: a lock file that one process at a time holds. Readers need no lock.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure_domain::Millis;
use tenure_ports::StoreError;

use super::permissions::check_file;
use super::{OpenMode, Storage, StorageFile, sibling_path};
use crate::error::{io_error, unavailable};

/// The delay between the first two attempts. A commit takes about as long.
const MIN_RETRY_DELAY: Duration = Duration::from_micros(50);
/// The longest delay between two attempts.
const MAX_RETRY_DELAY: Duration = Duration::from_millis(2);

/// The lock of a store's writers, shared by all processes.
pub(crate) struct WriterLock {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    file: Option<Arc<dyn StorageFile>>,
    timeout: Duration,
}

/// The held lock. It is released when this is dropped.
pub(crate) struct WriterLockGuard(Arc<dyn StorageFile>);

impl Drop for WriterLockGuard {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the store's lock could not be released; it is when this process ends");
        }
    }
}

impl WriterLock {
    pub(crate) fn new(storage: Arc<dyn Storage>, store: &Path, timeout: Millis) -> Self {
        Self { storage, path: sibling_path(store, ".lock"), file: None, timeout: timeout.into() }
    }

    /// Waits for the lock, for at most the timeout. Blocks the thread.
    pub(crate) fn acquire(&mut self) -> Result<WriterLockGuard, StoreError> {
        let start = Instant::now();
        let mut delay = MIN_RETRY_DELAY;
        loop {
            if let Some(held) = self.try_acquire()? {
                return Ok(held);
            }
            if start.elapsed() >= self.timeout {
                return Err(self.timeout_error());
            }
            std::thread::sleep(delay.min(self.timeout.saturating_sub(start.elapsed())));
            delay = (delay * 2).min(MAX_RETRY_DELAY);
        }
    }

    /// Takes the lock if it is free. `None` if another process holds it.
    pub(crate) fn try_acquire(&mut self) -> Result<Option<WriterLockGuard>, StoreError> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => self.open()?,
        };
        let locked = file.try_lock().map_err(|error| io_error(&self.path, "lock the store", error))?;
        if !locked {
            return Ok(None);
        }
        let held = WriterLockGuard(Arc::clone(&file));
        // If the lock file was removed, other processes lock another file.
        let metadata = file.metadata().map_err(|error| io_error(&self.path, "look at the lock", error))?;
        if metadata.links == 0 {
            self.file = None;
            return Ok(None);
        }
        // The process id serves only the error message about a lock that is held for long. It is written only if it
        // differs: a write to any file slows down the next sync by more than a read costs.
        let (mine, mut there) = (format!("{:>10}\n", std::process::id()), [0; 11]);
        if !file.read_at(&mut there, 0).is_ok_and(|_| there == mine.as_bytes()) {
            let _ = file.write_at(mine.as_bytes(), 0);
        }
        Ok(Some(held))
    }

    fn open(&mut self) -> Result<Arc<dyn StorageFile>, StoreError> {
        let opened = self.storage.open(&self.path, OpenMode::Create);
        let file = opened.map_err(|error| io_error(&self.path, "open the lock file", error))?;
        let metadata = file.metadata().map_err(|error| io_error(&self.path, "look at the lock", error))?;
        check_file(&*self.storage, &self.path, &metadata)?;
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn timeout_error(&self) -> StoreError {
        let mut bytes = [0; 11];
        let read = self.file.as_ref().and_then(|file| file.read_at(&mut bytes, 0).ok()).unwrap_or_default();
        let holder = std::str::from_utf8(&bytes[..read]).unwrap_or_default().trim();
        let holder = if holder.is_empty() { "another process".to_owned() } else { format!("process {holder}") };
        unavailable(
            &self.path,
            format!(
                "{holder} has held the store's lock for more than {}; see what it does, or end it, and try again",
                Millis::new(u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX))
            ),
        )
    }
}
