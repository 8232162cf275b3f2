//! Tests of the repository on real files: one store sees what another one commits.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use common::*;
use futures_util::StreamExt as _;
use tenure_adapter_json::{JsonStore, Options};
use tenure_domain::*;
use tenure_json_test_storage::SimulatedMachine;
use tenure_ports::{FindOptions, *};

fn open(path: &Path, time: &Arc<SimulatedMachine>) -> Arc<JsonStore> {
    JsonStore::open(path, time.clone(), options(time)).unwrap()
}

async fn revoke(store: &JsonStore, id: SessionId) -> Result<Revision, CommitError> {
    let loaded = store.load_by_session(id).await?.unwrap();
    let revocation = loaded.revoke(&Selection::one(id), &cause(), &policy(), store.clock().now());
    store.commit(&revocation.commit.unwrap()).await
}

async fn rotate(store: &JsonStore, token: &Token, seed: u64) -> Rotation {
    let loaded = store.load_by_session(token.session()).await.unwrap().unwrap();
    let Decision::Accept(rotation) =
        loaded.rotate(token, &RotationSecret::new(bytes(seed)), &policy(), store.clock().now())
    else {
        panic!("refused");
    };
    store.commit(&rotation.commit).await.unwrap();
    rotation
}

#[tokio::test]
async fn what_one_instance_commits_another_sees_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("deep/er/s.jsonl"), machine());
    let (a, b) = (open(&path, &time), open(&path, &time));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(dir.path().join("deep")).unwrap().permissions().mode() & 0o777, 0o700);
    for n in 0..50 {
        let issued = issue(&a, &format!("d{n}"), n).await;
        assert_eq!(b.find(issued.session.id, FindOptions::EXACT).await.unwrap().unwrap(), issued.session);
        let rotation = rotate(&b, &issued.token, n + 1000).await;
        assert_eq!(a.find(issued.session.id, FindOptions::EXACT).await.unwrap().unwrap(), rotation.session);
        revoke(&a, issued.session.id).await.unwrap();
        let ended = b.find(issued.session.id, FindOptions::EXACT).await.unwrap().unwrap();
        assert_eq!(ended.state(time.now()), State::Ended(EndReason::Revoked));
        assert_eq!(ended.end.as_ref().unwrap().note.as_ref().unwrap().as_str(), "lost \u{1f4f1}");
    }
    drop((a, b));
    let c = open(&path, &time);
    let all = Filter { scope: Scope::Retained, ..Filter::default() };
    assert_eq!(c.list_sorted(&all, time.now(), SortKey::Created, 100).await.unwrap().len(), 50);
    assert_eq!(c.load(&device("d1")).await.unwrap().sessions().len(), 0);
}

#[tokio::test]
async fn only_one_of_two_decisions_on_one_revision_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let (a, b) = (open(&path, &time), open(&path, &time));
    let loaded = a.load(&device("d")).await.unwrap();
    let one = loaded.issue(new_session(1), &policy(), time.now()).unwrap();
    let two = loaded.issue(new_session(2), &policy(), time.now()).unwrap();
    let first = a.commit(&one.commit).await.unwrap();
    assert_eq!(b.commit(&two.commit).await, Err(CommitError::Conflict));
    assert_eq!(a.commit(&one.commit).await, Err(CommitError::Conflict));
    let loaded = b.load(&device("d")).await.unwrap();
    assert_eq!(loaded.revision(), first);
    let mut late = loaded.issue(new_session(3), &policy(), time.now()).unwrap().commit;
    late.not_after = time.now().minus(Millis::new(1));
    assert_eq!(b.commit(&late).await, Err(CommitError::TooLate));
    // The same holds for commits in one round of the writer.
    let commits: Vec<_> =
        (10..20).map(|n| loaded.issue(new_session(n), &policy(), time.now()).unwrap().commit).collect();
    let answers = futures_util::future::join_all(commits.iter().map(|commit| a.commit(commit))).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    assert_eq!(answers.iter().filter(|answer| **answer == Err(CommitError::Conflict)).count(), 9);
}

