//! A writer is stopped (SIGSTOP) while it holds the lock: whoever verifies goes on, whoever writes is told.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tenure_adapter_json::Options;
use tenure_service::Sessions;

use crate::Failure;
use crate::child::{judge, open, open_with, request, runtime};
use crate::known::Ledger;
use crate::process::Speaker;

/// What a writer waits for the lock at most, by default.
const DEADLINE: Duration = Duration::from_secs(2);
/// For a loaded machine.
const MARGIN: Duration = Duration::from_secs(20);
/// How often a stop that met a writer without the lock is tried again.
const ATTEMPTS: u32 = 200;

#[derive(Default)]
struct Seen {
    verified: u64,
    slowest_verify: Duration,
    slowest_error: Duration,
}

pub(crate) fn run(times: u64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("sessions.jsonl");
    let (runtime, mut ledger, mut seen) = (runtime()?, Ledger::default(), Seen::default());
    let sessions = open_with(&store, Options::default())?;
    let issued = runtime.block_on(sessions.issue(request("here")?))?;
    let token = issued.token.to_text().expose().to_owned();
    let mut writer = Speaker::writer(0, &store)?;
    ledger.learn(0, &writer.next()?)?;
    for _ in 0..times {
        let error = stop_with_the_lock(&writer, &runtime, &sessions, &mut seen)?;
        if !error.contains(&format!("process {} has held the store's lock for more than 2s", writer.id())) {
            return Err(format!("the error does not say who holds the lock: {error}").into());
        }
        let verifying = Instant::now();
        while verifying.elapsed() < Duration::from_millis(200) {
            let began = Instant::now();
            let answer = judge(&runtime, &sessions, &token);
            seen.slowest_verify = seen.slowest_verify.max(began.elapsed());
            if answer != "active" {
                return Err(format!("while the lock's holder is stopped, a token is {answer}").into());
            }
            seen.verified += 1;
        }
        // Also for a process that starts now.
        let answer = judge(&runtime, &open(&store)?, &token);
        if answer != "active" {
            return Err(
                format!("a process that starts while the lock's holder is stopped finds a token {answer}").into()
            );
        }
        writer.signal(Signal::CONT)?;
        runtime.block_on(open(&store)?.issue(request("afterwards")?))?;
        for line in writer.lines.try_iter() {
            ledger.learn(0, &line)?;
        }
    }
    for line in writer.end()? {
        ledger.learn(0, &line)?;
    }
    ledger.check_all(&store, &BTreeSet::new())?;
    println!(
        "{times} stops with the lock held: writers were told within {:?}, {} verifies went on, the slowest took {:?}; \
         {} acknowledged lost, {} revoked not refused",
        seen.slowest_error, seen.verified, seen.slowest_verify, ledger.lost, ledger.accepted
    );
    ledger.verdict()
}

/// Stops the writer in the middle of its work until a write of ours shows that it holds the lock; answers the error.
fn stop_with_the_lock(
    writer: &Speaker,
    runtime: &tokio::runtime::Runtime,
    sessions: &Sessions,
    seen: &mut Seen,
) -> Result<String, Failure> {
    for attempt in 0..ATTEMPTS {
        writer.signal(Signal::STOP)?;
        let began = Instant::now();
        match runtime.block_on(sessions.issue(request(&format!("meanwhile-{attempt}"))?)) {
            Err(error) => {
                seen.slowest_error = seen.slowest_error.max(began.elapsed());
                if began.elapsed() > DEADLINE + MARGIN {
                    return Err(format!("a writer was told only after {:?}: {error}", began.elapsed()).into());
                }
                return Ok(error.to_string());
            }
            // It was stopped between two writes.
            Ok(_) => writer.signal(Signal::CONT)?,
        }
        std::thread::sleep(Duration::from_micros(u64::from(attempt) * 137 % 3_000));
    }
    Err(format!("in {ATTEMPTS} attempts the writer was never stopped with the lock held").into())
}
