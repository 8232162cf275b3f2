//! Tests of the index. Whatever its state, the answers are those that the journal alone gives.

use super::*;

fn index() -> PathBuf {
    PathBuf::from("/sim/s.jsonl.index")
}

/// The sessions of a store, and the revision, sessions and watermark of each device.
type Known = (Vec<Session>, Vec<(Revision, Vec<Session>, Option<RevocationWatermark>)>);

/// Returns all sessions with their activity, and the parts of each device that decisions depend on.
async fn all(store: &JsonStore) -> Result<Known, StoreError> {
    let filter = Filter { scope: Scope::Retained, ..Filter::default() };
    let sessions = store.list_sorted(&filter, Timestamp::from_millis(START), SortKey::Created, 10_000).await?;
    let mut devices = Vec::new();
    for name in ["d0", "d1", "d2", "d3", "none"] {
        let loaded = store.load(&device(name)).await?;
        // The order of a device's sessions has no meaning.
        let mut own = loaded.sessions().to_vec();
        own.sort_by_key(|session| session.id);
        devices.push((loaded.revision(), own, loaded.revocation_watermark()));
    }
    let subject = Filter { subject: Some(Subject::default()), ..filter };
    let listed = store.list_sorted(&subject, Timestamp::from_millis(START), SortKey::Created, 10_000).await?;
    assert_eq!(listed, sessions, "all sessions belong to one subject");
    for session in &sessions {
        assert_eq!(store.find(session.id, FindOptions::EXACT).await?.as_ref(), Some(session));
    }
    Ok((sessions, devices))
}

/// Makes a disk with the files of a history: with compactions, an index, and lines that the index does not cover.
fn disk_after_history() -> (SimulatedStorage, Arc<SimulatedMachine>) {
    let (fs, time) = (empty_disk(), machine());
    run(history(&fs, &time, &mut Log::default())).unwrap();
    (fs, time)
}

/// Returns how many bytes of the journal the index covers for a new process.
fn covered(fs: &SimulatedStorage, time: &Arc<SimulatedMachine>) -> u64 {
    mount(fs, time).unwrap().indexed_bytes()
}

/// Shows that an index of 0.1.0 is used. `tests/tests/it/fixtures.rs` shows that the answers are right.
#[test]
fn an_index_of_0_1_0_is_used() {
    let unpacked = |name: &str| {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/0.1.0/bulk");
        let mut bytes = Vec::new();
        let packed = std::fs::File::open(fixtures.join(name)).unwrap();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut bytes).unwrap();
        bytes
    };
    let (fs, time) = (empty_disk(), machine());
    // This is later than the journal's last line.
    time.set_clock(Timestamp::from_millis(1_796_200_000_000));
    fs.put(&path(), &unpacked("sessions.jsonl.gz"));
    fs.put(&index(), &unpacked("sessions.jsonl.index.gz"));
    assert!(covered(&fs, &time) > 1 << 20);
}

/// Makes a disk with the files of another one. `with` replaces or removes some of them.
fn copy(from: &SimulatedStorage, with: &[(PathBuf, Option<Vec<u8>>)]) -> SimulatedStorage {
    let to = empty_disk();
    for name in [path(), index()] {
        let other = with.iter().find(|(other, _)| *other == name).map(|(_, bytes)| bytes.clone());
        if let Some(bytes) = other.unwrap_or_else(|| from.content(&name)) {
            to.put(&name, &bytes);
        }
    }
    to
}

fn answers(fs: &SimulatedStorage, time: &Arc<SimulatedMachine>) -> Result<Known, StoreError> {
    run(async {
        let store = mount(fs, time)?;
        all(&store).await
    })
}

