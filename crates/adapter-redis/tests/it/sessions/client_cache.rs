//! Sessions kept in memory: never used for longer than the bound after a change was acknowledged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenure_adapter_redis::{Options, RedisStore};
use tenure_domain::{Policy, SessionId, Touch};
use tenure_ports::{FindOptions, prelude::*};
use tenure_redis_test_server::{BUSY, Server};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::support::{DEADLINE, SOON, brief, eventually, issue, keep, open, raw, revoke, store, store_at};

/// How long an outdated session may be used.
const BOUND: Duration = Duration::from_millis(500).saturating_add(BUSY);

async fn near_at(url: &str) -> Arc<RedisStore> {
    open(Options { near_cache: true, ..brief(url) }).await
}

async fn forgotten(store: &RedisStore, id: SessionId, since: Instant) {
    eventually("the session is forgotten", SOON, async || store.cache().unwrap().find_cached(id).is_none()).await;
    assert!(since.elapsed() < BOUND, "it was used for {:?}", since.elapsed());
}

#[tokio::test]
async fn a_verified_session_is_kept_and_its_revocation_elsewhere_is_told() {
    let server = Server::start();
    let (ours, theirs) = (near_at(&server.url()).await, store(&server).await);
    let (session, _) = issue(&theirs, "laptop", &Policy::default()).await;
    assert_eq!(ours.cache().unwrap().find_cached(session.id), None, "it was never read");
    keep(&ours, session.id).await;
    eventually("it is kept as it is", SOON, async || {
        ours.cache().unwrap().find_cached(session.id) == Some(session.clone())
    })
    .await;
    revoke(&theirs, session.id).await;
    let revoked = Instant::now();
    forgotten(&ours, session.id, revoked).await;
    let found = ours.find(session.id, FindOptions::EXACT).await.unwrap().unwrap();
    assert!(found.end.is_some());
    assert_eq!(ours.cache().unwrap().find_cached(session.id), None, "what has ended is not kept");
}

#[tokio::test]
async fn without_the_setting_nothing_is_kept() {
    let server = Server::start();
    let store = store(&server).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    store.find(session.id, FindOptions::EXACT).await.unwrap();
    assert!(store.cache().is_none());
    let tracking: String = raw(&server, &[b"CLIENT", b"LIST"]).await;
    assert!(tracking.lines().all(|client| !client.contains("flags=t")), "{tracking}");
}

#[tokio::test]
async fn a_process_sees_its_own_changes_at_once() {
    let server = Server::start();
    let store = near_at(&server.url()).await;
    for _ in 0..100 {
        let (session, _) = issue(&store, "laptop", &Policy::default()).await;
        keep(&store, session.id).await;
        revoke(&store, session.id).await;
        assert_eq!(store.cache().unwrap().find_cached(session.id), None);
    }
}

#[tokio::test]
async fn use_of_a_session_does_not_drop_it() {
    let server = Server::start();
    let (ours, theirs) = (near_at(&server.url()).await, store(&server).await);
    let (used, _) = issue(&theirs, "laptop", &Policy::default()).await;
    let (changed, _) = issue(&theirs, "phone", &Policy::default()).await;
    keep(&ours, used.id).await;
    keep(&ours, changed.id).await;
    for _ in 0..20 {
        let touch = Touch { session: used.id, at: theirs.clock().now() };
        theirs.touch(&[touch]).await.unwrap();
    }
    // News comes in order: once the later change is told, the touches would have been.
    revoke(&theirs, changed.id).await;
    forgotten(&ours, changed.id, Instant::now()).await;
    // While the machine is busy nothing that is kept may be used for a moment.
    eventually("it is still kept", SOON, async || ours.cache().unwrap().find_cached(used.id) == Some(used.clone()))
        .await;
}

