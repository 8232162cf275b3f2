//! Tests of a disk that cannot sync, is full, or cannot be read.

use std::error::Error as _;
use std::io;

use super::*;

const NEW: &str = "/sim/s.jsonl.new";

async fn try_issue(store: &JsonStore, name: &str, seed: u64) -> Result<SessionId, CommitError> {
    let issue = store.load(&device(name)).await?.issue(new_session(seed), &policy(), store.clock().now()).unwrap();
    store.commit(&issue.commit).await?;
    Ok(issue.session.id)
}

#[test]
fn after_a_failed_sync_a_fresh_file_is_in_place_before_the_next_acknowledgement() {
    run(async {
        let (fs, time) = (empty_disk(), machine());
        let store = mount(&fs, &time).unwrap();
        issue(&store, "d", 1).await;
        let (renames, syncs) = (fs.count("rename"), fs.count("sync"));
        // The next operation writes the line, and the one after that syncs it.
        fs.set_fault(fs.changes() + 2, Fault::Errors(Errno::IO, 0));
        issue(&store, "d", 2).await;
        assert_eq!(fs.count("rename"), renames + 1);
        assert_eq!(fs.count("sync"), syncs + 2, "the failed sync, and the sync of the fresh file");
        for seed in 0..20 {
            let after = fs.after_power_loss(dice(seed));
            let store = mount(&after, &restarted(&time, "b2")).unwrap();
            assert_eq!(state(&store).await.unwrap().len(), 2, "{seed}");
        }
    });
}

#[test]
fn while_no_fresh_file_can_be_made_nothing_is_acknowledged() {
    run(async {
        let (fs, time) = (empty_disk(), machine());
        let (a, b) = (mount(&fs, &time).unwrap(), mount(&fs, &time).unwrap());
        issue(&a, "d", 1).await;
        fs.set_fault(fs.changes() + 2, Fault::Errors(Errno::IO, 1_000_000));
        let unknown = try_issue(&a, "d", 2).await.unwrap_err();
        assert!(matches!(unknown, CommitError::OutcomeUnknown { .. }), "{unknown}");
        assert!(matches!(try_issue(&a, "d", 3).await, Err(CommitError::Store(_))));
        fs.clear_faults();
        let renames = fs.count("rename");
        try_issue(&a, "e", 4).await.unwrap();
        assert_eq!(fs.count("rename"), renames + 1);
        // The failed sync was not reported to another process. What that process acknowledges is durable nevertheless.
        try_issue(&b, "f", 5).await.unwrap();
        for seed in 0..20 {
            let after = fs.after_power_loss(dice(seed));
            let found = state(&mount(&after, &restarted(&time, "b2")).unwrap()).await.unwrap();
            assert_eq!(found.len(), state(&b).await.unwrap().len(), "{seed}");
        }
    });
}

#[test]
fn what_a_dead_process_could_not_sync_is_on_the_disk_before_anything_is_decided_on_it() {
    run(async {
        let (fs, time) = (empty_disk(), machine());
        let first = mount(&fs, &time).unwrap();
        issue(&first, "d", 1).await;
        fs.set_fault(fs.changes() + 2, Fault::Errors(Errno::IO, 1_000_000));
        assert!(try_issue(&first, "d", 2).await.is_err());
        // The process dies. Its failed sync is not reported to another process.
        fs.clear_faults();
        let other = mount(&fs, &time).unwrap();
        assert_eq!(other.load(&device("d")).await.unwrap().sessions().len(), 2);
        for seed in 0..20 {
            let after = mount(&fs.after_power_loss(dice(seed)), &restarted(&time, "b2")).unwrap();
            assert_eq!(state(&after).await.unwrap().len(), 2, "{seed}");
        }
    });
}

