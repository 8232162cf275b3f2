//! A file system without room, a limit to a file's size, and a file system that can only be read.
//!
//! Small file systems are mounted where nobody else sees them: in a mount name space of this experiment's own, which
//! takes root, or a kernel that gives name spaces to users.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use tenure_domain::SessionId;
use tenure_ports::StoreError;
use tenure_service::{IssueError, Issued, Sessions, Target, WriteError};

use crate::Failure;
use crate::child::{judge, open, request, runtime};
use crate::journal::numbers;
use crate::known::Ledger;
use crate::process::Speaker;

pub(crate) fn run(sizes: u64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--mount").arg(std::env::current_exe()?);
    command.arg("room-inside").arg(folder.path()).arg(sizes.to_string());
    let status = command.status().map_err(|error| format!("cannot run unshare (util-linux): {error}"))?;
    if status.success() {
        return Ok(());
    }
    Err("not all of it held, or the small file systems could not be mounted: that takes root, or user name spaces"
        .into())
}

/// The experiments themselves, in the name space.
pub(crate) fn inside(folder: &Path, sizes: u64) -> Result<(), Failure> {
    let mut stops = 0;
    // In KiB. The journal is written anew from about 1 MiB on, so that some of these end in the middle of that.
    for size in spread(200, 3_000, sizes) {
        mount(folder, &["-t", "tmpfs", "-o", &format!("size={size}k,mode=700"), "tmpfs"])?;
        stops += full(folder, size).map_err(|error| format!("with {size} KiB: {error}"))?;
        command("umount", &["--lazy".as_ref(), folder.as_os_str()])?;
    }
    println!(
        "a full disk, of {sizes} sizes: {stops} sessions acknowledged before, all there; writing went on with more room"
    );
    mount(folder, &["-t", "tmpfs", "-o", "size=64m,mode=700", "tmpfs"])?;
    read_only(folder)?;
    println!(
        "a file system that became read-only: reads went on, writes were refused, and went on when it was writable"
    );
    let mut stops = 0;
    for limit in spread(3_000, 60_000, sizes) {
        stops += limited(folder, limit).map_err(|error| format!("with {limit} bytes: {error}"))?;
    }
    println!(
        "a limit to the file's size, of {sizes} sizes: {stops} sessions acknowledged before, all there; writing went on without"
    );
    command("umount", &["--lazy".as_ref(), folder.as_os_str()])
}

/// So many numbers between two, each a little off the even ones.
fn spread(from: u64, to: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |n| from + (to - from) * n / count + n * 37 % 100)
}

fn command(name: &str, args: &[impl AsRef<std::ffi::OsStr>]) -> Result<(), Failure> {
    let status = Command::new(name).args(args).status().map_err(|error| format!("cannot run {name}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name} failed").into()) }
}

fn mount(folder: &Path, args: &[&str]) -> Result<(), Failure> {
    let args: Vec<_> = args.iter().map(AsRef::as_ref).chain([folder.as_os_str()]).collect();
    command("mount", &args)
}

/// Fails unless it holds.
fn must(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(what.into()) }
}

fn text(issued: &Issued) -> String {
    issued.token.to_text().expose().to_owned()
}

async fn revoke(sessions: &Sessions, id: SessionId) -> Result<(), WriteError> {
    let revoked = sessions.revoke(&Target::Ids(vec![id]), None, &Sessions::revocation(None, None)).await;
    revoked.map(drop).map_err(|failed| failed.error)
}

