//! What a compaction does to those who write and to those who verify meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tenure_adapter_json::JsonStore;
use tenure_conformance::SeededRandom;
use tenure_domain::SessionId;
use tenure_ports::{FindOptions, prelude::*};
use tokio::runtime::Runtime;

use crate::Lines;
use crate::support::{ids, issue, open};

const RUNS: usize = 5;

/// One store is written anew while a task of it goes on issuing; another of the same file verifies meanwhile.
pub(crate) fn compaction(lines: &Lines, runtime: &Runtime, path: &Path) {
    let (writer, reader) = (open(path), open(path));
    let ids = runtime.block_on(ids(&reader));
    let (_, rest) = verifying(runtime, &reader, &ids, || std::thread::sleep(Duration::from_millis(500)));
    let mut waits = Vec::new();
    let mut looks = Vec::new();
    for run in 0..RUNS {
        let (wait, look) = verifying(runtime, &reader, &ids, || held(runtime, &writer, 30_000_000 + run * 100_000));
        waits.push(wait);
        looks.push(look);
    }
    waits.sort_unstable();
    looks.sort_unstable();
    let middle = RUNS / 2;
    lines.times("compaction: the longest wait of an issue, median of 5", waits[middle], None, [None; 2]);
    lines.times("compaction: the same, the worst of 5", waits[RUNS - 1], None, [None; 2]);
    lines.times("compaction: p99 of a look-up, median of 5 (floor: at rest)", looks[middle], Some(rest), [None; 2]);
    runtime.block_on(writer.close()).unwrap();
}

/// The 99th percentile of look-ups while something is done.
fn verifying<T>(runtime: &Runtime, reader: &JsonStore, ids: &[SessionId], work: impl FnOnce() -> T) -> (T, Duration) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let handle = scope.spawn(|| {
            let mut times = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                runtime.block_on(reader.find(ids[times.len() * 7919 % ids.len()], FindOptions::EXACT)).unwrap();
                times.push(start.elapsed());
            }
            times.sort_unstable();
            times[times.len() * 99 / 100]
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        (done, handle.join().unwrap())
    })
}

/// The longest that an issue took while the file was written anew.
fn held(runtime: &Runtime, writer: &Arc<JsonStore>, first: usize) -> Duration {
    let compacted = Arc::new(AtomicBool::new(false));
    let (store, done) = (Arc::clone(writer), Arc::clone(&compacted));
    let compaction = runtime.spawn(async move {
        let result = store.compact().await;
        done.store(true, Ordering::Relaxed);
        result
    });
    let random = SeededRandom::new(first as u64);
    let mut longest = Duration::ZERO;
    for n in first.. {
        let start = Instant::now();
        runtime.block_on(issue(writer, &random, n));
        longest = longest.max(start.elapsed());
        if compacted.load(Ordering::Relaxed) {
            break;
        }
    }
    runtime.block_on(compaction).unwrap().unwrap();
    longest
}