#[tokio::test]
async fn the_device_and_its_history_are_kept_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let store = open(&path, &time);
    let mut issued = Vec::new();
    for n in 0..40 {
        time.pass(Millis::new(1000));
        issued.push(issue(&store, "d", n).await);
    }
    let loaded = store.load(&device("d")).await.unwrap();
    assert_eq!(loaded.sessions().len(), 3);
    assert!(loaded.revocation_watermark().is_some());
    let all = Filter { scope: Scope::Retained, ..Filter::default() };
    let listed = store.list_sorted(&all, time.now(), SortKey::Created, 1000).await.unwrap();
    // Three sessions are active, and thirty have ended.
    assert_eq!(listed.len(), 33);
    assert_eq!(listed[0].id, issued[39].session.id);
    assert_eq!(store.find(issued[6].session.id, FindOptions::EXACT).await.unwrap(), None);
    assert!(store.find(issued[7].session.id, FindOptions::EXACT).await.unwrap().is_some());
    let again = open(&path, &time);
    assert_eq!(again.load(&device("d")).await.unwrap(), loaded);
    assert_eq!(again.list_sorted(&all, time.now(), SortKey::Created, 1000).await.unwrap(), listed);
}

#[tokio::test]
async fn activity_moves_forward_and_reaches_others() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let (a, b) = (open(&path, &time), open(&path, &time));
    let issued = issue(&a, "d", 1).await;
    let id = issued.session.id;
    let before = a.load(&device("d")).await.unwrap().revision();
    let at = |n: u64| Timestamp::from_millis(START + n);
    a.touch(&[Touch { session: id, at: at(500) }, Touch { session: id, at: at(300) }]).await.unwrap();
    assert_eq!(a.find(id, FindOptions::EXACT).await.unwrap().unwrap().last_activity, at(500));
    a.close().await.unwrap();
    assert_eq!(b.find(id, FindOptions::EXACT).await.unwrap().unwrap().last_activity, at(500));
    assert_eq!(b.load(&device("d")).await.unwrap().revision(), before);
    // A record with earlier activity does not move the activity back.
    let loaded = b.load_by_session(id).await.unwrap().unwrap();
    a.touch(&[Touch { session: id, at: at(900) }]).await.unwrap();
    a.close().await.unwrap();
    let revocation = loaded.revoke(&Selection::one(id), &cause(), &policy(), time.now());
    b.commit(&revocation.commit.unwrap()).await.unwrap();
    assert_eq!(a.find(id, FindOptions::EXACT).await.unwrap().unwrap().last_activity, at(900));
    a.touch(&[Touch { session: id, at: at(2000) }]).await.unwrap();
    assert_eq!(a.find(id, FindOptions::EXACT).await.unwrap().unwrap().last_activity, at(900));
}

#[tokio::test]
async fn a_guard_protects_a_session_that_was_used_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let store = open(&path, &time);
    let issued = issue(&store, "d", 1).await;
    let loaded = store.load(&device("d")).await.unwrap();
    let mut commit = loaded
        .revoke(&Selection::one(issued.session.id), &EndCause::by_rule(EndReason::Idle), &policy(), time.now())
        .commit
        .unwrap();
    commit.guards.push(Guard { session: issued.session.id, last_activity: issued.session.last_activity });
    store.touch(&[Touch { session: issued.session.id, at: Timestamp::from_millis(START + 5) }]).await.unwrap();
    assert_eq!(store.commit(&commit).await, Err(CommitError::Conflict));
}

