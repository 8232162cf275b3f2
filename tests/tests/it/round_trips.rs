//! How often a use case waits for the server, counted on the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tenure_adapter_redis::{Durability, Options, RedisStore};
use tenure_conformance::{SystemClock, SystemRandom};
use tenure_domain::{ClientInfo, DeviceId, EndCause, EndReason, Policy, Subject};
use tenure_ports::prelude::*;
use tenure_redis_test_server::{Server, patient};
use tenure_service::{ActivityMode, IssueRequest, Sessions, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the store asks by itself, however often: the clock's samples, and whether the server is still the primary.
/// Both go by real time, so a slow machine sees more of them.
const BACKGROUND: [&[u8]; 2] = [b"TIME", b"INFO"];

/// Whether some commands that were sent together hold one that a use case sent.
fn is_of_a_use_case(mut commands: &[u8]) -> bool {
    let mut parser = redis::Parser::new();
    while let Ok(command) = parser.parse_value(&mut commands) {
        let redis::Value::Array(words) = command else { return true };
        let Some(redis::Value::BulkString(name)) = words.first() else { return true };
        if !BACKGROUND.contains(&name.as_slice()) {
            return true;
        }
    }
    false
}

/// Passes bytes on both ways, and counts the commands' bursts on their way to the server: what is sent after an
/// answer has come is another round trip.
async fn counting(server: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let trips = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&trips);
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut upstream = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let (mut up, mut down) = ([0; 65_536], [0; 65_536]);
                let mut answered = true;
                loop {
                    tokio::select! {
                        count = client.read(&mut up) => {
                            let Ok(count @ 1..) = count else { return };
                            if answered && is_of_a_use_case(&up[..count]) {
                                counter.fetch_add(1, Ordering::SeqCst);
                                answered = false;
                            }
                            upstream.write_all(&up[..count]).await.unwrap();
                        }
                        count = upstream.read(&mut down) => {
                            let Ok(count @ 1..) = count else { return };
                            answered = true;
                            client.write_all(&down[..count]).await.unwrap();
                        }
                    }
                }
            });
        }
    });
    (port, trips)
}

async fn sessions(port: u16, durability: Durability) -> Sessions {
    let options = Options { durability, ..patient(&format!("redis://127.0.0.1:{port}")) };
    let store = RedisStore::connect(options, Arc::new(SystemClock)).await.unwrap();
    Sessions::new(store.clone(), store.clock(), Arc::new(SystemRandom), Policy::default())
}

/// The round trips of verifying, issuing, rotating and revoking.
async fn trips(sessions: &Sessions, counter: &AtomicUsize) -> [usize; 4] {
    let request = |device: &str| IssueRequest {
        device: DeviceId::new(device).unwrap(),
        subject: Subject::default(),
        client: ClientInfo::default(),
        ttl: None,
    };
    let cause = EndCause::by_rule(EndReason::Revoked);
    // The server learns the scripts.
    let known = sessions.issue(request("known")).await.unwrap();
    let known = sessions.rotate(&known.token).await.unwrap();
    sessions.revoke(&Target::Ids(vec![known.session.id]), None, &cause).await.unwrap();
    let taken = || counter.swap(0, Ordering::SeqCst);
    taken();
    let issued = sessions.issue(request("laptop")).await.unwrap();
    let issue = taken();
    sessions.verify(&issued.token, ActivityMode::Record).await.unwrap();
    let verify = taken();
    sessions.rotate(&issued.token).await.unwrap();
    let rotate = taken();
    sessions.revoke(&Target::Ids(vec![issued.session.id]), None, &cause).await.unwrap();
    [verify, issue, rotate, taken()]
}

#[tokio::test]
async fn a_verification_is_one_round_trip_and_a_change_is_two() {
    let server = Server::start();
    let (port, counter) = counting(server.port()).await;
    let sessions = sessions(port, Durability::Local).await;
    assert_eq!(trips(&sessions, &counter).await, [1, 2, 2, 2]);
}

/// The wait for the replica goes with the change: it takes longer, and is no round trip more.
#[tokio::test]
async fn waiting_for_a_replica_adds_none() {
    let server = Server::start_primary();
    let _replica = server.start_replica();
    let (port, counter) = counting(server.port()).await;
    let sessions = sessions(port, Durability::Replicated).await;
    let request = IssueRequest {
        device: DeviceId::new("first").unwrap(),
        subject: Subject::default(),
        client: ClientInfo::default(),
        ttl: None,
    };
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while sessions.issue(request.clone()).await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the replica did not connect");
    }
    assert_eq!(trips(&sessions, &counter).await, [1, 2, 2, 2]);
}
