//! Tests of ends that could not be written. The process that tried refuses the session nevertheless.

use std::time::{Duration, Instant};

use super::*;

/// Makes every write fail until the faults are cleared. If `half` is set, half of each write reaches the file; otherwise
/// nothing does.
fn break_disk(fs: &SimulatedStorage, error: Errno, half: bool) {
    if half {
        fs.set_fault(fs.changes() + 1, Fault::Errors(error, 1_000_000));
    } else {
        fs.set_space(Some(0));
    }
}

async fn revoke(store: &JsonStore, id: SessionId) -> Result<Revision, CommitError> {
    let loaded = store.load_by_session(id).await?.unwrap();
    store.commit(&loaded.revoke(&Selection::one(id), &cause(), &policy(), store.clock().now()).commit.unwrap()).await
}

async fn rotate(store: &JsonStore, token: &Token, seed: u64) -> Result<Revision, CommitError> {
    let loaded = store.load_by_session(token.session()).await?.unwrap();
    match loaded.rotate(token, &RotationSecret::new(bytes(seed)), &policy(), store.clock().now()) {
        Decision::Accept(rotation) => store.commit(&rotation.commit).await,
        refused => panic!("{refused:?}"),
    }
}

async fn end_of(store: &JsonStore, id: SessionId) -> Option<EndReason> {
    store.find(id, FindOptions::EXACT).await.unwrap().unwrap().end.as_ref().map(|end| end.reason)
}

#[test]
fn a_revoke_that_could_not_be_written_is_refused_by_the_process_that_tried() {
    run(async {
        let errors = [Errno::NOSPC, Errno::IO, Errno::ROFS, Errno::DQUOT, Errno::FBIG];
        for (error, half) in errors.into_iter().flat_map(|error| [(error, true), (error, false)]) {
            let (fs, time) = (empty_disk(), machine());
            let (a, b) = (mount(&fs, &time).unwrap(), mount(&fs, &time).unwrap());
            let issued = issue(&a, "d", 1).await;
            let id = issued.session.id;
            break_disk(&fs, error, half);
            let failed = revoke(&a, id).await.unwrap_err();
            assert!(!matches!(failed, CommitError::Conflict | CommitError::TooLate), "{error}: {failed}");
            assert_eq!(end_of(&a, id).await, Some(EndReason::Revoked), "{error}");
            fs.clear_faults();
            // This process refuses to rotate the token too.
            let refused = rotate(&a, &issued.token, 2).await.unwrap_err();
            if matches!(failed, CommitError::OutcomeUnknown { .. }) {
                // The line was written except for its newline, and could not be cut. The next writer has completed it.
                assert_eq!(refused, CommitError::Conflict, "{error}");
            } else {
                assert!(refused.to_string().contains("revoke it again"), "{error}: {refused}");
                assert_eq!(end_of(&b, id).await, None, "{error}");
                assert_eq!(end_of(&a, id).await, Some(EndReason::Revoked), "{error}");
                // Once the revocation is written, every process refuses the session.
                revoke(&a, id).await.unwrap();
            }
            assert_eq!(end_of(&b, id).await, Some(EndReason::Revoked), "{error}");
            assert_eq!(end_of(&mount(&fs, &time).unwrap(), id).await, Some(EndReason::Revoked), "{error}");
        }
    });
}

#[test]
fn a_revocation_is_refused_locally_even_if_no_sync_succeeds() {
    run(async {
        let (fs, time) = (empty_disk(), machine());
        let id = issue(&mount(&fs, &time).unwrap(), "d", 1).await.session.id;
        // This process does not know whether the session is durable, and from now on no write succeeds.
        let store = mount(&fs, &time).unwrap();
        fs.set_fault(fs.changes() + 1, Fault::Errors(Errno::IO, 1_000_000));
        assert!(revoke(&store, id).await.is_err());
        assert_eq!(end_of(&store, id).await, Some(EndReason::Revoked));
        // The same holds in a process whose own sync failed.
        fs.clear_faults();
        let (fs, time) = (empty_disk(), machine());
        let store = mount(&fs, &time).unwrap();
        issue(&store, "d", 1).await;
        let second =
            store.load(&device("d")).await.unwrap().issue(new_session(2), &policy(), store.clock().now()).unwrap();
        fs.set_fault(fs.changes() + 2, Fault::Errors(Errno::IO, 1_000_000));
        assert!(matches!(store.commit(&second.commit).await, Err(CommitError::OutcomeUnknown { .. })));
        assert!(revoke(&store, second.session.id).await.is_err());
        assert_eq!(end_of(&store, second.session.id).await, Some(EndReason::Revoked));
    });
}

#[test]
fn an_issue_that_fails_evicts_nobody() {
    run(async {
        let (fs, time) = (empty_disk(), machine());
        let store = mount(&fs, &time).unwrap();
        let first = issue(&store, "d", 1).await.session.id;
        for n in 2..4 {
            issue(&store, "d", n).await;
        }
        break_disk(&fs, Errno::NOSPC, false);
        let one_more =
            store.load(&device("d")).await.unwrap().issue(new_session(4), &policy(), store.clock().now()).unwrap();
        assert_eq!(one_more.evicted, [first]);
        assert!(matches!(store.commit(&one_more.commit).await, Err(CommitError::Store(StoreError::Full { .. }))));
        assert_eq!(end_of(&store, first).await, None);
        fs.clear_faults();
        assert_eq!(end_of(&store, first).await, None);
        assert_eq!(end_of(&mount(&fs, &time).unwrap(), first).await, None);
    });
}

#[test]
fn a_lock_that_is_never_released_stops_writers_but_no_reader() {
    run(async {
        let (fs, time) = (empty_disk(), machine());
        let options = Options { lock_timeout: Millis::new(200), storage: Arc::new(fs.clone()), ..options(&time) };
        let a = JsonStore::open(&path(), time.clone(), options).unwrap();
        let b = mount(&fs, &time).unwrap();
        let id = issue(&a, "d", 1).await.session.id;
        let held = fs.open(Path::new("/sim/s.jsonl.lock"), OpenMode::Write).unwrap();
        // The writer releases the lock only after it has answered.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !held.try_lock().unwrap() {
            assert!(Instant::now() < deadline, "the lock was never released");
            std::thread::yield_now();
        }
        let refused = revoke(&a, id).await.unwrap_err();
        assert!(
            matches!(&refused, CommitError::Store(StoreError::Unavailable { message, .. })
            if message.contains("has held the store's lock")),
            "{refused}"
        );
        assert_eq!(end_of(&a, id).await, Some(EndReason::Revoked), "the process that tried refuses");
        assert_eq!(end_of(&b, id).await, None, "another process accepts it");
        held.unlock().unwrap();
        revoke(&a, id).await.unwrap();
        assert_eq!(end_of(&b, id).await, Some(EndReason::Revoked));
    });
}
