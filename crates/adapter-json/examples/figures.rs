//! Figures of the JSON store on the machine at hand, each beside its bare floor where it has one:
//! `cargo run --release -p tenure-adapter-json --example figures -- 100000 [DIRECTORY]`
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement that fails has nothing to say")]

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tenure_adapter_json::{JsonStore, Options};
use tenure_domain::*;
use tenure_ports::*;

struct Wall;

impl Clock for Wall {
    #[expect(clippy::disallowed_methods, reason = "it is the wall clock port")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp::from_millis(since.as_millis() as u64)
    }
}

struct Random(u64);

impl Random {
    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 24) as u8
        })
    }
}

fn device(n: usize) -> DeviceId {
    DeviceId::new(&format!("device-{n}")).unwrap()
}

fn enrolment(random: &mut Random, subject: usize) -> Enrolment {
    Enrolment {
        id: random.bytes(),
        family: Family::new(random.bytes()),
        fresh: Fresh::new(random.bytes()),
        subject: Subject::new(&format!("user-{subject}")).unwrap(),
        client: Arc::new(ClientInfo::default().with(ClientField::Platform, "linux").unwrap()),
        terms: Policy::default().terms(None).unwrap(),
        expires_by: None,
    }
}

/// A commit of ten new sessions on one device.
fn ten(random: &mut Random, n: usize) -> Commit {
    let mut sessions: Vec<Session> = Vec::new();
    for _ in 0..10 {
        let loaded = Device::new(device(n), Revision::NONE, sessions.clone(), None);
        sessions.push(loaded.issue(enrolment(random, n / 10), &Policy::default(), Wall.now()).session);
    }
    Commit {
        device: device(n),
        expected: Revision::NONE,
        not_after: Timestamp::MAX,
        guards: Vec::new(),
        changes: sessions.into_iter().map(Change::Imported).collect(),
        lapsed: Vec::new(),
        retain: 100,
        horizon: None,
    }
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn per<T>(what: &str, times: u32, mut work: impl FnMut(u32) -> T) -> Duration {
    let start = Instant::now();
    for n in 0..times {
        std::hint::black_box(work(n));
    }
    let each = start.elapsed() / times;
    println!("{what}: {each:?}");
    each
}

fn open(path: &Path) -> Arc<JsonStore> {
    JsonStore::open(path, Arc::new(Wall), Options::default()).unwrap()
}

async fn fill(path: &Path, count: usize) -> Vec<SessionId> {
    let store = open(path);
    let mut random = Random(42);
    let mut ids = Vec::new();
    let commits: Vec<_> = (0..count / 10).map(|n| ten(&mut random, n)).collect();
    for some in commits.chunks(512) {
        for answer in futures_util::future::join_all(some.iter().map(|commit| store.commit(commit))).await {
            answer.unwrap();
        }
    }
    for commit in &commits {
        ids.extend(commit.changes.iter().map(|change| change.session().id));
    }
    ids
}

fn bare(directory: &Path, bytes: usize) -> Duration {
    let path = directory.join("bare");
    let mut file = std::fs::File::create(&path).unwrap();
    let line = vec![b'x'; bytes];
    let each = per(&format!("floor: append {bytes} B and fdatasync"), 1000, |_| {
        file.write_all(&line).unwrap();
        file.sync_data().unwrap();
    });
    drop(std::fs::remove_file(path));
    each
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let directory = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(directory).unwrap();
    let path = directory.path().join("s.jsonl");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let ids = runtime.block_on(fill(&path, count));
    println!("{count} sessions, {} bytes", std::fs::metadata(&path).unwrap().len());

    std::thread::sleep(Duration::from_millis(100));
    let before = resident();
    let start = Instant::now();
    let store = open(&path);
    println!("open: {:?}, {} bytes of memory a session", start.elapsed(), (resident() - before) / count as u64);

    let mut random = Random(7);
    let mut pick = || ids[u64::from_le_bytes(random.bytes()) as usize % ids.len()];
    let file = std::fs::File::open(&path).unwrap();
    per("floor: fstat", 1_000_000, |_| file.metadata().unwrap().len());
    runtime.block_on(async {
        let start = Instant::now();
        for _ in 0..1_000_000 {
            std::hint::black_box(store.find(pick()).await.unwrap());
        }
        println!("find: {:?}", start.elapsed() / 1_000_000);
        let start = Instant::now();
        for n in 0..100_000 {
            let at = Wall.now().plus(Millis::new(n));
            store.touch(&[Touch { session: pick(), at }]).await.unwrap();
        }
        println!("touch, one at a time: {:?}", start.elapsed() / 100_000);
        let start = Instant::now();
        store.close().await.unwrap();
        println!("close: {:?}", start.elapsed());
        let start = Instant::now();
        for n in 0..1000 {
            let at = Wall.now().plus(Millis::new(1_000_000 + n));
            let touches: Vec<_> = (0..100).map(|_| Touch { session: pick(), at }).collect();
            store.touch(&touches).await.unwrap();
        }
        store.close().await.unwrap();
        println!("touch, a hundred at a time and written: {:?}", start.elapsed() / 100_000);
        let start = Instant::now();
        let listed = store.top(&Filter::default(), Wall.now(), SortKey::LastActivity, 50).await.unwrap();
        println!("list 50 of all: {:?} ({})", start.elapsed(), listed.len());
        let start = Instant::now();
        let filter = Filter { subject: Some(Subject::new("user-3").unwrap()), ..Filter::default() };
        let listed = store.top(&filter, Wall.now(), SortKey::Created, 1000).await.unwrap();
        println!("one subject's: {:?} ({})", start.elapsed(), listed.len());
    });
    let before = std::fs::metadata(&path).unwrap().len();
    let mut latest = Vec::new();
    runtime.block_on(async {
        let mut random = Random(99);
        for n in 0..1000 {
            let name = device(10_000_000 + n);
            let start = Instant::now();
            let issue =
                store.load(&name).await.unwrap().issue(enrolment(&mut random, 1), &Policy::default(), Wall.now());
            store.commit(&issue.commit).await.unwrap();
            latest.push(start.elapsed());
        }
    });
    latest.sort_unstable();
    let grown = (std::fs::metadata(&path).unwrap().len().saturating_sub(before) / 1000) as usize;
    let mean = latest.iter().sum::<Duration>() / 1000;
    println!("issue, one writer: mean {mean:?}, p50 {:?}, p99 {:?}", latest[500], latest[990]);
    let floor = bare(directory.path(), grown.clamp(300, 1000));
    println!("issue over floor: {:.2}", mean.as_secs_f64() / floor.as_secs_f64());
    concurrent(&runtime, &store);
    compaction(&runtime, &path, &ids);
    let bytes = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::File::open(&path).unwrap();
    let mut whole = vec![0; bytes as usize];
    per("floor: read the file", 1, |_| file.read_exact_at(&mut whole, 0).unwrap());
}

fn concurrent(runtime: &tokio::runtime::Runtime, store: &Arc<JsonStore>) {
    const EACH: usize = 1000;
    let start = Instant::now();
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let store = Arc::clone(store);
            runtime.spawn(async move {
                let mut random = Random(1000 + task as u64);
                for n in 0..EACH {
                    let name = device(20_000_000 + task * EACH + n);
                    let loaded = store.load(&name).await.unwrap();
                    let issue = loaded.issue(enrolment(&mut random, 1), &Policy::default(), Wall.now());
                    store.commit(&issue.commit).await.unwrap();
                }
            })
        })
        .collect();
    runtime.block_on(futures_util::future::join_all(tasks));
    println!("64 tasks: {:.0} durable issues a second", 64.0 * EACH as f64 / start.elapsed().as_secs_f64());
}

