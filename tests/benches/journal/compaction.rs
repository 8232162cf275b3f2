//! What a compaction does to those who write and to those who verify meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tenure_adapter_json::{JsonStore, Options};
use tenure_domain::{Device, Policy, SessionId};
use tenure_ports::{Clock as _, SessionRepository as _};
use tenure_tests::host::WallClock;
use tokio::runtime::Runtime;

use crate::Lines;
use crate::stand::{Random, device, enrolment, open};

/// One store compacts as soon as it may; another of the same file verifies meanwhile.
pub(crate) fn compaction(lines: &Lines, runtime: &Runtime, path: &Path, ids: &[SessionId]) {
    let reader = open(path);
    let stop = AtomicBool::new(false);
    let rest = std::thread::scope(|scope| {
        let handle = scope.spawn(|| verify(runtime, &reader, ids, &stop));
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        handle.join().unwrap()
    });
    let writer =
        JsonStore::open(path, Arc::new(WallClock), Options { compact_floor: 0, ..Options::default() }).unwrap();
    stop.store(false, Ordering::Relaxed);
    let (longest, during) = std::thread::scope(|scope| {
        let handle = scope.spawn(|| verify(runtime, &reader, ids, &stop));
        let longest = until_compacted(runtime, &writer, path);
        stop.store(true, Ordering::Relaxed);
        (longest, handle.join().unwrap())
    });
    match longest {
        Some(longest) => {
            lines.times("longest wait of a writer while all is written anew", longest, None, [None; 2]);
            lines.times("p99 of a look-up meanwhile (floor: at rest)", during, Some(rest), [None; 2]);
        }
        None => lines.text("compaction", "did not come".to_owned(), None, None),
    }
    runtime.block_on(writer.close()).unwrap();
}

/// The 99th percentile of look-ups until told to stop.
fn verify(runtime: &Runtime, reader: &JsonStore, ids: &[SessionId], stop: &AtomicBool) -> Duration {
    let mut times = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        runtime.block_on(reader.find(ids[times.len() % ids.len()])).unwrap();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Issues until the file is smaller than before; the longest that one issue took.
fn until_compacted(runtime: &Runtime, writer: &JsonStore, path: &Path) -> Option<Duration> {
    let mut random = Random(4711);
    let mut size = std::fs::metadata(path).unwrap().len();
    let mut longest = Duration::ZERO;
    for n in 0..40_000 {
        let fresh = Device::unknown(device(30_000_000 + n));
        let issue = fresh.issue(enrolment(&mut random, 1), &Policy::default(), WallClock.now());
        let start = Instant::now();
        runtime.block_on(writer.commit(&issue.commit)).unwrap();
        longest = longest.max(start.elapsed());
        let now = std::fs::metadata(path).unwrap().len();
        if now < size {
            return Some(longest);
        }
        size = now;
    }
    None
}
