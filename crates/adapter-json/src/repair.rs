//! `tenure doctor --repair`: says what would become of a store that is not as it should be, and does it.
//!
//! A repair writes a new file from what checks out, keeps the old one beside it, and puts the new one in its place, all
//! of it under the writers' lock. A store that is refused is never written to by anybody else meanwhile.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use tenure_domain::{
    Device, EndCause, EndReason, Millis, Note, Policy, Selection, Session, SessionId, State, Timestamp,
};
use tenure_ports::{Clock, StoreError};

use crate::apply::{News, apply};
use crate::boot::{Boot, SystemBoot};
use crate::format::{Line, Ops, parse_line};
use crate::guard::{beside, check_directory, corrupt, failed, must_exist, parent, unavailable};
use crate::journal::{Journal, open_file};
use crate::lock::Lock;
use crate::snapshot;
use crate::table::Table;
use crate::time::{StoreClock, TOLERANCE};
use crate::vfs::{Access, OsFs, Vfs};
use crate::writer::decide;

mod salvage;

use salvage::{Salvaged, salvage};

/// How long the lock is waited for.
const PATIENCE: Millis = Millis::seconds(2);
/// Beside the store, with a number where there is one already.
const BACKUP: &str = ".before-repair";

/// Something in the file that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// One bit of the line had changed, or its newline; it is kept as it was.
    Mended {
        /// Counted from 1.
        line: u64,
    },
    /// The last line is whole but for its newline, and is kept.
    NoNewline {
        /// Counted from 1.
        line: u64,
    },
    /// An incomplete line at the end, or sectors that were never written: nobody was told that it was done.
    Torn {
        /// Where it begins.
        offset: u64,
        /// How long it is.
        bytes: u64,
    },
    /// A line that does not check out.
    Dropped {
        /// Counted from 1.
        line: u64,
        /// Where it begins.
        offset: u64,
        /// How long it is; 0 where the line is whole and out of place.
        bytes: u64,
        /// What is wrong with it.
        message: String,
        /// The sessions that it names, as far as it can be read.
        sessions: Vec<SessionId>,
    },
    /// Lines that are not there.
    Missing {
        /// The first transaction that is missing.
        from: u64,
        /// The last one.
        to: u64,
    },
    /// A part of a line that has nothing to be applied to, since what came before it is lost.
    Skipped {
        /// Counted from 1.
        line: u64,
        /// What it lacks.
        message: String,
    },
}

/// The machine's clock is behind what the store recorded: before a restart, or in this run of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The last time that the store recorded.
    pub recorded: Timestamp,
    /// Whether the machine was restarted since. Else the store works, and its time is ahead of the clock.
    pub restarted: bool,
    /// How many sessions that hold were issued or rotated later than the clock says it is.
    pub early: u64,
    /// Until when the last of those would hold.
    pub until: Timestamp,
}

/// What a repair would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is wrong with the file, in its order.
    pub losses: Vec<Loss>,
    /// Sessions that hold and are named by lines that are lost: they are ended, since an end may be among those.
    pub ended: Vec<SessionId>,
    /// Whether lines are lost that do not tell whom they were about.
    pub unnamed: bool,
    /// A clock that would be accepted.
    pub clock: Option<Behind>,
    /// How many sessions are kept, over ones included.
    pub kept: u64,
    /// How large the file is.
    pub size: u64,
    /// Where the file would be kept as it is.
    pub backup: PathBuf,
}

impl Plan {
    /// How many transactions are lost that somebody may have been told were done.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let lost = |loss: &Loss| match loss {
            Loss::Dropped { line, bytes, .. } => u64::from(*line > 1 && *bytes > 0),
            Loss::Missing { from, to } => to - from + 1,
            Loss::Mended { .. } | Loss::NoNewline { .. } | Loss::Torn { .. } | Loss::Skipped { .. } => 0,
        };
        self.losses.iter().map(lost).sum()
    }
}

/// What a repair works on, and on whose terms.
pub(crate) struct Surgery {
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) path: PathBuf,
    pub(crate) wall: Arc<dyn Clock>,
    pub(crate) boot: Arc<dyn Boot>,
    pub(crate) policy: Policy,
}

/// What a repair of the store at `path` would do; `None` where there is nothing to repair. Changes nothing.
///
/// # Errors
/// [`StoreError`] where the file may not be used or is no journal at all.
pub fn plan(path: &Path, wall: Arc<dyn Clock>, policy: &Policy) -> Result<Option<Plan>, StoreError> {
    Ok(Surgery::new(path, wall, policy).examine()?.map(|(plan, _)| plan))
}

/// Does what `shown` says, as one step: the store is then as it was, or repaired and durable.
///
/// # Errors
/// [`StoreError`]; also where the store is by now another than `shown` was made of. Nothing was changed then, but that
/// a back-up may have been begun.
pub fn repair(path: &Path, wall: Arc<dyn Clock>, policy: &Policy, shown: &Plan) -> Result<(), StoreError> {
    Surgery::new(path, wall, policy).carry_out(shown)
}

/// All that the new file is made of.
pub(crate) struct Prepared {
    bytes: Vec<u8>,
    table: Table,
    through: u64,
    clock: Arc<StoreClock>,
}

impl Surgery {
    fn new(path: &Path, wall: Arc<dyn Clock>, policy: &Policy) -> Self {
        let (vfs, boot) = (Arc::new(OsFs), Arc::new(SystemBoot));
        Self { vfs, path: path.to_owned(), wall, boot, policy: *policy }
    }

