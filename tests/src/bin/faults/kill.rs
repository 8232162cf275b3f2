//! `kill -9` against processes that write.
//!
//! Writers say what they are about to do and what was acknowledged. The parent kills one at a random moment, starts
//! another, and asks a process that verifies, and itself with a newly opened store, about what was acknowledged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure_conformance::SystemRandom;

use crate::Failure;
use crate::child::{open, request};
use crate::known::Ledger;
use crate::process::{Speaker, Verifier};

const WRITERS: u64 = 4;
/// Who wrote the sessions that were there before.
const NOBODY: u64 = u64::MAX;
/// How many of the experiment's first sessions are issued at once.
const AT_ONCE: usize = 256;

pub(crate) fn run(rounds: u64, sessions: u64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let store: PathBuf = folder.path().join("sessions.jsonl");
    let mut ledger = Ledger::default();
    fill(&store, sessions, &mut ledger)?;
    let mut writers = (0..WRITERS).map(|number| Speaker::writer(number, &store)).collect::<Result<Vec<_>, _>>()?;
    let mut verifier = Verifier::start(&store)?;
    for round in 0..rounds {
        let next = Speaker::writer(WRITERS + round, &store)?;
        let mut victim = std::mem::replace(&mut writers[(round % WRITERS) as usize], next);
        let mut recent = BTreeSet::new();
        // It dies in the middle of its work, not of its start.
        recent.extend(ledger.learn(victim.number, &victim.next()?)?);
        std::thread::sleep(Duration::from_micros(u64::from(random()?) % 30_000));
        for writer in &writers {
            for line in writer.lines.try_iter() {
                recent.extend(ledger.learn(writer.number, &line)?);
            }
        }
        recent.extend(end(&mut victim, &mut ledger)?);
        let alive = writers.iter().map(|writer| writer.number).collect();
        ledger.check(&recent, &alive, |token| verifier.ask(token))?;
        if round % 50 == 49 {
            ledger.check_all(&store, &alive)?;
        }
    }
    for writer in &mut writers {
        end(writer, &mut ledger)?;
    }
    ledger.check_all(&store, &BTreeSet::new())?;
    println!(
        "{rounds} kills, {} sessions acknowledged, {} checks: {} acknowledged lost, {} revoked not refused; \
         slowest open {:?}",
        ledger.sessions(),
        ledger.checks,
        ledger.lost,
        ledger.accepted,
        ledger.slowest_open
    );
    ledger.verdict()
}

/// Kills a writer and takes in all that it still said.
fn end(writer: &mut Speaker, ledger: &mut Ledger) -> Result<BTreeSet<tenure_domain::SessionId>, Failure> {
    let mut recent = BTreeSet::new();
    for line in writer.end()? {
        recent.extend(ledger.learn(writer.number, &line)?);
    }
    Ok(recent)
}

/// Issues the sessions that are there before.
fn fill(store: &Path, count: u64, ledger: &mut Ledger) -> Result<(), Failure> {
    let began = Instant::now();
    let sessions = Arc::new(open(store)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let lines = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        let mut lines = Vec::new();
        for n in 0..count {
            let sessions = Arc::clone(&sessions);
            let request = request(&format!("before-{n}"))?;
            tasks.spawn(async move { sessions.issue(request).await });
            if tasks.len() >= AT_ONCE || n + 1 == count {
                while let Some(issued) = tasks.join_next().await {
                    let issued = issued??;
                    lines.push(format!("issued {} {}", issued.session.id, issued.token.to_text().expose()));
                }
            }
        }
        Ok::<_, Failure>(lines)
    })?;
    for line in lines {
        ledger.learn(NOBODY, &line)?;
    }
    println!("{count} sessions issued beforehand in {:?}", began.elapsed());
    Ok(())
}

fn random() -> Result<u16, Failure> {
    let mut bytes = [0; 2];
    tenure_ports::RandomSource::fill(&SystemRandom, &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}
