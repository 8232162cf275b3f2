//! Tests of damage to the file. An incomplete last line is cut, and any other invalid line is refused with its number.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use common::*;
use tenure_adapter_json::{JsonStore, diagnose};
use tenure_domain::*;
use tenure_json_test_storage::SimulatedMachine;
use tenure_ports::{FindOptions, Severity, *};

fn open(path: &Path, time: &Arc<SimulatedMachine>) -> Result<Arc<JsonStore>, StoreError> {
    JsonStore::open(path, time.clone(), options(time))
}

async fn listed(store: &JsonStore) -> Vec<Session> {
    let all = Filter { scope: Scope::Retained, ..Filter::default() };
    store.list_sorted(&all, Timestamp::from_millis(START), SortKey::Created, 10_000).await.unwrap()
}

/// Makes a journal with every kind of line, and returns it with the sessions after each line. It has 200 lines in a
/// thorough run.
async fn journal(path: &Path, time: &Arc<SimulatedMachine>) -> (Vec<u8>, Vec<Vec<Session>>) {
    let store = open(path, time).unwrap();
    let mut states = vec![Vec::new(), Vec::new()];
    for n in 0..if thorough() { 92 } else { 14 } {
        time.pass(Millis::new(10));
        let issued = issue(&store, &format!("d{}", n % 2), n).await;
        states.push(listed(&store).await);
        let id = issued.session.id;
        let loaded = store.load_by_session(id).await.unwrap().unwrap();
        let now = store.clock().now();
        let commit = match n % 3 {
            0 => {
                let client = ClientInfo::default().with(ClientField::Address, "@ @ 10.0.0.1").unwrap();
                loaded.update_client(id, &client, &policy(), now).unwrap()
            }
            1 => loaded.revoke(&Selection::one(id), &cause(), &policy(), now).commit.unwrap(),
            _ => match loaded.rotate(&issued.token, &RotationSecret::new(bytes(n)), &policy(), now) {
                Decision::Accept(rotation) => rotation.commit,
                _ => unreachable!("the token is current"),
            },
        };
        store.commit(&commit).await.unwrap();
        states.push(listed(&store).await);
        if n % 6 == 3 {
            store.touch(&[Touch { session: id, at: now.plus(Millis::new(3)) }]).await.unwrap();
            store.close().await.unwrap();
            states.push(listed(&store).await);
        }
    }
    (std::fs::read(path).unwrap(), states)
}

fn private(path: &Path) -> std::fs::File {
    std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path).unwrap()
}

/// Whether this is a thorough run, which tries every bit and every byte. Other runs try some of them.
fn thorough() -> bool {
    std::env::var_os("TEST_FAULTS").is_some()
}

#[tokio::test]
async fn a_cut_at_any_byte_leaves_the_lines_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let time = machine();
    let (bytes, states) = journal(&dir.path().join("s.jsonl"), &time).await;
    let path = dir.path().join("cut.jsonl");
    let file = private(&path);
    let head = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    let stride = if thorough() { 1 } else { 5 };
    for length in (0..bytes.len()).filter(|length| length % stride == 0 || bytes[*length] == b'\n') {
        file.set_len(0).unwrap();
        file.write_all_at(&bytes[..length], 0).unwrap();
        let lines = bytes[..length].iter().filter(|byte| **byte == b'\n').count();
        let store = match open(&path, &time) {
            Ok(store) => store,
            Err(error) => {
                // The first line is never cut, because it was durable before the file became the store.
                assert!(length <= head, "{length}: {error}");
                assert!(matches!(error, StoreError::Corrupt { .. }), "{length}: {error}");
                continue;
            }
        };
        assert_eq!(listed(&store).await, states[lines], "{length}");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), length as u64);
        if length % 61 == 0 || bytes[length] == b'\n' {
            let complete = lines + usize::from(bytes[length] == b'\n');
            issue(&store, "after", 99).await;
            assert_eq!(listed(&store).await.len(), states[complete].len() + 1, "{length}");
            assert_eq!(listed(&open(&path, &time).unwrap()).await, listed(&store).await);
        }
    }
}

