//! The lock file, which one writer at a time holds. Readers need none.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure_domain::Millis;
use tenure_ports::StoreError;

use crate::guard::{beside, check_file, failed, unavailable};
use crate::vfs::{Access, File, Vfs};

/// Between two attempts: at first as long as a commit takes, then longer.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LAST_PAUSE: Duration = Duration::from_millis(2);

pub(crate) struct Lock {
    vfs: Arc<dyn Vfs>,
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    timeout: Duration,
}

/// The lock, held until dropped.
pub(crate) struct Held(Arc<dyn File>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the store's lock could not be released; it is when this process ends");
        }
    }
}

impl Lock {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, store: &Path, timeout: Millis) -> Self {
        Self { vfs, path: beside(store, ".lock"), file: None, timeout: timeout.into() }
    }

    /// Waits for the lock, no longer than the time-out.
    pub(crate) fn acquire(&mut self) -> Result<Held, StoreError> {
        let start = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(held) = self.try_acquire()? {
                return Ok(held);
            }
            if start.elapsed() >= self.timeout {
                return Err(self.busy());
            }
            std::thread::sleep(pause.min(self.timeout.saturating_sub(start.elapsed())));
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// The lock, if it is free.
    pub(crate) fn try_acquire(&mut self) -> Result<Option<Held>, StoreError> {
        let file = match &self.file {
            Some(file) => Arc::clone(file),
            None => self.open()?,
        };
        let locked = file.try_lock().map_err(|error| failed(&self.path, "lock the store", &error))?;
        if !locked {
            return Ok(None);
        }
        let held = Held(Arc::clone(&file));
        // Whoever opens a removed lock file's path locks another file.
        let stat = file.stat().map_err(|error| failed(&self.path, "look at the lock", &error))?;
        if stat.links == 0 {
            self.file = None;
            return Ok(None);
        }
        // For the person who wonders who holds it; no decision depends on it. Written only where it says something
        // else, since what is written to any file costs the coming sync more than a look does.
        let (mine, mut there) = (format!("{:>10}\n", std::process::id()), [0; 11]);
        if !file.read_at(&mut there, 0).is_ok_and(|_| there == mine.as_bytes()) {
            let _ = file.write_at(mine.as_bytes(), 0);
        }
        Ok(Some(held))
    }

    fn open(&mut self) -> Result<Arc<dyn File>, StoreError> {
        let opened = self.vfs.open(&self.path, Access::Create);
        let file = opened.map_err(|error| failed(&self.path, "open the lock file", &error))?;
        let stat = file.stat().map_err(|error| failed(&self.path, "look at the lock", &error))?;
        check_file(&*self.vfs, &self.path, &stat)?;
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn busy(&self) -> StoreError {
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