#[tokio::test]
async fn pages_show_everything_once() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let store = open(&path, &time);
    let mut ids: Vec<_> = Vec::new();
    for n in 0..60 {
        ids.push(issue(&store, &format!("d{}", n % 30), n).await.session.id);
    }
    for filter in [
        Filter::default(),
        Filter { subject: Some(Subject::default()), ..Filter::default() },
        Filter { device: Some(device("d7")), ..Filter::default() },
    ] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = store.page(&filter, time.now(), after, 7).await.unwrap();
            assert!(page.sessions.len() <= 7);
            seen.extend(page.sessions.iter().map(|session| session.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let mut expected = ids.clone();
        if filter.device.is_some() {
            expected = vec![ids[7], ids[37]];
        }
        seen.sort_unstable();
        expected.sort_unstable();
        assert_eq!(seen, expected);
    }
    let text = ids[0].to_string();
    assert!(store.ids_with_prefix(text[..3].parse().unwrap(), 9).await.unwrap().contains(&ids[0]));
    assert_eq!(store.ids_with_prefix(text.parse().unwrap(), 9).await.unwrap(), [ids[0]]);
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    let all: Vec<_> = (0..8).map(|n| format!("{}", "01234567".as_bytes()[n] as char)).collect();
    let mut found = Vec::new();
    for prefix in &all {
        found.extend(store.ids_with_prefix(prefix.parse().unwrap(), 100).await.unwrap());
    }
    assert!(found.is_sorted());
}

#[tokio::test]
async fn a_purge_removes_inactive_sessions_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let (a, b) = (open(&path, &time), open(&path, &time));
    let gone = issue(&a, "d", 1).await.session.id;
    let kept = issue(&a, "e", 2).await.session.id;
    revoke(&a, gone).await.unwrap();
    time.pass(Millis::new(1000));
    let purge = Purge { now: time.now(), inactive_by: time.now(), dry_run: true };
    assert_eq!(a.purge(&purge, None).await.unwrap(), Purged { removed: 1, next: None });
    assert!(b.find(gone, FindOptions::EXACT).await.unwrap().is_some());
    let purge = Purge { dry_run: false, ..purge };
    assert_eq!(a.purge(&purge, None).await.unwrap(), Purged { removed: 1, next: None });
    assert_eq!(b.find(gone, FindOptions::EXACT).await.unwrap(), None);
    assert!(b.find(kept, FindOptions::EXACT).await.unwrap().is_some());
    // The watermark of the ended session outlives its record.
    assert!(b.load(&device("d")).await.unwrap().revocation_watermark().is_some());
    time.pass(Millis::new(25 * 3_600_000));
    let before = b.load(&device("e")).await.unwrap().revision();
    let purge = Purge { now: time.now(), inactive_by: time.now(), dry_run: false };
    assert_eq!(a.purge(&purge, None).await.unwrap().removed, 1);
    assert_ne!(b.load(&device("e")).await.unwrap().revision(), before);
}

#[tokio::test]
async fn events_of_every_process_arrive() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let (a, b) = (open(&path, &time), open(&path, &time));
    let mut feed = b.subscribe().await.unwrap();
    let issued = issue(&a, "d", 1).await;
    revoke(&a, issued.session.id).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        if let Some(StoreEvent::Changed { session, kind, .. }) = feed.next().await {
            assert_eq!(session, issued.session.id);
            kinds.push(kind);
        }
    }
    assert_eq!(kinds, [ChangeKind::Issued, ChangeKind::Ended(EndReason::Revoked)]);
}

#[tokio::test]
async fn compaction_loses_nothing_and_readers_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let small = Options { compaction_threshold: 4096, ..options(&time) };
    let a = JsonStore::open(&path, time.clone(), small.clone()).unwrap();
    let b = JsonStore::open(&path, time.clone(), small).unwrap();
    let idle = open(&path, &time);
    let mut tokens = Vec::new();
    for n in 0..300 {
        time.pass(Millis::new(10));
        let store = if n % 2 == 0 { &a } else { &b };
        tokens.push(issue(store, &format!("d{}", n % 40), n).await.token);
        if n % 3 == 0 {
            let id = tokens[tokens.len() - 1].session();
            revoke(store, id).await.unwrap();
        }
    }
    let all = Filter { scope: Scope::Retained, ..Filter::default() };
    let listed = a.list_sorted(&all, time.now(), SortKey::Created, 1000).await.unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 400_000);
    for store in [&b, &idle, &open(&path, &time)] {
        assert_eq!(store.list_sorted(&all, time.now(), SortKey::Created, 1000).await.unwrap(), listed);
        for n in 0..40 {
            let name = device(&format!("d{n}"));
            let (mut mine, mut theirs) = (store.load(&name).await.unwrap(), a.load(&name).await.unwrap());
            assert_eq!(mine.revision(), theirs.revision());
            assert_eq!(mine.revocation_watermark(), theirs.revocation_watermark());
            let sort = |device: &mut Device| {
                let mut sessions = device.sessions().to_vec();
                sessions.sort_by_key(|session| session.id);
                sessions
            };
            assert_eq!(sort(&mut mine), sort(&mut theirs));
        }
    }
    // The numbers of the transactions have no gap.
    let text = std::fs::read_to_string(&path).unwrap();
    let numbers: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["tx"]["q"].as_u64().unwrap())
        .collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