/// How many races of filling against revoking are run.
fn races() -> usize {
    std::env::var("TEST_RACES").map_or(2_000, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fill_that_races_a_revocation_keeps_what_was_revoked() {
    let server = Server::start();
    let (ours, theirs) = (near_at(&server.url()).await, store(&server).await);
    let (warm, _) = issue(&theirs, "warm", &Policy::default()).await;
    keep(&ours, warm.id).await;
    let mut behind = Vec::with_capacity(races());
    let mut kept = 0;
    for batch in 0..races() / 20 {
        let race = (0..20).map(|number| {
            let (ours, theirs) = (Arc::clone(&ours), Arc::clone(&theirs));
            tokio::spawn(async move {
                let (session, _) = issue(&theirs, &format!("device {batch} {number}"), &Policy::default()).await;
                let id = session.id;
                let revoked = Arc::new(AtomicBool::new(false));
                let fill = {
                    let (ours, revoked) = (Arc::clone(&ours), Arc::clone(&revoked));
                    tokio::spawn(async move {
                        let mut kept = false;
                        while !revoked.load(Ordering::Acquire) {
                            ours.find(id, FindOptions::EXACT).await.unwrap();
                            kept |= ours.cache().unwrap().find_cached(id).is_some();
                        }
                        kept
                    })
                };
                revoke(&theirs, id).await;
                let acknowledged = Instant::now();
                revoked.store(true, Ordering::Release);
                let kept = fill.await.unwrap();
                while ours.cache().unwrap().find_cached(id).is_some() {
                    assert!(acknowledged.elapsed() < BOUND, "accepted {:?} after its end", acknowledged.elapsed());
                    tokio::task::yield_now().await;
                }
                (acknowledged.elapsed(), kept)
            })
        });
        for raced in futures_util::future::join_all(race).await {
            let (delay, was_kept) = raced.unwrap();
            behind.push(delay);
            kept += usize::from(was_kept);
        }
    }
    behind.sort_unstable();
    println!("{} races, {kept} with the session kept before; longest {:?}", behind.len(), behind.last());
    assert!(kept > 0, "no race had anything to lose");
}

#[tokio::test]
async fn a_flushed_server_is_remembered_by_nobody() {
    let server = Server::start();
    let (ours, theirs) = (near_at(&server.url()).await, store(&server).await);
    for _ in 0..20 {
        let (session, _) = issue(&theirs, "laptop", &Policy::default()).await;
        keep(&ours, session.id).await;
        let () = raw(&server, &[b"FLUSHALL"]).await;
        forgotten(&ours, session.id, Instant::now()).await;
        assert_eq!(ours.find(session.id, FindOptions::EXACT).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_lost_connection_takes_with_it_what_was_kept() {
    let mut server = Server::start();
    let ours = near_at(&server.url()).await;
    for _ in 0..5 {
        let (session, _) = issue(&*store(&server).await, "laptop", &Policy::default()).await;
        keep(&ours, session.id).await;
        let _: usize = raw(&server, &[b"CLIENT", b"KILL", b"TYPE", b"normal", b"SKIPME", b"yes"]).await;
        let cut = Instant::now();
        // Nobody tells of this one.
        revoke(&*store(&server).await, session.id).await;
        forgotten(&ours, session.id, cut).await;
        eventually("it is seen to have ended", SOON, async || {
            ours.find(session.id, FindOptions::EXACT).await.is_ok_and(|found| found.unwrap().end.is_some())
        })
        .await;
        assert_eq!(ours.cache().unwrap().find_cached(session.id), None);
    }
    let (session, _) = issue(&*store(&server).await, "laptop", &Policy::default()).await;
    keep(&ours, session.id).await;
    server.kill();
    forgotten(&ours, session.id, Instant::now()).await;
    server.restart();
    eventually("it is kept again", SOON, async || {
        ours.find(session.id, FindOptions::EXACT).await.is_ok()
            && ours.cache().unwrap().find_cached(session.id).is_some()
    })
    .await;
}

#[tokio::test]
async fn a_hanging_server_is_believed_for_the_bound() {
    let server = Server::start();
    let store = near_at(&server.url()).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    keep(&store, session.id).await;
    server.freeze();
    forgotten(&store, session.id, Instant::now()).await;
    let began = Instant::now();
    assert!(store.find(session.id, FindOptions::EXACT).await.is_err());
    assert!(began.elapsed() < DEADLINE, "{:?}", began.elapsed());
    server.thaw();
    keep(&store, session.id).await;
}

/// Passes bytes on both ways until `stalled`; from then on connections stay open and nothing comes through.
async fn stalling(server: u16, stalled: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let upstream = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), upstream.into_split());
            let (up, down) = (Arc::clone(&stalled), Arc::clone(&stalled));
            tokio::spawn(async move { pass_on(&mut from_client, &mut to_server, &up).await });
            tokio::spawn(async move { pass_on(&mut from_server, &mut to_client, &down).await });
        }
    });
    port
}

async fn pass_on(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    stalled: &AtomicBool,
) {
    let mut bytes = [0; 65_536];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        while stalled.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn a_half_open_connection_hides_a_revocation_for_the_bound_at_most() {
    let server = Server::start();
    let theirs = store(&server).await;
    for _ in 0..3 {
        let stalled = Arc::new(AtomicBool::new(false));
        let port = stalling(server.port(), Arc::clone(&stalled)).await;
        let ours = near_at(&format!("redis://127.0.0.1:{port}")).await;
        let (session, _) = issue(&theirs, "laptop", &Policy::default()).await;
        keep(&ours, session.id).await;
        stalled.store(true, Ordering::SeqCst);
        revoke(&theirs, session.id).await;
        forgotten(&ours, session.id, Instant::now()).await;
        stalled.store(false, Ordering::SeqCst);
        eventually("it is seen to have ended", SOON, async || {
            ours.find(session.id, FindOptions::EXACT).await.is_ok_and(|found| found.unwrap().end.is_some())
        })
        .await;
        assert_eq!(ours.cache().unwrap().find_cached(session.id), None);
    }
}

#[tokio::test]
async fn a_server_that_does_not_track_is_asked_each_time() {
    let server = Server::start();
    let () =
        raw(&server, &[b"ACL", b"SETUSER", b"plain", b"on", b">secret", b"~*", b"&*", b"+@all", b"-client|tracking"])
            .await;
    let store = near_at(&format!("redis://plain:secret@127.0.0.1:{}", server.port())).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    for _ in 0..50 {
        assert!(store.find(session.id, FindOptions::EXACT).await.unwrap().is_some());
        assert_eq!(store.cache().unwrap().find_cached(session.id), None);
    }
    let other = store_at(&server.url()).await;
    revoke(&other, session.id).await;
    assert!(store.find(session.id, FindOptions::EXACT).await.unwrap().unwrap().end.is_some());
}
