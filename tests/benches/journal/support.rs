//! A store with sessions, and the parts that other processes of this program play.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure_adapter_json::{JsonStore, Options};
use tenure_conformance::{SeededRandom, SystemClock, SystemRandom};
use tenure_domain::*;
use tenure_ports::*;
use tenure_service::{IssueRequest, Sessions};

pub(crate) fn device(n: usize) -> DeviceId {
    DeviceId::new(&format!("device-{n}")).unwrap()
}

pub(crate) fn new_session(random: &SeededRandom, subject: usize) -> NewSession {
    NewSession {
        id: random.bytes(),
        family: Family::new(random.bytes()),
        rotation_secret: RotationSecret::new(random.bytes()),
        subject: Subject::new(&format!("user-{subject}")).unwrap(),
        client: Arc::new(ClientInfo::default().with(ClientField::Platform, "linux").unwrap()),
        terms: Policy::default().terms(None).unwrap(),
        expires_by: None,
    }
}

pub(crate) fn open(path: &Path) -> Arc<JsonStore> {
    JsonStore::open(path, Arc::new(SystemClock), Options::default()).unwrap()
}

pub(crate) fn service(store: &Arc<JsonStore>) -> Sessions {
    Sessions::new(Arc::clone(store) as _, store.clock(), Arc::new(SystemRandom), Policy::default())
}

/// Issues one session durably, on a device that has none yet.
pub(crate) async fn issue(store: &JsonStore, random: &SeededRandom, n: usize) {
    let loaded = store.load(&device(n)).await.unwrap();
    let issue = loaded.issue(new_session(random, 1), &Policy::default(), SystemClock.now()).unwrap();
    store.commit(&issue.commit).await.unwrap();
}

/// Issues `each` sessions durably in each of `tasks` concurrent tasks, on devices from `first` on.
pub(crate) async fn issues(store: &Arc<JsonStore>, tasks: usize, each: usize, first: usize) {
    let tasks = (0..tasks).map(|task| {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            let first = first + task * each;
            let random = SeededRandom::new(first as u64);
            for n in first..first + each {
                issue(&store, &random, n).await;
            }
        })
    });
    for task in futures_util::future::join_all(tasks.collect::<Vec<_>>()).await {
        task.unwrap();
    }
}

/// Makes a commit of new sessions on one device.
fn several(random: &SeededRandom, n: usize, count: usize) -> Commit {
    let mut sessions: Vec<Session> = Vec::new();
    for _ in 0..count {
        let loaded = Device::new(device(n), Revision::NONE, sessions.clone(), None);
        sessions
            .push(loaded.issue(new_session(random, n / 10), &Policy::default(), SystemClock.now()).unwrap().session);
    }
    Commit {
        device: device(n),
        expected: Revision::NONE,
        not_after: Timestamp::MAX,
        guards: Vec::new(),
        changes: sessions.into_iter().map(Change::Imported).collect(),
        expired: Vec::new(),
        retain: 100,
        watermark: None,
    }
}

/// Makes a store of `count` sessions, ten for each device, and one on a device of its own, whose token it prints.
async fn fill(path: &Path, count: usize) {
    let store = open(path);
    let random = SeededRandom::new(42);
    let mut left = count - 1;
    let commits: Vec<_> = (0..count / 10)
        .map(|n| {
            let some = left.min(10);
            left -= some;
            several(&random, n, some)
        })
        .collect();
    for some in commits.chunks(512) {
        for answer in futures_util::future::join_all(some.iter().map(|commit| store.commit(commit))).await {
            answer.unwrap();
        }
    }
    let request = IssueRequest {
        device: device(usize::MAX),
        subject: Subject::default(),
        client: ClientInfo::default(),
        ttl: None,
    };
    let token = service(&store).issue(request).await.unwrap().token;
    say(token.to_text().expose());
    store.close().await.unwrap();
}

/// Returns the ids of all sessions.
pub(crate) async fn ids(store: &JsonStore) -> Vec<SessionId> {
    let all = store.list_sorted(&Filter::default(), SystemClock.now(), SortKey::Created, usize::MAX).await.unwrap();
    all.iter().map(|session| session.id).collect()
}

fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Plays the part of a process that [`role`] or [`together`] has started.
pub(crate) fn play(runtime: &tokio::runtime::Runtime, role: &str, path: &Path, number: usize) {
    match role {
        "fill" => runtime.block_on(fill(path, number)),
        "open" => {
            let before = resident();
            let start = Instant::now();
            let store = open(path);
            say(&format!("{} {}", start.elapsed().as_nanos(), resident().saturating_sub(before)));
            runtime.block_on(store.close()).unwrap();
        }
        "issue" => {
            let store = open(path);
            say("ready");
            std::io::stdin().read_line(&mut String::new()).unwrap();
            runtime.block_on(issues(&store, EACH.0, EACH.1, number));
            say("done");
            runtime.block_on(store.close()).unwrap();
        }
        other => panic!("no role {other}"),
    }
}

/// The number of concurrent tasks of each process, and of the sessions that each task issues.
pub(crate) const EACH: (usize, usize) = (16, 500);

#[expect(clippy::print_stdout, reason = "the process that started this one reads it")]
fn say(line: &str) {
    println!("{line}");
}

/// Runs a process of this program in a role until it ends, and returns what it printed.
pub(crate) fn role(role: &str, path: &Path, number: usize) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["role", role])
        .arg(path)
        .arg(number.to_string())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{role} failed");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Returns how long a new process takes to open the store, and how many bytes of memory are resident for it.
pub(crate) fn opened(path: &Path) -> (Duration, u64) {
    let said = role("open", path, 0);
    let (nanos, bytes) = said.split_once(' ').unwrap();
    (Duration::from_nanos(nanos.parse().unwrap()), bytes.parse().unwrap())
}

/// Returns how long `count` processes take to issue their sessions, if all begin at once.
pub(crate) fn together(path: &Path, count: usize) -> Duration {
    let mut children: Vec<_> = (0..count)
        .map(|n| {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["role", "issue"])
                .arg(path)
                .arg((40_000_000 + n * 1_000_000).to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
            assert_eq!(said.next().unwrap().unwrap(), "ready");
            (child, said)
        })
        .collect();
    let start = Instant::now();
    for (child, _) in &mut children {
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
    }
    for (_, said) in &mut children {
        assert_eq!(said.next().unwrap().unwrap(), "done");
    }
    let took = start.elapsed();
    for (mut child, _) in children {
        assert!(child.wait().unwrap().success());
    }
    took
}
