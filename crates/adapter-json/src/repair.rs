//! Repairing a damaged store, or one whose time does not agree with the machine's clock: `tenure doctor --repair`.
//!
//! A repair copies the old file to a back-up beside it, writes everything that is valid to a new file, and replaces the
//! old file by the new one. It holds the writers' lock, so nobody else writes to the store meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use tenure_domain::{
    Device, EndCause, EndReason, Millis, Note, Policy, Selection, Session, SessionId, State, Timestamp,
};
use tenure_ports::{Clock, StoreError};

use crate::clock::boot::{Boot, SystemBoot};
use crate::clock::{CLOCK_TOLERANCE, StoreClock};
use crate::error::{corrupt, io_error, unavailable};
use crate::format::{LineHeader, LineWriter, parse_line};
use crate::journal::{Journal, open_file, snapshot};
use crate::storage::lock::WriterLock;
use crate::storage::permissions::{check_directory, check_exists};
use crate::storage::{OpenMode, OsStorage, Storage, parent_directory, sibling_path, write_all_at};
use crate::table::Table;
use crate::table::apply::{AppliedEvents, apply};
use crate::writer::commit_lines;

mod plan;
mod salvage;

pub use plan::{ClockSkew, Loss, RepairPlan};
use salvage::{Salvaged, salvage};

/// The longest time that a repair waits for the lock.
const LOCK_TIMEOUT: Millis = Millis::seconds(2);
/// The suffix of the back-up. If there is such a file already, a number follows.
const BACKUP_SUFFIX: &str = ".before-repair";

/// Plans the repair of one store, and carries it out.
pub struct Repairer {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    wall: Arc<dyn Clock>,
    boot: Arc<dyn Boot>,
    policy: Policy,
}

/// The state that the new file is made from.
struct RepairedState {
    /// The contents of the old file.
    bytes: Vec<u8>,
    table: Table,
    /// The number of the last transaction in the table.
    through: u64,
    clock: Arc<StoreClock>,
}

impl Repairer {
    /// Makes a repairer of the store at `path`. `policy` applies to the sessions that the repair has to end.
    #[must_use]
    pub fn new(path: &Path, wall: Arc<dyn Clock>, policy: &Policy) -> Self {
        let (storage, boot) = (Arc::new(OsStorage), Arc::new(SystemBoot));
        Self { storage, path: path.to_owned(), wall, boot, policy: *policy }
    }

    /// Uses another storage than the operating system's.
    #[must_use]
    pub fn with_storage(self, storage: Arc<dyn Storage>) -> Self {
        Self { storage, ..self }
    }

    /// Uses another source of the boot id and the uptime than the operating system.
    #[must_use]
    pub fn with_boot(self, boot: Arc<dyn Boot>) -> Self {
        Self { boot, ..self }
    }

    /// Plans a repair. Changes nothing. `None` if there is nothing to repair.
    ///
    /// # Errors
    /// [`StoreError`] if the file cannot be read, has unsafe permissions, or has no valid line at all.
    pub fn plan(&self) -> Result<Option<RepairPlan>, StoreError> {
        Ok(self.prepare()?.map(|(plan, _)| plan))
    }

    /// Carries out a plan. This is atomic: afterwards the store is either as it was, or repaired and durable.
    ///
    /// # Errors
    /// [`StoreError`] if the repair failed, or if the store has changed since the plan was made. The store is then as
    /// it was, but a back-up may have been begun.
    pub fn execute(&self, plan: &RepairPlan) -> Result<(), StoreError> {
        let mut lock = WriterLock::new(Arc::clone(&self.storage), &self.path, LOCK_TIMEOUT);
        let _held = lock.acquire()?;
        let changed =
            || unavailable(&self.path, "it has changed since the repair was planned; nothing was done, try again");
        let (current, RepairedState { bytes, table, through, clock }) = self.prepare()?.ok_or_else(changed)?;
        if current != *plan {
            return Err(changed());
        }
        self.back_up(&plan.backup, &bytes)?;
        let journal = Journal::from_table(Arc::clone(&self.storage), &self.path, Arc::clone(&clock), table, through)?;
        snapshot::rewrite(&*self.storage, &self.path, &clock, &RwLock::new(journal)).map_err(|failure| failure.error)
    }

