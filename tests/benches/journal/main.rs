//! What the JSON store costs, in one table: beside the bare floor of each thing, and beside what people use instead,
//! SQLite in WAL mode and a JSON file that is rewritten whole.
//!
//! `cargo bench -p tenure-tests --bench journal`; `TEST_SIZES` (default `1000,100000,1000000`) are the numbers of
//! sessions, and `TEST_TENURE` the release binary, if it is not at `target/release/tenure`. The files lie in the
//! system's folder for temporary files (`TMPDIR`), which has to be on the disk that is asked about.

#![expect(clippy::unwrap_used, reason = "a measurement that fails has nothing to say")]

mod beside;
mod compaction;
mod support;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use beside::{Sqlite, Whole};
use support::{ids, issue, open, opened, role, service};
use tenure_adapter_json::JsonStore;
use tenure_conformance::{SeededRandom, SystemClock};
use tenure_domain::{Filter, Millis, SessionId, SortKey, Subject, Token, Touch};
use tenure_ports::{Clock as _, prelude::*};
use tenure_service::ActivityMode;
use tokio::runtime::Runtime;

/// Rounds of an issue and its rivals, and how often each has its turn in one.
const ROUNDS: (u32, u32) = (20, 50);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [first, role, path, number] = args.as_slice()
        && first == "role"
    {
        return support::play(&runtime, role, Path::new(path), number.parse().unwrap());
    }
    let sizes = std::env::var("TEST_SIZES").unwrap_or_else(|_| "1000,100000,1000000".to_owned());
    row(["sessions", "what", "Tenure", "bare floor", "ratio", "SQLite, WAL", "whole file"].map(str::to_owned));
    row(["---"; 7].map(str::to_owned));
    for size in sizes.split(',') {
        measure(&runtime, size.trim().parse().unwrap());
    }
}

#[expect(clippy::print_stdout, reason = "the table is what it is for")]
fn row(cells: [String; 7]) {
    println!("| {} |", cells.join(" | "));
}

/// The mean of so many times.
fn timed(times: u32, mut work: impl FnMut(u32)) -> Duration {
    let start = Instant::now();
    (0..times).for_each(&mut work);
    start.elapsed() / times
}

/// The lines of one size.
struct Lines(usize);

impl Lines {
    /// A line of times; those that are not measured are a dash.
    fn times(&self, what: &str, tenure: Duration, floor: Option<Duration>, others: [Option<Duration>; 2]) {
        let ratio = floor.map(|floor| tenure.as_secs_f64() / floor.as_secs_f64());
        let text = |time: Option<Duration>| time.map_or_else(dash, |time| format!("{time:.1?}"));
        let ratio = ratio.map_or_else(dash, |ratio| format!("{ratio:.2}"));
        let [sqlite, whole] = others;
        row([self.0.to_string(), what.to_owned(), text(Some(tenure)), text(floor), ratio, text(sqlite), text(whole)]);
    }

    /// A line of something else.
    fn text(&self, what: &str, tenure: String, floor: Option<String>, ratio: Option<f64>) {
        let ratio = ratio.map_or_else(dash, |ratio| format!("{ratio:.2}"));
        let floor = floor.unwrap_or_else(dash);
        row([self.0.to_string(), what.to_owned(), tenure, floor, ratio, dash(), dash()]);
    }
}

fn dash() -> String {
    "-".to_owned()
}

fn measure(runtime: &Runtime, count: usize) {
    let lines = Lines(count);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.jsonl");
    let token = role("fill", &path, count);
    let sqlite = Sqlite::filled(folder.path(), count);
    let mut whole = Whole::filled(folder.path(), count);
    // A rewritten file of many sessions takes seconds: fewer turns will do.
    let few = u32::try_from(200_000 / count).unwrap().clamp(1, 20);

    let (cold, warm) = opening(&path);
    // As long as there are just so many sessions.
    processes(&lines, &path, &token, warm.unwrap_or(cold).0);
    compaction::compaction(&lines, runtime, &path);
    let store = open(&path);
    let ids: Vec<SessionId> = runtime.block_on(ids(&store));
    issuing(&lines, runtime, folder.path(), (&store, &path), &sqlite, whole.issue(few));
    let tenure = runtime.block_on(touching(&store, &ids));
    lines.times("touch, not synced", tenure, None, [Some(sqlite.touch(2000, count)), Some(whole.touch(few))]);
    listing(&lines, runtime, &store, [sqlite.list(100), whole.list(few)]);
    let read = timed(few, |_| assert!(!std::fs::read(&path).unwrap().is_empty()));
    let (sqlite, whole) = (Some(sqlite.open(20)), Some(whole.open(few)));
    lines.times("open, no index (floor: read the file)", cold.0, Some(read), [sqlite, whole]);
    if let Some(warm) = warm {
        lines.times("open, fresh index (floor: read the file)", warm.0, Some(read), [sqlite, whole]);
    }
    lines.text("memory a session, no index", format!("{} B", cold.1 / count as u64), None, None);
    concurrent(&lines, runtime, folder.path(), &path, &store);
    verifying(&lines, runtime, &store, &token);
    runtime.block_on(store.close()).unwrap();
}

/// The median of five processes without an index, and with one where the journal is long enough to get one.
fn opening(path: &Path) -> ((Duration, u64), Option<(Duration, u64)>) {
    let index = path.with_extension("jsonl.index");
    let median = |before: &dyn Fn()| {
        let mut all: Vec<_> = (0..5)
            .map(|_| {
                before();
                opened(path)
            })
            .collect();
        all.sort_unstable();
        all[2]
    };
    let cold = median(&|| drop(std::fs::remove_file(&index)));
    // The last of them left one.
    (cold, index.exists().then(|| median(&|| ())))
}