/// Issues until the disk is full, and looks at what is left; answers how many were acknowledged.
fn full(folder: &Path, size: u64) -> Result<usize, Failure> {
    let (store, runtime) = (folder.join("sessions.jsonl"), runtime()?);
    let sessions = open(&store)?;
    let mut issued: Vec<Issued> = Vec::new();
    let error = loop {
        match runtime.block_on(sessions.issue(request(&format!("d{}", issued.len()))?)) {
            Ok(one) => issued.push(one),
            Err(error) => break error,
        }
    };
    let is_full = |error: &WriteError| matches!(error, WriteError::Store(StoreError::Full { .. }));
    must(matches!(&error, IssueError::Write(failed) if is_full(&failed.error)), &format!("it says {error}"))?;
    // An end is shorter than a session, so some may still fit.
    let mut fitted = 0;
    let refused = loop {
        let one = issued.get(fitted).ok_or("every revocation fits on a full disk")?;
        match runtime.block_on(revoke(&sessions, one.session.id)) {
            Ok(()) => fitted += 1,
            Err(error) => break error,
        }
    };
    must(is_full(&refused), &format!("a revocation on a full disk: {refused}"))?;
    let (ended, kept) = issued.split_at(fitted + 1);
    let first = &ended[fitted];
    must(judge(&runtime, &sessions, &text(first)) == "revoked", "the process that could not revoke does not refuse")?;
    let taken_up = runtime.block_on(sessions.rotate(&first.token));
    must(taken_up.is_err(), "a session that was to be ended was rotated")?;
    let other = open(&store)?;
    for one in kept {
        must(judge(&runtime, &sessions, &text(one)) == "active", "an acknowledged session is lost")?;
        must(judge(&runtime, &other, &text(one)) == "active", "an acknowledged session is lost for others")?;
    }
    numbers(&store)?;
    mount(folder, &["-o", &format!("remount,size={}k", size * 2 + 64)])?;
    runtime.block_on(revoke(&sessions, first.session.id)).map_err(|error| format!("with room again: {error}"))?;
    let later = runtime.block_on(sessions.issue(request("later")?))?;
    let fresh = open(&store)?;
    let kept = kept.iter().chain([&later]).map(|one| (one, "active"));
    for (one, expected) in ended.iter().map(|one| (one, "revoked")).chain(kept) {
        let (answer, id) = (judge(&runtime, &fresh, &text(one)), one.session.id);
        must(answer == expected, &format!("after there was room, {id} is {answer} and not {expected}"))?;
    }
    numbers(&store)?;
    Ok(issued.len())
}

fn read_only(folder: &Path) -> Result<(), Failure> {
    let (store, runtime) = (folder.join("sessions.jsonl"), runtime()?);
    let (kept, ended) = {
        let sessions = open(&store)?;
        let issue =
            |device: &str| -> Result<Issued, Failure> { Ok(runtime.block_on(sessions.issue(request(device)?))?) };
        (issue("kept")?, issue("ended")?)
    };
    // The threads of a store that was let go of end by themselves; until then the file is open for writing.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while mount(folder, &["-o", "remount,ro"]).is_err() {
        must(std::time::Instant::now() < deadline, "the file system does not become read-only")?;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let sessions = open(&store)?;
    must(judge(&runtime, &sessions, &text(&kept)) == "active", "a read-only store does not verify")?;
    let refused = runtime.block_on(revoke(&sessions, ended.session.id));
    let says = format!("{refused:?}");
    must(says.contains("read-only"), &format!("a revocation on a read-only file system: {says}"))?;
    must(judge(&runtime, &sessions, &text(&ended)) == "revoked", "the process that could not revoke does not refuse")?;
    must(judge(&runtime, &open(&store)?, &text(&ended)) == "active", "what was refused was written")?;
    mount(folder, &["-o", "remount,rw"])?;
    runtime.block_on(revoke(&sessions, ended.session.id)).map_err(|error| format!("writable again: {error}"))?;
    must(judge(&runtime, &open(&store)?, &text(&ended)) == "revoked", "what was acknowledged is not there")?;
    must(judge(&runtime, &sessions, &text(&kept)) == "active", "a session was lost")?;
    std::fs::remove_file(&store)?;
    Ok(())
}

/// A process whose files may not grow beyond `limit`; answers how many sessions were acknowledged.
fn limited(folder: &Path, limit: u64) -> Result<usize, Failure> {
    let store = folder.join(format!("limited-{limit}.jsonl"));
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--fsize={limit}:unlimited")).arg(std::env::current_exe()?).arg("issue").arg(&store);
    let (mut ledger, mut process) = (Ledger::default(), Speaker::spawn(0, limited)?);
    let error = loop {
        let line = process.next()?;
        if let Some(error) = line.strip_prefix("failed - ") {
            break error.to_owned();
        }
        ledger.learn(0, &line)?;
    };
    must(error.contains("File too large"), &format!("it says {error}"))?;
    ledger.check_all(&store, &BTreeSet::new())?;
    numbers(&store)?;
    command("prlimit", &["--pid".to_owned(), process.id().to_string(), "--fsize=unlimited".to_owned()])?;
    process.tell("go on")?;
    ledger.learn(0, &process.next()?)?;
    for line in process.end()? {
        ledger.learn(0, &line)?;
    }
    ledger.check_all(&store, &BTreeSet::new())?;
    numbers(&store)?;
    ledger.verdict()?;
    Ok(ledger.sessions())
}