    /// Reads the store and plans.
    pub(crate) fn examine(&self) -> Result<Option<(Plan, Prepared)>, StoreError> {
        must_exist(&*self.vfs, &self.path)?;
        check_directory(&*self.vfs, &self.path)?;
        let bytes = self.read()?;
        let Salvaged { mut table, through, losses, suspects, stamp, good, .. } = salvage(&bytes);
        if good == 0 {
            let message = "no line of it is a journal's, so there is nothing to repair; move it away";
            return Err(corrupt(&self.path, 1, message));
        }
        let new_clock = || Arc::new(StoreClock::new(Arc::clone(&self.wall), Arc::clone(&self.boot)));
        let clock = new_clock();
        if let Some((at, boot, elapsed)) = &stamp {
            clock.record(*at, boot, *elapsed);
        }
        let restarted = clock.message().is_some();
        // A store that works is not to be told another time by the way, while damage is repaired.
        let is_behind = restarted || losses.is_empty() && clock.ahead() > TOLERANCE;
        if losses.is_empty() && !is_behind {
            return Ok(None);
        }
        // An accepted clock is one on which nothing that was recorded has a hold.
        let clock = if is_behind { new_clock() } else { clock };
        let recorded = stamp.map_or(Timestamp::EPOCH, |(at, ..)| Timestamp::from_millis(at));
        let behind = is_behind.then(|| Behind { restarted, ..behind(&table, recorded, clock.now()) });
        // No process that runs takes the new file for one that it has read to this transaction.
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
        let plan = Plan { losses, ended, unnamed, clock: behind, kept, size, backup };
        Ok(Some((plan, Prepared { bytes, table, through, clock })))
    }

    pub(crate) fn carry_out(&self, shown: &Plan) -> Result<(), StoreError> {
        let mut lock = Lock::new(Arc::clone(&self.vfs), &self.path, PATIENCE);
        let _held = lock.acquire()?;
        let changed = || unavailable(&self.path, "it has changed since it was looked at; nothing was done, look again");
        let (plan, Prepared { bytes, table, through, clock }) = self.examine()?.ok_or_else(changed)?;
        if plan != *shown {
            return Err(changed());
        }
        self.back_up(&plan.backup, &bytes)?;
        let journal = Journal::rebuilt(Arc::clone(&self.vfs), &self.path, Arc::clone(&clock), table, through)?;
        snapshot::rewrite(&*self.vfs, &self.path, &clock, &RwLock::new(journal)).map_err(|failure| failure.error)
    }

    fn read(&self) -> Result<Vec<u8>, StoreError> {
        let (file, _) = open_file(&*self.vfs, &self.path)?;
        let read = || {
            let mut bytes = vec![0; usize::try_from(file.stat()?.size).map_err(io::Error::other)?];
            let read = file.read_at(&mut bytes, 0)?;
            bytes.truncate(read);
            Ok(bytes)
        };
        read().map_err(|error| failed(&self.path, "read the store", &error))
    }

    fn backup_path(&self) -> PathBuf {
        let names = (1_u32..).map(|n| if n == 1 { BACKUP.to_owned() } else { format!("{BACKUP}-{n}") });
        let mut paths = names.map(|name| beside(&self.path, &name));
        let is_free =
            |path: &PathBuf| matches!(self.vfs.stat(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
        // One of so many names is free, or the directory cannot be looked at, which making the file will tell.
        paths.by_ref().take(10_000).find(is_free).unwrap_or_else(|| beside(&self.path, BACKUP))
    }

    /// Whole and on the disk before anything else is done.
    fn back_up(&self, to: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let write = || {
            let file = self.vfs.open(to, Access::Create)?;
            if file.stat()?.size != 0 {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            snapshot::write_all(&*file, bytes, 0)?;
            file.sync()?;
            self.vfs.sync_dir(&parent(to))
        };
        write().map_err(|error| failed(to, "write the back-up", &error))
    }

    /// Ends a session as the domain has it, where it holds; whether it did.
    fn end(&self, table: &mut Table, id: SessionId, number: u64, now: Timestamp) -> Result<bool, StoreError> {
        let damaged = |message: &str| corrupt(&self.path, 0, message);
        let Some(at) = table.find(id) else { return Ok(false) };
        let Some(device) = table.devices.get(table.row(at).device) else { return Ok(false) };
        let rows = table.device_rows(table.row(at).device).filter(|(_, row)| !row.is_over() || row.id == id);
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
        let mut ops = Ops::begin(&mut bytes, Line { number, at: now, synced: 0, boot: "", elapsed: 0 });
        decide::write(&mut ops, table, &commit);
        ops.end();
        let (tx, _) = parse_line(bytes.trim_ascii_end()).map_err(|message| damaged(&message))?;
        apply(table, tx, &mut News::default()).map_err(|message| damaged(&message))?;
        Ok(true)
    }
}

/// What it means to take this clock's word.
fn behind(table: &Table, recorded: Timestamp, now: Timestamp) -> Behind {
    let rows = table.rows_from(0).filter_map(|(at, _)| table.session(at).ok());
    let early: Vec<Timestamp> = rows
        .filter(|session| session.state(now) == State::Active)
        .filter(|session| session.rotated_at.unwrap_or(session.created_at) > now)
        .map(|session| session.expires_at)
        .collect();
    let until = early.iter().copied().max().unwrap_or(Timestamp::EPOCH);
    Behind { recorded, restarted: false, early: early.len() as u64, until }
}
