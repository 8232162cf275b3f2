//! Tests of the store on a storage with faults. The tests in this file run a scripted history with a fault at each of its
//! operations. Afterwards, every acknowledged change must be there, and none that was not submitted.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::*;
use rustix::io::Errno;
use tenure_adapter_json::storage::OpenMode;
use tenure_adapter_json::{JsonStore, Options, Storage as _};
use tenure_domain::*;
use tenure_json_test_storage::{Fault, SimulatedMachine, SimulatedStorage};
use tenure_ports::*;

mod blocking;
#[path = "../common/mod.rs"]
mod common;
mod disk;
mod fuzzed;
mod index;
mod refusals;
mod repair;
mod time;

const STEPS: u64 = 45;

fn path() -> PathBuf {
    PathBuf::from("/sim/s.jsonl")
}

fn empty_disk() -> SimulatedStorage {
    SimulatedStorage::new(Path::new("/sim"))
}

fn mount(fs: &SimulatedStorage, time: &Arc<SimulatedMachine>) -> Result<Arc<JsonStore>, StoreError> {
    let storage = Arc::new(fs.clone());
    let options = Options { compaction_threshold: 4096, index_threshold: 3000, storage, ..options(time) };
    JsonStore::open(&path(), time.clone(), options)
}

/// The record of a history: how many steps were made, and the sessions after each of them.
#[derive(Default)]
struct Log {
    submitted: usize,
    acknowledged: usize,
    states: Vec<Vec<SessionParts>>,
    tokens: Vec<Token>,
}

/// Returns all sessions without their activity, which may be lost.
async fn state(store: &JsonStore) -> Result<Vec<SessionParts>, StoreError> {
    let all = Filter { scope: Scope::Retained, ..Filter::default() };
    let now = Timestamp::from_millis(START);
    let listed = store.list_sorted(&all, now, SortKey::Created, 10_000).await?;
    let without = |session: Session| SessionParts { last_activity: Timestamp::EPOCH, ..session.into_parts() };
    Ok(listed.into_iter().map(without).collect())
}

async fn step(store: &JsonStore, n: u64, log: &mut Log) -> Result<(), CommitError> {
    let name = device(&format!("d{}", n % 4));
    let now = store.clock().now();
    let active = log.tokens.get(log.tokens.len().saturating_sub(3)).cloned();
    match (n % 5, active) {
        (3, Some(token)) => {
            let loaded = store.load_by_session(token.session()).await?.unwrap();
            if let Decision::Accept(rotation) = loaded.rotate(&token, &RotationSecret::new(bytes(n)), &policy(), now) {
                store.commit(&rotation.commit).await?;
            }
        }
        (4, Some(token)) => {
            let loaded = store.load_by_session(token.session()).await?.unwrap();
            let selection = Selection::one(token.session());
            if let Some(commit) = loaded.revoke(&selection, &cause(), &policy(), now).commit {
                store.commit(&commit).await?;
            }
        }
        _ if n % 11 == 10 => {
            store.purge(&Purge { now, inactive_by: now, dry_run: false }, None).await?;
            log.tokens.clear();
        }
        _ => {
            let issue = store.load(&name).await?.issue(new_session(n), &policy(), now).unwrap();
            store.commit(&issue.commit).await?;
            if n.is_multiple_of(2) {
                store.touch(&[Touch { session: issue.session.id, at: now.plus(Millis::new(n)) }]).await?;
                store.close().await?;
            }
            log.tokens.push(issue.token);
        }
    }
    Ok(())
}

/// Runs a history in which two processes take turns, until an operation fails.
async fn history(fs: &SimulatedStorage, time: &Arc<SimulatedMachine>, log: &mut Log) -> Result<(), CommitError> {
    let (a, b) = (mount(fs, time)?, mount(fs, time)?);
    log.states.push(state(&a).await?);
    for n in 0..STEPS {
        time.pass(Millis::new(50));
        let store = if n % 3 == 0 { &b } else { &a };
        log.submitted += 1;
        step(store, n, log).await?;
        log.acknowledged = log.submitted;
        log.states.push(state(store).await?);
    }
    Ok(())
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work)
}