fn issuing(
    lines: &Lines,
    runtime: &Runtime,
    folder: &Path,
    (store, path): (&JsonStore, &Path),
    sqlite: &Sqlite,
    whole: Duration,
) {
    let random = SeededRandom::new(99);
    let mut next = 10_000_000;
    let mut one = || {
        next += 1;
        runtime.block_on(issue(store, &random, next));
    };
    one();
    let before = std::fs::metadata(path).unwrap().len();
    one();
    let bytes = usize::try_from(std::fs::metadata(path).unwrap().len().saturating_sub(before)).unwrap();
    let line = vec![b'x'; bytes.clamp(300, 1000)];
    let mut file = File::create(folder.join("bare")).unwrap();
    let mut sums = [Duration::ZERO; 3];
    // In turn, since a disk's mood changes from one second to the next.
    for round in 0..ROUNDS.0 {
        sums[0] += timed(ROUNDS.1, |_| one());
        sums[1] += timed(ROUNDS.1, |_| {
            file.write_all(&line).unwrap();
            file.sync_data().unwrap();
        });
        sums[2] += timed(ROUNDS.1, |n| sqlite.issue(20_000_000 + (round * ROUNDS.1 + n) as usize));
    }
    let [tenure, floor, sqlite] = sums.map(|sum| sum / ROUNDS.0);
    let what = format!("durable issue, one writer (floor: append {} B, fdatasync)", line.len());
    lines.times(&what, tenure, Some(floor), [Some(sqlite), Some(whole)]);
}

async fn touching(store: &JsonStore, ids: &[SessionId]) -> Duration {
    let random = SeededRandom::new(7);
    let start = Instant::now();
    for n in 0..100_000 {
        let touch =
            Touch { session: ids[random.number() as usize % ids.len()], at: SystemClock.now().plus(Millis::new(n)) };
        store.touch(&[touch]).await.unwrap();
    }
    start.elapsed() / 100_000
}

fn listing(lines: &Lines, runtime: &Runtime, store: &JsonStore, others: [Duration; 2]) {
    let top = |filter: Filter, limit| {
        timed(20, |_| {
            let found =
                runtime.block_on(store.list_sorted(&filter, SystemClock.now(), SortKey::LastActivity, limit)).unwrap();
            assert!(!found.is_empty());
        })
    };
    let whole = "list, 50 last active (the file's: parsed first)";
    lines.times(whole, top(Filter::default(), 50), None, others.map(Some));
    let one = Filter { subject: Some(Subject::new("user-3").unwrap()), ..Filter::default() };
    lines.times("list, one subject's 100", top(one, 1000), None, [None; 2]);
}

fn concurrent(lines: &Lines, runtime: &Runtime, folder: &Path, path: &Path, store: &std::sync::Arc<JsonStore>) {
    let start = Instant::now();
    runtime.block_on(support::issues(store, 64, 1000, 20_000_000));
    let tenure = 64_000.0 / start.elapsed().as_secs_f64();
    let mut file = File::create(folder.join("bare")).unwrap();
    let batch = vec![b'x'; 64 * 400];
    let floor = timed(500, |_| {
        file.write_all(&batch).unwrap();
        file.sync_data().unwrap();
    });
    let floor = 64.0 / floor.as_secs_f64();
    let what = "64 tasks, durable issues a second (floor: 64 of 400 B in one append, fdatasync)";
    lines.text(what, format!("{tenure:.0}"), Some(format!("{floor:.0}")), Some(tenure / floor));
    let all = 4 * support::EACH.0 * support::EACH.1;
    let tenure = all as f64 / support::together(path, 4).as_secs_f64();
    lines.text("4 processes of 16 tasks, durable issues a second together", format!("{tenure:.0}"), None, None);
}

fn verifying(lines: &Lines, runtime: &Runtime, store: &std::sync::Arc<JsonStore>, token: &str) {
    let sessions = service(store);
    let parsed = Token::parse(token).unwrap();
    let verify = || drop(runtime.block_on(sessions.verify(&parsed, ActivityMode::Record)).unwrap());
    verify();
    let allocated = allocation_counter::measure(|| (0..1000).for_each(|_| verify()));
    lines.text("allocations of 1,000 verifications", allocated.count_total.to_string(), None, None);
}

/// Commands from their start to their end, with the index that was left by the process before, beside what opening the
/// store takes.
fn processes(lines: &Lines, path: &Path, token: &str, opening: Duration) {
    let binary = std::env::var_os("TEST_TENURE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/tenure"), PathBuf::from);
    if !binary.exists() {
        return lines.text("whole processes of `tenure`", "no binary".to_owned(), None, None);
    }
    let run = |command: &mut Command, input: &str| {
        command.env_clear().env("HOME", path.parent().unwrap()).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    };
    let took = |arguments: &[&str], input: &str| {
        let once = |_| {
            let mut command = Command::new(&binary);
            run(command.arg("--store").arg(path).args(arguments), input);
        };
        once(0);
        timed(10, once)
    };
    let cat = timed(10, |_| run(&mut Command::new("/bin/cat"), token));
    let verify = took(&["token", "verify"], token);
    lines.times("process: `tenure token verify` (floor: `cat`)", verify, Some(cat), [None; 2]);
    let list = took(&["sessions", "list", "--limit", "50"], "");
    lines.times("process: `tenure sessions list --limit 50` (floor: opening)", list, Some(opening), [None; 2]);
    let list = took(&["sessions", "list", "--subject", "user-3"], "");
    lines.times(
        "process: `tenure sessions list --subject`, 100 of it (floor: opening)",
        list,
        Some(opening),
        [None; 2],
    );
}
