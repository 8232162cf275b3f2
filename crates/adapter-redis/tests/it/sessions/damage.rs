//! Keys that hold something else than was written, and a server without memory.

use tenure_domain::{Filter, Policy};
use tenure_ports::{CommitError, FindOptions, Purge, StoreError, prelude::*};
use tenure_redis_test_server::Server;

use crate::support::{device, issue, new_session, raw, revocation, revoke, store};

fn assert_corrupt<T: std::fmt::Debug>(outcome: Result<T, StoreError>, key: &str) {
    match outcome {
        Err(StoreError::Corrupt { location, .. }) => assert!(location.contains(key), "{location} does not name {key}"),
        other => panic!("not corrupt: {other:?}"),
    }
}

#[tokio::test]
async fn a_damaged_record_is_named_and_left_alone() {
    let server = Server::start();
    let store = store(&server).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    let record: Vec<String> = raw(&server, &[b"KEYS", b"*:s:*"]).await;
    let key = record[0].as_str();
    let whole: Vec<u8> = raw(&server, &[b"GET", key.as_bytes()]).await;
    for at in 0..whole.len() {
        for bit in [0, 5] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << bit;
            let _: String = raw(&server, &[b"SET", key.as_bytes(), &damaged, b"KEEPTTL"]).await;
            assert_corrupt(store.find(session.id, FindOptions::EXACT).await, key);
        }
    }
    for damaged in [&b""[..], b"1", b"{}", &whole[..20], &whole[..whole.len() - 1], b"9aaaaaaaaaaaaaaaaaaaa"] {
        let _: String = raw(&server, &[b"SET", key.as_bytes(), damaged, b"KEEPTTL"]).await;
        assert_corrupt(store.find(session.id, FindOptions::EXACT).await, key);
        assert_corrupt(store.load_by_session(session.id).await, key);
        assert_corrupt(store.load(&session.device).await, key);
        assert_corrupt(store.page(&Filter::default(), session.created_at, None, 10).await, key);
        let now = session.created_at;
        let mut after = None;
        loop {
            match store.purge(&Purge { now, inactive_by: now, dry_run: false }, after).await {
                Ok(part) => after = Some(part.next.expect("the walk did not meet the record")),
                failed => break assert_corrupt(failed, key),
            }
        }
        let left: Vec<u8> = raw(&server, &[b"GET", key.as_bytes()]).await;
        assert_eq!(left, damaged);
    }
}

#[tokio::test]
async fn a_record_under_another_name_is_no_record() {
    let server = Server::start();
    let store = store(&server).await;
    let (first, _) = issue(&store, "laptop", &Policy::default()).await;
    let (second, _) = issue(&store, "laptop", &Policy::default()).await;
    let key = |id| format!("tenure:{{{}}}:s:{id}", first.id.bucket());
    let _: i64 = raw(&server, &[b"COPY", key(first.id).as_bytes(), key(second.id).as_bytes(), b"REPLACE"]).await;
    assert_corrupt(store.find(second.id, FindOptions::EXACT).await, &key(second.id));
}

#[tokio::test]
async fn a_key_of_another_type_is_corrupt_and_nothing_is_half_written() {
    let server = Server::start();
    let store = store(&server).await;
    let policy = Policy::default();
    let (session, _) = issue(&store, "laptop", &policy).await;
    let bucket = session.id.bucket();
    let record = format!("tenure:{{{bucket}}}:s:{}", session.id);
    let _: i64 = raw(&server, &[b"DEL", record.as_bytes()]).await;
    let _: i64 = raw(&server, &[b"LPUSH", record.as_bytes(), b"x"]).await;
    assert_corrupt(store.find(session.id, FindOptions::EXACT).await, &record);
    assert_corrupt(store.load_by_session(session.id).await, &record);
    assert_corrupt(store.load(&session.device).await, "d:laptop");
    for (location, key) in [("d", ":d:phone"), ("o", ":o:phone"), ("i", ":i"), ("u", ":u:operator"), ("n", ":n")] {
        let server = Server::start();
        let store = crate::support::store(&server).await;
        let phone = device("phone");
        let issue =
            store.load(&phone).await.unwrap().issue(new_session(&policy), &policy, store.clock().now()).unwrap();
        let key = format!("tenure:{{{}}}{key}", tenure_domain::Bucket::of(&phone));
        let _: i64 = raw(&server, &[b"LPUSH", key.as_bytes(), b"x"]).await;
        let outcome = store.commit(&issue.commit).await;
        assert!(matches!(outcome, Err(CommitError::Store(StoreError::Corrupt { .. }))), "{location}: {outcome:?}");
        assert_eq!(store.find(issue.session.id, FindOptions::EXACT).await.unwrap(), None, "{location}");
    }
}

#[tokio::test]
async fn without_memory_sessions_still_end_and_none_is_issued() {
    let server = Server::start();
    let store = store(&server).await;
    let policy = Policy::default();
    let (first, token) = issue(&store, "laptop", &policy).await;
    let (second, _) = issue(&store, "laptop", &policy).await;
    let _: String = raw(&server, &[b"CONFIG", b"SET", b"maxmemory", b"1"]).await;
    let loaded = store.load(&first.device).await.unwrap();
    let issue = loaded.issue(new_session(&policy), &policy, store.clock().now()).unwrap();
    let outcome = store.commit(&issue.commit).await;
    assert!(matches!(outcome, Err(CommitError::Store(StoreError::Full { .. }))), "{outcome:?}");
    assert!(matches!(store.check_writable().await, Err(StoreError::Full { .. })));
    let fresh = tenure_domain::RotationSecret::new([7; 16]);
    let tenure_domain::Decision::Accept(rotation) = loaded.rotate(&token, &fresh, &policy, store.clock().now()) else {
        panic!("not rotated");
    };
    store.commit(&rotation.commit).await.unwrap();
    revoke(&store, first.id).await;
    let loaded = store.load(&second.device).await.unwrap();
    store.commit(&revocation(&loaded, second.id, store.clock().now())).await.unwrap();
    assert!(store.find(second.id, FindOptions::EXACT).await.unwrap().unwrap().end.is_some());
    let (now, mut removed, mut after) = (store.clock().now(), 0, None);
    loop {
        let part = store.purge(&Purge { now, inactive_by: now, dry_run: false }, after).await.unwrap();
        removed += part.removed;
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(removed, 2);
}