fn dice(seed: u64) -> impl FnMut(usize) -> usize {
    let mut n = seed << 20;
    move |most| {
        n += 1;
        u64::from_le_bytes(bytes(n)) as usize % most
    }
}

fn restarted(time: &SimulatedMachine, boot: &str) -> Arc<SimulatedMachine> {
    SimulatedMachine::new(boot, Millis::seconds(1), time.now())
}

fn reference() -> (Log, usize) {
    let (fs, time, mut log) = (empty_disk(), machine(), Log::default());
    run(history(&fs, &time, &mut log)).unwrap();
    assert!(fs.count("rename") >= 3, "the script compacts");
    (log, fs.changes())
}

/// Checks that a power loss left the state after the last acknowledged step, or after one that was submitted since.
fn check_survivor(fs: &SimulatedStorage, time: &Arc<SimulatedMachine>, log: &Log, reference: &Log, context: &str) {
    run(async {
        if log.submitted == 0 && fs.metadata(&path()).is_err() {
            return;
        }
        let store = mount(fs, time).unwrap_or_else(|error| panic!("{context}: {error}"));
        let found = state(&store).await.unwrap();
        let fits = |n: &usize| reference.states.get(*n) == Some(&found);
        let after = (log.acknowledged..=log.submitted).find(fits);
        assert!(after.is_some(), "{context}: not a state between step {} and {}", log.acknowledged, log.submitted);
        issue(&store, "after", 4711).await;
        let again = mount(fs, time).unwrap();
        assert_eq!(state(&again).await.unwrap(), state(&store).await.unwrap(), "{context}");
    });
}

#[test]
fn a_power_loss_at_any_operation_loses_nothing_acknowledged() {
    let (reference, operations) = reference();
    for at in 1..=operations {
        let (fs, time, mut log) = (empty_disk(), machine(), Log::default());
        fs.set_fault(at, Fault::PowerLoss);
        let _ = run(history(&fs, &time, &mut log));
        for seed in 0..12 {
            let after = fs.after_power_loss(dice(seed * 1000 + at as u64));
            check_survivor(&after, &restarted(&time, "b2"), &log, &reference, &format!("operation {at}, seed {seed}"));
        }
    }
}

/// Checks what a process reports when some of its operations fail, and what other processes find afterwards.
async fn check_errors_at(at: usize, error: Errno, more: usize, reference: &Log) {
    let context = format!("operation {at} and {more} more: {error}");
    let (fs, time, mut log) = (empty_disk(), machine(), Log::default());
    fs.set_fault(at, Fault::Errors(error, more));
    if let Err(error) = history(&fs, &time, &mut log).await {
        assert!(!matches!(error, CommitError::Conflict | CommitError::TooLate), "{context}: {error}");
    }
    for seed in 0..4 {
        let after = fs.after_power_loss(dice(seed * 1000 + at as u64));
        match mount(&after, &restarted(&time, "b2")) {
            Ok(store) => {
                let found = state(&store).await.unwrap();
                let fits = |n: &usize| reference.states.get(*n) == Some(&found);
                assert!((log.acknowledged..=log.submitted).any(|n| fits(&n)), "{context}, seed {seed}");
            }
            Err(error) => assert_eq!(log.submitted, 0, "{context}, seed {seed}: {error}"),
        }
    }
    // The storage works again. Another process, which does not know of the failed operations, opens the store.
    fs.clear_faults();
    let store = mount(&fs, &time).unwrap_or_else(|error| panic!("{context}: {error}"));
    let before = state(&store).await.unwrap();
    issue(&store, "after", 4711).await;
    for seed in 0..4 {
        let after = fs.after_power_loss(dice(seed * 7000 + at as u64));
        let store = mount(&after, &restarted(&time, "b2")).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(state(&store).await.unwrap().len(), before.len() + 1, "{context}, seed {seed}");
    }
}

#[test]
fn an_error_at_any_operation_is_reported_and_the_store_continues() {
    let (reference, operations) = reference();
    for at in 1..=operations {
        for (error, more) in [(Errno::NOSPC, 0), (Errno::IO, 0), (Errno::IO, 4)] {
            run(check_errors_at(at, error, more, &reference));
        }
    }
}