#[tokio::test]
async fn a_clock_set_back_revives_nothing_and_one_far_ahead_freezes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let store = open(&path, &time);
    issue(&store, "d", 1).await;
    time.set_clock(Timestamp::from_millis(START - 86_400_000));
    time.pass_uptime(Millis::new(5_000));
    assert_eq!(store.clock().now(), Timestamp::from_millis(START + 5_000));
    assert_eq!(open(&path, &time).clock().now(), Timestamp::from_millis(START + 5_000));
    // After a clock was far ahead, time continues from there.
    time.set_clock(Timestamp::from_millis(START + 1_000_000_000));
    issue(&store, "e", 2).await;
    time.set_clock(Timestamp::from_millis(START));
    time.pass_uptime(Millis::new(7_000));
    assert_eq!(store.clock().now(), Timestamp::from_millis(START + 1_000_007_000));
}

#[tokio::test]
async fn after_a_restart_a_clock_behind_is_refused_until_it_has_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let (path, time) = (dir.path().join("s.jsonl"), machine());
    let issued = issue(&open(&path, &time), "d", 1).await;
    time.restart("b2", Millis::new(3_000));
    time.set_clock(Timestamp::from_millis(START - 60_001));
    let store = open(&path, &time);
    let refused = store.find(issued.session.id, FindOptions::EXACT).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Unavailable { message, .. } if message.contains("clock")), "{refused}");
    assert!(matches!(store.load(&device("d")).await, Err(StoreError::Unavailable { .. })));
    time.set_clock(Timestamp::from_millis(START - 60_000));
    assert!(store.find(issued.session.id, FindOptions::EXACT).await.unwrap().is_some());
    // At least the uptime has passed since the recorded time.
    assert_eq!(store.clock().now(), Timestamp::from_millis(START + 3_000));
    issue(&store, "e", 2).await;
    time.set_clock(Timestamp::from_millis(START - 86_400_000));
    assert!(store.find(issued.session.id, FindOptions::EXACT).await.unwrap().is_some());
}

#[tokio::test]
async fn unsafe_and_foreign_files_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let time = machine();
    let fine = dir.path().join("s.jsonl");
    issue(&open(&fine, &time), "d", 1).await;
    let attempt = |path: &Path| JsonStore::open(path, time.clone(), options(&time)).err().unwrap();
    let bytes = std::fs::read(&fine).unwrap();

    std::fs::set_permissions(&fine, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(attempt(&fine).to_string().contains("chmod 600"));
    std::fs::set_permissions(&fine, std::fs::Permissions::from_mode(0o600)).unwrap();

    let link = dir.path().join("link");
    std::os::unix::fs::symlink(&fine, &link).unwrap();
    assert!(attempt(&link).to_string().contains("symbolic link"));
    let hard = dir.path().join("hard");
    std::fs::hard_link(&fine, &hard).unwrap();
    assert!(attempt(&fine).to_string().contains("hard link"));
    std::fs::remove_file(&hard).unwrap();

    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(attempt(&fine).to_string().contains("others may write"));
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();

    for (name, content) in [("empty", ""), ("json", "{\"sessions\":{}}\n"), ("text", "hello"), ("zeros", "\0\0\0\0")] {
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let refused = attempt(&path);
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{name}: {refused}");
        assert_eq!(std::fs::read(&path).unwrap(), content.as_bytes());
    }
    assert_eq!(std::fs::read(&fine).unwrap(), bytes);
    assert!(open(&fine, &time).check_writable().await.is_ok());
}
