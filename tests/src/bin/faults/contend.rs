//! Two processes that write, one that verifies, and one that writes the journal anew each second.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::journal::numbers;
use crate::known::Ledger;
use crate::process::{Speaker, Verifier};

/// How much longer it may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn run(length: Duration) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let store = folder.path().join("sessions.jsonl");
    let mut ledger = Ledger::default();
    let mut writers = [Speaker::writer(0, &store)?, Speaker::writer(1, &store)?];
    for writer in &writers {
        ledger.learn(writer.number, &writer.next()?)?;
    }
    let alive = BTreeSet::from([0, 1]);
    let mut verifier = Verifier::start(&store)?;
    let mut compactor = Speaker::start(2, "compact", &store, &[])?;
    let (mut compactions, mut looks, mut last, mut acknowledged) = (0, 0, 0, 0_u64);
    let began = Instant::now();
    let mut look_at = began + Duration::from_millis(500);
    // On a busy machine it takes longer, until there were as many compactions as make a test.
    let wanted = usize::try_from(length.as_secs() / 2)?;
    while began.elapsed() < length || compactions < wanted {
        if began.elapsed() > length + PATIENCE {
            return Err(format!("{compactions} compactions in {:?}: nothing was tested", began.elapsed()).into());
        }
        let mut recent = BTreeSet::new();
        for writer in &writers {
            for line in writer.lines.try_iter() {
                acknowledged +=
                    u64::from(["issued ", "rotated ", "revoked "].iter().any(|word| line.starts_with(word)));
                recent.extend(ledger.learn(writer.number, &line)?);
            }
        }
        ledger.check(&recent, &alive, |token| verifier.ask(token))?;
        compactions += compactor.lines.try_iter().count();
        if Instant::now() >= look_at {
            let found = numbers(&store)?;
            if found.last < last {
                return Err(format!("the journal went back from transaction {last} to {}", found.last).into());
            }
            (last, looks) = (found.last, looks + 1);
            look_at += Duration::from_millis(500);
        }
        std::thread::yield_now();
    }
    for writer in writers.iter_mut().chain([&mut compactor]) {
        for line in writer.end()? {
            compactions += usize::from(line.starts_with("compacted"));
            ledger.learn(writer.number, &line)?;
        }
    }
    ledger.check_all(&store, &BTreeSet::new())?;
    let found = numbers(&store)?;
    println!(
        "{length:?}: {acknowledged} operations acknowledged by 2 writers, {compactions} compactions, {} sessions, \
         {} checks: {} acknowledged lost, {} revoked not refused; {looks} looks at the file: q without a gap, at \
         last {} in {} lines",
        ledger.sessions(),
        ledger.checks,
        ledger.lost,
        ledger.accepted,
        found.last,
        found.lines
    );
    ledger.verdict()
}
