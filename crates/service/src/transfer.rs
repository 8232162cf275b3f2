//! Moving sessions between stores: export and import.

use std::collections::BTreeMap;
use std::io::Write;

use futures_util::{StreamExt, stream};
use tenure_domain::{DeviceId, Filter, ImportOutcome, Scope, Session, SessionId};
use tenure_ports::{FindOptions, StoreError};

use crate::error::{Unacknowledged, WriteError};
use crate::retry::{DeviceRef, Outcome};
use crate::{CONCURRENCY, SessionRecord, Sessions};

const PAGE: usize = 1_000;

/// The reason why an export stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The export could not be written.
    #[error("could not write the export: {0}")]
    Io(#[from] std::io::Error),
}

/// A device that would have had too many active sessions. None of its sessions was imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverCap {
    /// The device.
    pub device: DeviceId,
    /// How many sessions would have been active.
    pub active: usize,
    /// How many sessions may be active.
    pub cap: usize,
}

/// The result of an import.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// Imported sessions, read back and found equal.
    pub imported: u64,
    /// Sessions that are known here, in the same or a newer state.
    pub already_present: u64,
    /// Sessions that are no longer retained.
    pub not_retained: u64,
    /// Sessions that were refused, because they may have ended here.
    pub blocked: Vec<SessionId>,
    /// Sessions that were refused with their device.
    pub over_cap: Vec<OverCap>,
    /// Imported sessions that another process changed before they were read back.
    pub changed_since: Vec<SessionId>,
}

impl ImportReport {
    fn add(&mut self, part: Self) {
        self.imported += part.imported;
        self.already_present += part.already_present;
        self.not_retained += part.not_retained;
        self.blocked.extend(part.blocked);
        self.over_cap.extend(part.over_cap);
        self.changed_since.extend(part.changed_since);
    }
}

impl Sessions {
    /// Writes every retained session as one JSON line, in the store's order, and returns their number. `progress`
    /// receives the number so far.
    ///
    /// # Errors
    /// [`ExportError`] if the store cannot be read, or `out` cannot be written.
    pub async fn export(&self, out: &mut dyn Write, mut progress: impl FnMut(u64)) -> Result<u64, ExportError> {
        let filter = Filter { scope: Scope::Retained, ..Filter::default() };
        let now = self.clock.now();
        let (mut count, mut cursor) = (0, None);
        loop {
            let page = self.repository.page(&filter, now, cursor, PAGE).await?;
            for session in &page.sessions {
                serde_json::to_writer(&mut *out, &SessionRecord::new(session, now)).map_err(std::io::Error::from)?;
                out.write_all(b"\n")?;
                count += 1;
            }
            progress(count);
            cursor = page.next;
            if cursor.is_none() {
                out.flush()?;
                return Ok(count);
            }
        }
    }

    /// Imports sessions device by device, each device completely or not at all, and reads each session back. If both
    /// sides know a session, the ended one wins. A dry run only decides. `progress` receives the number of sessions so
    /// far.
    ///
    /// # Errors
    /// [`WriteError`] if the store fails. Devices that were imported before stay imported, and the same import can be
    /// run again.
    pub async fn import(
        &self,
        sessions: Vec<Session>,
        dry_run: bool,
        mut progress: impl FnMut(u64),
    ) -> Result<ImportReport, WriteError> {
        let mut devices: BTreeMap<DeviceId, Vec<Session>> = BTreeMap::new();
        for session in sessions {
            devices.entry(session.device.clone()).or_default().push(session);
        }
        let mut report = ImportReport::default();
        let mut seen = 0;
        let mut work = stream::iter(devices)
            .map(|(device, sessions)| async move {
                let part = self.import_device(&device, &sessions, dry_run).await?;
                Ok::<_, WriteError>((part, sessions.len() as u64))
            })
            .buffer_unordered(CONCURRENCY);
        while let Some(outcome) = work.next().await {
            let (part, count) = outcome?;
            report.add(part);
            seen += count;
            progress(seen);
        }
        Ok(report)
    }

    async fn import_device(
        &self,
        device: &DeviceId,
        incoming: &[Session],
        dry_run: bool,
    ) -> Result<ImportReport, WriteError> {
        let mut report = ImportReport::default();
        let mut known = Vec::new();
        for session in incoming {
            known.extend(self.repository.find(session.id, FindOptions::EXACT).await?);
        }
        let policy = self.policy();
        let decided = self.commit_with_retry(DeviceRef::Device(device), |loaded, now| {
            let unknown = tenure_domain::Device::unknown(device.clone());
            let mut plan = loaded.unwrap_or(&unknown).import(incoming, &known, &policy, now);
            let commit = plan.commit.take();
            let taken: Vec<Session> =
                commit.iter().flat_map(|commit| &commit.changes).map(|change| change.session().clone()).collect();
            match commit.filter(|_| !dry_run) {
                Some(commit) => Outcome::Commit(commit, (plan, taken)),
                None => Outcome::Answer((plan, taken)),
            }
        });
        let (plan, written) = decided.await.map_err(|Unacknowledged { error, .. }| error)?;
        if plan.is_over_cap() {
            report.over_cap.push(OverCap { device: device.clone(), active: plan.active, cap: plan.cap });
            return Ok(report);
        }
        for (id, outcome) in plan.outcomes {
            match outcome {
                ImportOutcome::Imported => report.imported += 1,
                ImportOutcome::AlreadyPresent => report.already_present += 1,
                ImportOutcome::NotRetained => report.not_retained += 1,
                ImportOutcome::Blocked => report.blocked.push(id),
            }
        }
        if !dry_run {
            self.read_back(&written, &mut report).await?;
        }
        Ok(report)
    }

    async fn read_back(&self, written: &[Session], report: &mut ImportReport) -> Result<(), WriteError> {
        for wanted in written {
            let found = self.repository.find(wanted.id, FindOptions::EXACT).await?;
            let equal = match found {
                // The store keeps the later activity, whichever side had it.
                Some(found) => found == wanted.clone().touched(found.last_activity) || found == *wanted,
                // The record is no longer needed, so the store may have dropped it.
                None => !wanted.is_retained(self.clock.now()),
            };
            if !equal {
                report.changed_since.push(wanted.id);
            }
        }
        Ok(())
    }
}