/// One store compacts as soon as it writes; another of the same file verifies meanwhile.
fn compaction(runtime: &tokio::runtime::Runtime, path: &Path, ids: &[SessionId]) {
    let reader = open(path);
    let percentile = |mut times: Vec<Duration>| {
        times.sort_unstable();
        (times[times.len() * 99 / 100], times[times.len() - 1], times.len())
    };
    let verify = |stop: &AtomicBool| {
        let mut times = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            runtime.block_on(reader.find(ids[times.len() % ids.len()])).unwrap();
            times.push(start.elapsed());
        }
        times
    };
    let stop = AtomicBool::new(false);
    let quiet = std::thread::scope(|scope| {
        let handle = scope.spawn(|| verify(&stop));
        std::thread::sleep(Duration::from_millis(500));
        stop.store(true, Ordering::Relaxed);
        percentile(handle.join().unwrap())
    });
    println!("verify at rest: p99 {:?}, longest {:?} of {}", quiet.0, quiet.1, quiet.2);
    let writer = JsonStore::open(path, Arc::new(Wall), Options { compact_floor: 0, ..Options::default() }).unwrap();
    let stop = AtomicBool::new(false);
    let mut random = Random(4711);
    let size = std::fs::metadata(path).unwrap().len();
    std::thread::scope(|scope| {
        let handle = scope.spawn(|| verify(&stop));
        let mut longest = Duration::ZERO;
        for n in 0..40_000 {
            let issue = Device::unknown(device(30_000_000 + n)).issue(
                enrolment(&mut random, 1),
                &Policy::default(),
                Wall.now(),
            );
            let start = Instant::now();
            runtime.block_on(writer.commit(&issue.commit)).unwrap();
            longest = longest.max(start.elapsed());
            if std::fs::metadata(path).unwrap().len() < size {
                println!("compacted after {n} issues");
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let (p99, worst, count) = percentile(handle.join().unwrap());
        println!(
            "while compacting: a writer waited at most {longest:?}; verify p99 {p99:?}, longest {worst:?} of {count}"
        );
    });
}
