//! The diagnosis of a store, for `tenure doctor`. It changes nothing.

use std::path::Path;
use std::sync::Arc;

use tenure_domain::Policy;
use tenure_ports::{Clock, Diagnosis, StoreError};

use crate::clock::boot::SystemBoot;
use crate::clock::{CLOCK_TOLERANCE, StoreClock};
use crate::event::EventPublisher;
use crate::journal::{Journal, Tail};
use crate::repair::Repairer;
use crate::storage::permissions::{check_directory, check_exists};
use crate::storage::{OsStorage, Storage, parent_directory};

/// Makes the diagnosis of an error.
fn failure(error: &StoreError) -> Diagnosis {
    let text = error.to_string();
    // A message says what happened, and after a semicolon what to do.
    let (finding, advice) = text.split_once("; ").unwrap_or((&text, ""));
    Diagnosis::failure(finding, advice)
}

/// Diagnoses the store at `path`, even if it cannot be opened. It reads every line, and changes nothing. A damaged or
/// missing store is a finding, not an error.
#[must_use]
pub fn diagnose(path: &Path, wall: Arc<dyn Clock>) -> Vec<Diagnosis> {
    diagnose_in(Arc::new(OsStorage), path, StoreClock::new(wall, Arc::new(SystemBoot)))
}

/// Diagnoses a store in any storage. `clock` must not know a recorded time yet.
pub(crate) fn diagnose_in(storage: Arc<dyn Storage>, path: &Path, clock: StoreClock) -> Vec<Diagnosis> {
    let mut findings = Vec::new();
    if let Err(error) = check_exists(&*storage, path) {
        findings.push(failure(&error));
        if storage.metadata(&parent_directory(path)).is_err() {
            return findings;
        }
    }
    match check_directory(&*storage, path) {
        Ok(()) => {
            findings.push(Diagnosis::ok(format!("{}: nobody else can write to it", parent_directory(path).display())))
        }
        Err(error) => findings.push(failure(&error)),
    }
    if check_exists(&*storage, path).is_err() {
        return findings;
    }
    if clock.boot_id().is_empty() {
        findings.push(Diagnosis::warning(
            "this machine has no boot id",
            "a clock that is set back over a restart is not noticed; set the clock from the network (NTP)",
        ));
    }
    let clock = Arc::new(clock);
    let events = EventPublisher::new();
    let opened = Journal::open(Arc::clone(&storage), path, Arc::clone(&clock), events.sender)
        .and_then(Journal::read_whole)
        .and_then(|mut journal| {
            let tail = journal.refresh()?;
            Ok((journal, tail))
        });
    match opened {
        Ok((journal, tail)) => findings.extend(describe_journal(path, &journal, tail, &clock)),
        Err(error @ StoreError::Corrupt { .. }) => findings.push(damaged(storage, path, &clock, &error)),
        Err(error) => findings.push(failure(&error)),
    }
    findings
}

/// Makes the diagnosis of damage, with what a repair would keep.
fn damaged(storage: Arc<dyn Storage>, path: &Path, clock: &StoreClock, error: &StoreError) -> Diagnosis {
    let finding = failure(error);
    // The policy only affects how sessions are ended, which does not matter for a plan that is only shown.
    let repairer = Repairer::new(path, clock.wall_clock(), &Policy::default());
    let advice = match repairer.with_storage(storage).with_boot(clock.boot()).plan() {
        Ok(Some(plan)) => format!(
            "restore a back-up, or run tenure doctor --repair: it says what is lost, asks, and would keep {} sessions",
            plan.kept
        ),
        _ => "nothing in it can be used: restore a back-up, or move it away to begin a new store".to_owned(),
    };
    Diagnosis { advice, ..finding }
}

fn describe_journal(path: &Path, journal: &Journal, tail: Tail, clock: &StoreClock) -> Vec<Diagnosis> {
    let path = path.display();
    let (at, sessions) = (&journal.position, journal.table.len());
    let whole =
        format!("{path}: {} bytes, transaction {}, {sessions} sessions; every line checks out", at.end, at.number);
    let mut findings = vec![Diagnosis::ok(whole)];
    match tail {
        Tail::Clean => {}
        Tail::LacksNewline => findings.push(Diagnosis::warning(
            format!("{path}: the last line lacks its newline: a writer was stopped"),
            "nothing; the next writer completes it",
        )),
        Tail::Torn | Tail::Changed => findings.push(Diagnosis::warning(
            format!("{path}: an incomplete line at the end, after byte {}: a writer was stopped or is at work", at.end),
            "nothing; it was never acknowledged, and the next writer cuts it",
        )),
    }
    match clock.error() {
        None if clock.ahead_of_wall() > CLOCK_TOLERANCE => findings.push(Diagnosis::warning(
            format!(
                "{path}: the store's time is {} ahead of this machine's clock: a clock was once ahead, and time continued \
                 from there",
                clock.ahead_of_wall()
            ),
            "set the clock if it is behind; if it is right, the times that Tenure shows are ahead by as much, and tenure \
             doctor --repair accepts the clock as it is (it says what that means, and asks)",
        )),
        None => findings.push(Diagnosis::ok("the clock agrees with what the store has recorded")),
        Some(message) => findings.push(failure(&StoreError::unavailable(path.to_string(), message))),
    }
    if journal.read_only {
        findings.push(Diagnosis::warning(
            format!("{path}: it can only be read"),
            "make the file and its file system writable for the user who runs tenure",
        ));
    }
    findings
}