#[test]
fn an_index_gives_what_the_journal_does() {
    let (fs, time) = disk_after_history();
    let plain = copy(&fs, &[(index(), None)]);
    assert!(covered(&fs, &time) > 3000, "the history leaves an index");
    assert_eq!(covered(&plain, &time), 0);
    assert_eq!(answers(&fs, &time).unwrap(), answers(&plain, &time).unwrap());
    // Both stores answer alike after more changes.
    let after = |fs: &SimulatedStorage| {
        run(async {
            let store = mount(fs, &time).unwrap();
            for n in 0..20 {
                issue(&store, &format!("d{}", n % 4), 5000 + n).await;
            }
            store.close().await.unwrap();
            all(&store).await.unwrap()
        })
    };
    let (with, without) = (after(&fs), after(&plain));
    assert_eq!(with, without);
    assert_eq!(answers(&plain, &time).unwrap(), with);
}

#[test]
fn a_process_that_read_much_leaves_an_index_when_it_closes() {
    let (fs, time) = disk_after_history();
    let fs = copy(&fs, &[(index(), None)]);
    run(async { mount(&fs, &time).unwrap().close().await.unwrap() });
    let size = fs.content(&path()).unwrap().len() as u64;
    assert_eq!(covered(&fs, &time), size);
    let before = fs.content(&index());
    run(async { mount(&fs, &time).unwrap().close().await.unwrap() });
    assert_eq!(fs.content(&index()), before, "the next process has nothing to write");
}

#[test]
fn damage_to_an_index_changes_no_answer() {
    let (fs, time) = disk_after_history();
    let expected = answers(&fs, &time).unwrap();
    let bytes = fs.content(&index()).unwrap();
    for at in (0..bytes.len()).step_by(3) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let damaged = copy(&fs, &[(index(), Some(flipped))]);
        assert_eq!(covered(&damaged, &time), 0, "bit of byte {at}");
        if at % 31 == 0 {
            assert_eq!(answers(&damaged, &time).unwrap(), expected, "bit of byte {at}");
        }
    }
    for length in (0..bytes.len()).step_by(17) {
        let cut = copy(&fs, &[(index(), Some(bytes[..length].to_vec()))]);
        assert_eq!(covered(&cut, &time), 0, "cut at {length}");
        let zeros = [&bytes[..length], &vec![0; bytes.len() - length]].concat();
        let torn = copy(&fs, &[(index(), Some(zeros))]);
        assert_eq!(covered(&torn, &time), 0, "zeros from {length}");
    }
}

#[test]
fn an_index_hides_no_damage_to_the_journal() {
    let (fs, time) = disk_after_history();
    let bytes = fs.content(&path()).unwrap();
    for at in (0..bytes.len()).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let with = answers(&copy(&fs, &[(path(), Some(flipped.clone()))]), &time);
        let without = answers(&copy(&fs, &[(path(), Some(flipped)), (index(), None)]), &time);
        assert_eq!(with.is_ok(), without.is_ok(), "bit of byte {at}");
        if let (Err(with), Err(without)) = (with, without) {
            assert_eq!(with, without, "bit of byte {at}");
        }
    }
    for length in (0..bytes.len()).step_by(101) {
        let with = answers(&copy(&fs, &[(path(), Some(bytes[..length].to_vec()))]), &time);
        let without = answers(&copy(&fs, &[(path(), Some(bytes[..length].to_vec())), (index(), None)]), &time);
        assert_eq!(with, without, "cut at {length}");
    }
}

#[test]
fn the_index_of_another_store_is_ignored() {
    let ((fs, time), other) = (disk_after_history(), empty_disk());
    run(async {
        let store = mount(&other, &time).unwrap();
        for n in 0..30 {
            issue(&store, "elsewhere", 900 + n).await;
        }
        store.close().await.unwrap();
    });
    let expected = answers(&fs, &time).unwrap();
    let foreign = other.content(&index()).unwrap();
    assert!(covered(&other, &time) > 0);
    let mixed = copy(&fs, &[(index(), Some(foreign))]);
    assert_eq!(covered(&mixed, &time), 0);
    assert_eq!(answers(&mixed, &time).unwrap(), expected);
}