#[test]
fn a_flipped_bit_is_never_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let time = machine();
    let run = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (bytes, states) = run().block_on(journal(&dir.path().join("s.jsonl"), &time));
    let (bytes, last, time) = (&bytes, states.last().unwrap(), &time);
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    assert!(!thorough() || lines >= 200, "{lines}");
    let stride = if thorough() { 1 } else { 43 };
    let threads = if thorough() { std::thread::available_parallelism().map_or(1, usize::from) } else { 1 };
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let path = dir.path().join(format!("flipped-{thread}.jsonl"));
            scope.spawn(move || {
                let bits = (0..bytes.len() * 8).step_by(stride).skip(thread).step_by(threads);
                run().block_on(flip(&path, bytes, last, time, bits));
            });
        }
    });
    println!("{} bits of {lines} lines", (bytes.len() * 8).div_ceil(stride));
}

async fn flip(
    path: &Path,
    bytes: &[u8],
    last: &[Session],
    time: &Arc<SimulatedMachine>,
    bits: impl Iterator<Item = usize>,
) {
    let mut file = private(path);
    file.write_all(bytes).unwrap();
    for bit in bits {
        let at = bit / 8;
        file.write_all_at(&[bytes[at] ^ (1 << (bit % 8))], at as u64).unwrap();
        let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        match open(path, time) {
            Ok(store) => assert_eq!(&listed(&store).await, last, "bit {bit}"),
            Err(StoreError::Corrupt { location, .. }) => {
                assert!(location.ends_with(&format!(" line {line}")), "{bit}: {location}")
            }
            Err(other) => panic!("bit {bit}: {other}"),
        }
        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
    }
    assert_eq!(listed(&open(path, time).unwrap()).await, *last);
}

#[tokio::test]
async fn a_running_process_refuses_a_damaged_tail_and_keeps_refusing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let store = open(&path, &time).unwrap();
    let issued = issue(&store, "d", 1).await;
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"crc\":\"00000000\",\"tx\":{\"q\":3}}\n").unwrap();
    let before = std::fs::read(&path).unwrap();
    for _ in 0..2 {
        let error = store.find(issued.session.id, FindOptions::EXACT).await.unwrap_err();
        assert!(matches!(&error, StoreError::Corrupt { location, .. } if location.ends_with("line 3")), "{error}");
    }
    let commit = Device::unknown(device("e")).issue(new_session(2), &policy(), time.now()).unwrap().commit;
    assert!(matches!(store.commit(&commit).await, Err(CommitError::Store(StoreError::Corrupt { .. }))));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    let findings = diagnose(&path, time.clone());
    assert!(
        findings.iter().any(|found| found.severity == Severity::Failure && found.finding.contains("line 3")),
        "{findings:?}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_store_that_is_removed_or_shrinks_is_an_error_and_not_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let store = open(&path, &time).unwrap();
    let issued = issue(&store, "d", 1).await;
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(store.find(issued.session.id, FindOptions::EXACT).await, Err(StoreError::Unavailable { .. })));
    private(&path).write_all(&bytes).unwrap();
    assert!(store.find(issued.session.id, FindOptions::EXACT).await.unwrap().is_some());
    private(&path).write_all(&bytes[..300]).unwrap();
    assert!(matches!(store.find(issued.session.id, FindOptions::EXACT).await, Err(StoreError::Corrupt { .. })));
}

#[tokio::test]
async fn an_older_copy_put_in_place_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let store = open(&path, &time).unwrap();
    let first = issue(&store, "d", 1).await.session.id;
    let copy = std::fs::read(&path).unwrap();
    let second = issue(&store, "e", 2).await.session.id;
    let other = dir.path().join("copy");
    private(&other).write_all(&copy).unwrap();
    std::fs::rename(&other, &path).unwrap();
    assert!(store.find(first, FindOptions::EXACT).await.unwrap().is_some());
    assert_eq!(store.find(second, FindOptions::EXACT).await.unwrap(), None);
    issue(&store, "f", 3).await;
    assert_eq!(listed(&store).await, listed(&open(&path, &time).unwrap()).await);
}
