//! What is to be said of a store, for `tenure doctor`. Changes nothing.

use std::path::Path;
use std::sync::Arc;

use tenure_domain::Policy;
use tenure_ports::{Clock, Diagnosis, StoreError};

use crate::boot::{Boot as _, SystemBoot};
use crate::feed::News;
use crate::guard::{check_directory, must_exist, parent};
use crate::journal::{Journal, Tail};
use crate::repair;
use crate::time::{StoreClock, TOLERANCE};
use crate::vfs::{OsFs, Vfs as _};

fn failure(error: &StoreError) -> Diagnosis {
    let text = error.to_string();
    // Errors say what happened first, and after a semicolon what to do.
    let (finding, advice) = text.split_once("; ").unwrap_or((&text, ""));
    Diagnosis::failure(finding, advice)
}

/// Examines the store at `path`, also one that does not open, without changing a byte.
#[must_use]
pub fn examine(path: &Path, wall: Arc<dyn Clock>) -> Vec<Diagnosis> {
    let vfs = Arc::new(OsFs);
    let mut findings = Vec::new();
    if let Err(error) = must_exist(&*vfs, path) {
        findings.push(failure(&error));
        if vfs.stat(&parent(path)).is_err() {
            return findings;
        }
    }
    match check_directory(&*vfs, path) {
        Ok(()) => findings.push(Diagnosis::ok(format!("{}: nobody else can write to it", parent(path).display()))),
        Err(error) => findings.push(failure(&error)),
    }
    if must_exist(&*vfs, path).is_err() {
        return findings;
    }
    if SystemBoot.id().is_empty() {
        findings.push(Diagnosis::warning(
            "this machine does not tell one start from the next",
            "a clock set back over a restart is not noticed; see that it is set from the network",
        ));
    }
    let clock = Arc::new(StoreClock::new(Arc::clone(&wall), Arc::new(SystemBoot)));
    let news = News::new();
    let opened = Journal::open(vfs, path, Arc::clone(&clock), news.sender).and_then(Journal::read_whole).and_then(
        |mut journal| {
            let tail = journal.refresh()?;
            Ok((journal, tail))
        },
    );
    match opened {
        Ok((journal, tail)) => findings.extend(describe(path, &journal, tail, &clock)),
        Err(error @ StoreError::Corrupt { .. }) => findings.push(damaged(path, wall, &error)),
        Err(error) => findings.push(failure(&error)),
    }
    findings
}

fn damaged(path: &Path, wall: Arc<dyn Clock>, error: &StoreError) -> Diagnosis {
    let finding = failure(error);
    // Only what is ended depends on the policy, not what can be said here.
    let advice = match repair::plan(path, wall, &Policy::default()) {
        Ok(Some(plan)) => format!(
            "restore a back-up, or run tenure doctor --repair: it says what is lost, asks, and would keep {} sessions",
            plan.kept
        ),
        _ => "nothing in it can be used: restore a back-up, or move it away to begin a new store".to_owned(),
    };
    Diagnosis { advice, ..finding }
}

fn describe(path: &Path, journal: &Journal, tail: Tail, clock: &StoreClock) -> Vec<Diagnosis> {
    let path = path.display();
    let (at, sessions) = (&journal.at, journal.table.len());
    let whole =
        format!("{path}: {} bytes, transaction {}, {sessions} sessions; every line checks out", at.end, at.number);
    let mut findings = vec![Diagnosis::ok(whole)];
    match tail {
        Tail::Clean => {}
        Tail::LacksNewline => findings.push(Diagnosis::warning(
            format!("{path}: the last line is whole but for its newline: a writer was stopped"),
            "nothing; the next writer completes it",
        )),
        Tail::Torn | Tail::Changed => findings.push(Diagnosis::warning(
            format!("{path}: an incomplete line at the end, after byte {}: a writer was stopped or is at work", at.end),
            "nothing; it was never acknowledged, and the next writer cuts it",
        )),
    }
    match clock.message() {
        None if clock.ahead() > TOLERANCE => findings.push(Diagnosis::warning(
            format!(
                "{path}: the store's time is {} ahead of this machine's clock: a clock was ahead once, and time went on \
                 from there",
                clock.ahead()
            ),
            "set the clock if it is behind; if it is right, times that Tenure shows are ahead by so much, and tenure \
             doctor --repair accepts the clock as it is (it says what that means, and asks)",
        )),
        None => findings.push(Diagnosis::ok("the clock agrees with what the store has recorded")),
        Some(message) => findings.push(failure(&StoreError::Unavailable { location: path.to_string(), message })),
    }
    if journal.read_only {
        findings.push(Diagnosis::warning(
            format!("{path}: it can only be read"),
            "make the file and its file system writable for the user at work",
        ));
    }
    findings
}