    /// Reads the store, and makes the plan and the repaired state.
    fn prepare(&self) -> Result<Option<(RepairPlan, RepairedState)>, StoreError> {
        check_exists(&*self.storage, &self.path)?;
        check_directory(&*self.storage, &self.path)?;
        let bytes = self.read()?;
        let Salvaged { mut table, through, losses, suspects, recorded_time, valid_lines, .. } = salvage(&bytes);
        if valid_lines == 0 {
            let message = "it has no valid line, so there is nothing to repair; move it away";
            return Err(corrupt(&self.path, 1, message));
        }
        let new_clock = || Arc::new(StoreClock::new(Arc::clone(&self.wall), Arc::clone(&self.boot)));
        let clock = new_clock();
        if let Some((at, boot, uptime)) = &recorded_time {
            clock.record(*at, boot, *uptime);
        }
        let restarted = clock.error().is_some();
        // A repair of damage does not touch the time of a store whose time works.
        let is_behind = restarted || losses.is_empty() && clock.ahead_of_wall() > CLOCK_TOLERANCE;
        if losses.is_empty() && !is_behind {
            return Ok(None);
        }
        // Accepting the machine's clock means to begin with a clock that knows no recorded time.
        let clock = if is_behind { new_clock() } else { clock };
        let recorded = recorded_time.map_or(Timestamp::EPOCH, |(at, ..)| Timestamp::from_millis(at));
        let skew = is_behind.then(|| ClockSkew { restarted, ..clock_skew(&table, recorded, clock.now()) });
        // One number is skipped, so that no running process takes the new file for one that it has read.
        let mut through = through + 1;
        let now = clock.now();
        let mut ended = Vec::new();
        for id in suspects {
            if self.end(&mut table, id, through + 1, now)? {
                through += 1;
                ended.push(id);
            }
        }
        let unnamed = losses.iter().any(|loss| match loss {
            Loss::Dropped { sessions, line, .. } => sessions.is_empty() && *line > 1,
            Loss::Missing { .. } => true,
            _ => false,
        });
        let (kept, size, backup) = (table.len() as u64, bytes.len() as u64, self.backup_path());
        let plan = RepairPlan { losses, ended, unnamed, clock: skew, kept, size, backup };
        Ok(Some((plan, RepairedState { bytes, table, through, clock })))
    }

    fn read(&self) -> Result<Vec<u8>, StoreError> {
        let (file, _) = open_file(&*self.storage, &self.path)?;
        let read = || {
            let mut bytes = vec![0; usize::try_from(file.metadata()?.size).map_err(io::Error::other)?];
            let read = file.read_at(&mut bytes, 0)?;
            bytes.truncate(read);
            Ok(bytes)
        };
        read().map_err(|error| io_error(&self.path, "read the store", error))
    }

    fn backup_path(&self) -> PathBuf {
        let names = (1_u32..).map(|n| if n == 1 { BACKUP_SUFFIX.to_owned() } else { format!("{BACKUP_SUFFIX}-{n}") });
        let mut paths = names.map(|name| sibling_path(&self.path, &name));
        let is_free = |path: &PathBuf| matches!(self.storage.metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
        // If none of these names is free, the directory cannot be read, and creating the file will fail.
        paths.by_ref().take(10_000).find(is_free).unwrap_or_else(|| sibling_path(&self.path, BACKUP_SUFFIX))
    }

    /// Writes the back-up, durably. It never overwrites a file.
    fn back_up(&self, to: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let write = || {
            let file = self.storage.open(to, OpenMode::Create)?;
            if file.metadata()?.size != 0 {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            write_all_at(&*file, bytes, 0)?;
            file.sync()?;
            self.storage.sync_directory(&parent_directory(to))
        };
        write().map_err(|error| io_error(to, "write the back-up", error))
    }

    /// Ends a session by the rules of the domain, if it is active. Returns whether it was active.
    fn end(&self, table: &mut Table, id: SessionId, number: u64, now: Timestamp) -> Result<bool, StoreError> {
        let damaged = |message: &str| corrupt(&self.path, 0, message);
        let Some(at) = table.find(id) else { return Ok(false) };
        let Some(device) = table.devices.get(table.row(at).device) else { return Ok(false) };
        let rows = table.device_rows(table.row(at).device).filter(|(_, row)| !row.is_inactive() || row.id == id);
        let sessions: Result<Vec<Session>, _> = rows.map(|(at, _)| table.session(at)).collect();
        let sessions = sessions.map_err(|error| damaged(&error.to_string()))?;
        let loaded = Device::new(device.name.clone(), device.revision, sessions, device.watermark);
        let cause = EndCause {
            reason: EndReason::Revoked,
            note: Note::new("the store was repaired, and a line that named this session was lost").ok(),
            actor: "repair".parse().ok(),
        };
        let Some(commit) = loaded.revoke(&Selection::one(id), &cause, &self.policy, now).commit else {
            return Ok(false);
        };
        let mut bytes = Vec::new();
        let mut line = LineWriter::begin(&mut bytes, LineHeader { number, at: now, synced: 0, boot: "", uptime: 0 });
        commit_lines::write(&mut line, table, &commit);
        line.finish();
        let (tx, _) = parse_line(bytes.trim_ascii_end()).map_err(|message| damaged(&message))?;
        apply(table, tx, &mut AppliedEvents::default()).map_err(|message| damaged(&message))?;
        Ok(true)
    }
}

/// Returns what it means to accept a clock that shows `now`.
fn clock_skew(table: &Table, recorded: Timestamp, now: Timestamp) -> ClockSkew {
    let rows = table.rows_from(0).filter_map(|(at, _)| table.session(at).ok());
    let early: Vec<Timestamp> = rows
        .filter(|session| session.state(now) == State::Active)
        .filter(|session| session.rotated_at.unwrap_or(session.created_at) > now)
        .map(|session| session.expires_at)
        .collect();
    let until = early.iter().copied().max().unwrap_or(Timestamp::EPOCH);
    ClockSkew { recorded, restarted: false, early: early.len() as u64, until }
}
