//! A user with the rights that the documentation lists, and no more.

use futures_util::StreamExt as _;
use tenure_adapter_redis::Options;
use tenure_domain::{
    ClientField, ClientInfo, Decision, Filter, Policy, RotationSecret, Scope, SortKey, Subject, Touch,
};
use tenure_ports::{ChangeKind, CommitError, Diagnosis, FindOptions, Severity, StoreError, StoreEvent, prelude::*};
use tenure_redis_test_server::{Server, patient};
use tokio::time::timeout;

use crate::support::{SOON, device, is_of_speed, issue, keep, new_session, open, purge_now, raw, revoke, store_at};

/// The words of the documented command.
fn documented() -> Vec<String> {
    let page = include_str!("../../../../../docs/redis-store.md");
    let (_, rest) = page.split_once("```text\nACL SETUSER tenure").expect("the documentation lists the rights");
    let (rights, _) = rest.split_once("```").unwrap();
    ["ACL", "SETUSER", "tenure"].into_iter().chain(rights.split_whitespace()).map(str::to_owned).collect()
}

async fn grant(server: &Server, without: &[&str]) -> String {
    let words = documented();
    let words: Vec<&[u8]> =
        words.iter().filter(|word| !without.contains(&word.as_str())).map(|word| word.as_bytes()).collect();
    let () = raw(server, &words).await;
    format!("redis://tenure:PASSWORD@127.0.0.1:{}", server.port())
}

#[tokio::test]
async fn the_documented_rights_suffice_for_everything() {
    let server = Server::start();
    let url = grant(&server, &[]).await;
    let store = open(Options { near_cache: true, ..patient(&url) }).await;
    let policy = Policy::default();
    store.check_writable().await.unwrap();
    let mut feed = store.subscribe().await.unwrap();
    let (session, token) = issue(&store, "laptop", &policy).await;
    let news = timeout(SOON, feed.next()).await.unwrap();
    assert!(matches!(news, Some(StoreEvent::Changed { kind: ChangeKind::Issued, .. })), "{news:?}");
    keep(&store, session.id).await;
    store.touch(&[Touch { session: session.id, at: store.clock().now() }]).await.unwrap();
    let loaded = store.load(&device("laptop")).await.unwrap();
    let Decision::Accept(rotation) = loaded.rotate(&token, &RotationSecret::new([9; 16]), &policy, store.clock().now())
    else {
        panic!("not rotated");
    };
    store.commit(&rotation.commit).await.unwrap();
    let client = ClientInfo::default().with(ClientField::UserAgent, "curl/8").unwrap();
    let loaded = store.load(&device("laptop")).await.unwrap();
    store.commit(&loaded.update_client(session.id, &client, &policy, store.clock().now()).unwrap()).await.unwrap();
    let now = store.clock().now();
    for filter in [
        Filter { scope: Scope::Retained, ..Filter::default() },
        Filter { subject: Some(Subject::default()), ..Filter::default() },
        Filter { device: Some(device("laptop")), ..Filter::default() },
    ] {
        assert_eq!(store.page(&filter, now, None, 10).await.unwrap().sessions.len(), 1);
        assert_eq!(store.list_sorted(&filter, now, SortKey::Created, 10).await.unwrap().len(), 1);
    }
    let start = session.id.to_string()[..6].parse().unwrap();
    assert_eq!(store.ids_with_prefix(start, 5).await.unwrap(), [session.id]);
    revoke(&store, session.id).await;
    assert!(store.find(session.id, FindOptions::EXACT).await.unwrap().unwrap().end.is_some());
    assert_eq!(purge_now(&store).await, 1);
    let findings = store.diagnose().await;
    let fine = |found: &Diagnosis| {
        found.severity == Severity::Ok || found.finding.contains("no replica") || is_of_speed(found)
    };
    assert!(findings.iter().all(fine), "{findings:?}");
    let denied: Vec<redis::Value> = raw(&server, &[b"ACL", b"LOG"]).await;
    assert!(denied.is_empty(), "{denied:?}");
}

#[tokio::test]
async fn they_allow_nothing_else() {
    let server = Server::start();
    let url = grant(&server, &[]).await;
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for line in [
        "KEYS *",
        "SCAN 0",
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG GET dir",
        "SHUTDOWN",
        "ACL LIST",
        "MONITOR",
        "CLIENT LIST",
        "SCRIPT FLUSH",
        "REPLICAOF NO ONE",
        "GET other",
        "SET other 1",
        "SUBSCRIBE other",
        "PUBLISH other x",
    ] {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            command.arg(word);
        });
        let outcome = command.query_async::<redis::Value>(&mut connection).await;
        assert!(outcome.as_ref().is_err_and(|error| error.code() == Some("NOPERM")), "{line}: {outcome:?}");
    }
}

#[tokio::test]
async fn who_may_not_see_the_servers_state_is_told_so() {
    let server = Server::start();
    let url = grant(&server, &["+info", "+client|tracking"]).await;
    let store = open(Options { near_cache: true, ..patient(&url) }).await;
    let findings = store.diagnose().await;
    let told = |words: &str| {
        findings.iter().find(|found| found.finding.contains(words)).unwrap_or_else(|| panic!("{words}: {findings:?}"))
    };
    let unseen = told("persistence, eviction, replicas and memory cannot be seen");
    assert!(unseen.severity == Severity::Warning && unseen.advice.contains("+info"));
    assert!(told("the near cache is off").advice.contains("+client|tracking"));
    assert_ne!(told("a round trip").severity, Severity::Failure);
    assert_eq!(told("takes writes").severity, Severity::Ok);
}

/// Fills the server to its limit with keys of others.
async fn fill(server: &Server) {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut number = 0;
    for size in [100_000, 1_000, 16] {
        loop {
            number += 1;
            let mut command = redis::cmd("SET");
            command.arg(format!("ballast {number}")).arg(vec![b'x'; size]);
            if let Err(error) = command.query_async::<()>(&mut connection).await {
                assert_eq!(error.code(), Some("OOM"), "{error}");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_server_without_memory_ends_and_removes_sessions_and_issues_none() {
    let server = Server::start_with(&["--maxmemory", "20mb"]);
    let store = store_at(&grant(&server, &[]).await).await;
    let policy = Policy::default();
    let (session, _) = issue(&store, "laptop", &policy).await;
    let (rotated, token) = issue(&store, "phone", &policy).await;
    fill(&server).await;
    // What the server holds for its connections varies, and leaves room for a few at times.
    let refused = async || {
        for number in 0..1_000 {
            let loaded = store.load(&device(&format!("tablet {number}"))).await.unwrap();
            let commit = loaded.issue(new_session(&policy), &policy, store.clock().now()).unwrap().commit;
            if let Err(error) = store.commit(&commit).await {
                return Some(error);
            }
        }
        None
    };
    match refused().await {
        Some(CommitError::Store(StoreError::Full { message, .. })) => {
            assert!(message.contains("maxmemory"), "{message}")
        }
        other => panic!("{other:?}"),
    }
    let loaded = store.load(&device("phone")).await.unwrap();
    let Decision::Accept(rotation) = loaded.rotate(&token, &RotationSecret::new([9; 16]), &policy, store.clock().now())
    else {
        panic!("not rotated");
    };
    store.commit(&rotation.commit).await.unwrap();
    store.touch(&[Touch { session: rotated.id, at: store.clock().now() }]).await.unwrap();
    revoke(&store, session.id).await;
    assert!(store.find(session.id, FindOptions::EXACT).await.unwrap().unwrap().end.is_some());
    assert_eq!(purge_now(&store).await, 1);
}