#[test]
fn a_full_disk_stops_writing_and_nothing_else_until_there_is_room() {
    run(async {
        for room in (6_000..30_000).step_by(577) {
            let (fs, time) = (empty_disk(), machine());
            let store = mount(&fs, &time).unwrap();
            fs.set_space(Some(room));
            let mut acknowledged = Vec::new();
            let refused = loop {
                match try_issue(&store, &format!("d{}", acknowledged.len()), acknowledged.len() as u64).await {
                    Ok(id) => acknowledged.push(id),
                    Err(error) => break error,
                }
            };
            assert!(matches!(refused, CommitError::Store(StoreError::Full { .. })), "{room}: {refused}");
            let beneath = refused.source().and_then(|source| source.downcast_ref::<io::Error>());
            assert_eq!(beneath.map(io::Error::kind), Some(io::ErrorKind::StorageFull), "{room}");
            for id in &acknowledged {
                assert!(store.find(*id, FindOptions::EXACT).await.unwrap().is_some(), "{room}");
            }
            // A copy that did not fit takes no space that the next line of the store needs.
            assert_eq!(fs.content(Path::new(NEW)).map_or(0, |bytes| bytes.len()), 0, "{room}");
            let other = mount(&fs, &time).unwrap();
            assert_eq!(state(&other).await.unwrap().len(), acknowledged.len(), "{room}");
            fs.set_space(Some(room + 1_000));
            try_issue(&store, "later", 1_000).await.unwrap_or_else(|error| panic!("{room}: {error}"));
            assert_eq!(state(&other).await.unwrap().len(), acknowledged.len() + 1, "{room}");
        }
    });
}

#[test]
fn what_a_killed_compaction_left_takes_no_room_from_the_next_writer() {
    run(async {
        let (fs, time) = (empty_disk(), machine());
        issue(&mount(&fs, &time).unwrap(), "d", 1).await;
        let size = fs.content(&path()).unwrap().len();
        fs.put(Path::new(NEW), &[b'x'; 50_000]);
        fs.set_space(Some(size + 1_000));
        try_issue(&mount(&fs, &time).unwrap(), "d", 2).await.unwrap();
    });
}

#[test]
fn a_read_that_fails_is_an_error_and_never_an_empty_store() {
    let (fs, time, mut reference) = (empty_disk(), machine(), Log::default());
    run(history(&fs, &time, &mut reference)).unwrap();
    for at in (1..=fs.reads()).step_by(3) {
        let (fs, time, mut log) = (empty_disk(), machine(), Log::default());
        fs.set_read_fault(at, at % 4, Errno::IO);
        if let Err(error) = run(history(&fs, &time, &mut log)) {
            let store = matches!(error, CommitError::Store(_) | CommitError::OutcomeUnknown { .. });
            assert!(store, "read {at}: {error}");
            let beneath = error.source().and_then(|source| source.downcast_ref::<io::Error>());
            assert_eq!(beneath.and_then(io::Error::raw_os_error), Some(Errno::IO.raw_os_error()), "read {at}: {error}");
        }
        fs.clear_faults();
        check_survivor(&fs, &time, &log, &reference, &format!("read {at}"));
    }
}

#[test]
fn a_damaged_file_is_refused_until_another_takes_its_place() {
    run(async {
        let (fs, time) = (empty_disk(), machine());
        let store = mount(&fs, &time).unwrap();
        let id = issue(&store, "d", 1).await.session.id;
        let whole = fs.content(&path()).unwrap();
        let file = fs.open(&path(), OpenMode::Write).unwrap();
        file.write_at(b"{\"crc\":\"00000000\",\"tx\":{}}\n", whole.len() as u64).unwrap();
        assert!(matches!(store.find(id, FindOptions::EXACT).await, Err(StoreError::Corrupt { .. })));
        file.truncate(whole.len() as u64).unwrap();
        assert!(
            matches!(store.find(id, FindOptions::EXACT).await, Err(StoreError::Corrupt { .. })),
            "this file is not trusted any more"
        );
        fs.put(&path(), &whole);
        assert_eq!(store.find(id, FindOptions::EXACT).await.unwrap().map(|found| found.id), Some(id));
        issue(&store, "d", 2).await;
        assert_eq!(state(&mount(&fs, &time).unwrap()).await.unwrap().len(), 2);
    });
}
