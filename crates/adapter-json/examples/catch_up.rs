//! Measures a look-up after another process has written: how long it blocks its async worker thread, and how long it
//! takes. The figures are in docs/adr/0012-blocking-in-the-json-store.md.
//!
//! Run `cargo run --release -p tenure-adapter-json --example catch_up -- FOLDER`, with a folder on the disk to measure.
//! Two stores on one file stand for two processes, because they share nothing but the file.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails has nothing to say")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tenure_adapter_json::{JsonStore, Options};
use tenure_conformance::SystemClock;
use tenure_domain::{ClientInfo, Device, DeviceId, Family, NewSession, Policy, RotationSecret, SessionId};
use tenure_ports::{Clock as _, FindOptions, prelude::*};

/// The numbers of records that are written before a look-up, and how often each is measured.
const RUNS: [(u64, usize); 7] = [(1, 9), (10, 9), (100, 9), (1_000, 9), (10_000, 5), (30_000, 3), (100_000, 3)];
/// The number of commits that wait for the writer at once.
const AT_ONCE: u64 = 2_000;

#[tokio::main]
async fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let folder = tempfile::tempdir_in(folder).unwrap();
    let path = folder.path().join("s.jsonl");
    // Compactions are asked for below, and do not come between.
    let open = || {
        JsonStore::open(&path, Arc::new(SystemClock), Options { compaction_threshold: 1 << 40, ..Options::default() })
    };
    let (writer, reader) = (open().unwrap(), open().unwrap());
    let id = issue(&writer, 0, 1_000).await;
    let mut next = 1_000;
    measure(&reader, id).await;
    for (count, runs) in RUNS {
        let mut times = Vec::new();
        for _ in 0..runs {
            issue(&writer, next, count).await;
            next += count;
            times.push(measure(&reader, id).await);
        }
        times.sort_unstable();
        print(&format!("{count} records"), times[runs / 2]);
    }
    writer.compact().await.unwrap();
    print("a compaction", measure(&reader, id).await);
    let copy = folder.path().join("copy");
    std::fs::copy(&path, &copy).unwrap();
    issue(&writer, next, 1).await;
    measure(&reader, id).await;
    restore(&copy, &path);
    print(&format!("a back-up of {next} sessions was restored"), measure(&reader, id).await);
}

fn restore(copy: &Path, path: &Path) {
    std::fs::rename(copy, path).unwrap();
}

/// Issues sessions on devices of their own. Returns the first one's id.
async fn issue(store: &Arc<JsonStore>, first: u64, count: u64) -> SessionId {
    let mut id = None;
    for from in (first..first + count).step_by(AT_ONCE as usize) {
        let commits: Vec<_> = (from..(from + AT_ONCE).min(first + count)).map(|n| new_commit(n, &mut id)).collect();
        let results = futures_util::future::join_all(commits.iter().map(|commit| store.commit(commit))).await;
        assert!(results.iter().all(Result::is_ok));
    }
    id.unwrap()
}

fn new_commit(n: u64, first: &mut Option<SessionId>) -> tenure_domain::Commit {
    let device = Device::unknown(DeviceId::new(&format!("device-{n}")).unwrap());
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    let new = NewSession {
        id: std::array::from_fn(|at| bytes[at]),
        family: Family::new(std::array::from_fn(|at| bytes[at])),
        rotation_secret: RotationSecret::new(std::array::from_fn(|at| bytes[at])),
        subject: format!("user-{}", n % 1_000).parse().unwrap(),
        client: Arc::new(ClientInfo::default()),
        terms: Policy::default().terms(None).unwrap(),
        expires_by: None,
    };
    let issue = device.issue(new, &Policy::default(), SystemClock.now()).unwrap();
    first.get_or_insert(issue.session.id);
    issue.commit
}

/// Returns how long the first poll of a look-up blocks the thread, and how long the whole look-up takes.
async fn measure(store: &JsonStore, id: SessionId) -> (Duration, Duration) {
    let start = Instant::now();
    let mut find = Box::pin(store.find(id, FindOptions::FOR_USE));
    let answer = (&mut find).now_or_never();
    let held = start.elapsed();
    let answer = match answer {
        Some(answer) => answer,
        None => find.await,
    };
    assert!(answer.unwrap().is_some());
    (held, start.elapsed())
}

fn print(written: &str, (held, answered): (Duration, Duration)) {
    println!("{written}: the thread was held for {held:.1?}, the answer came after {answered:.1?}");
}
