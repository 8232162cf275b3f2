//! Replicas, primaries that become one, and names that lead elsewhere: none of them is believed.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use tenure_adapter_redis::{Durability, Options, RedisStore, Resolver};
use tenure_conformance::SystemClock;
use tenure_domain::{Policy, Session, SessionId};
use tenure_ports::{CommitError, FindOptions, StoreError, StoreEvent, prelude::*};
use tenure_redis_test_server::{BUSY, Cluster, Sentinels, Server, free_port, patient};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::support::{SOON, brief, device, eventually, issue, keep, new_session, open, revocation, revoke, store_at};

/// How long after a server became a replica the documentation lets it be believed, and after a name moved.
const DEMOTED: Duration = Duration::from_millis(500);
const MOVED: Duration = Duration::from_secs(5);

async fn refusal(options: Options) -> String {
    match RedisStore::connect(options, Arc::new(SystemClock)).await {
        Ok(_) => panic!("it connected"),
        Err(error @ StoreError::Unavailable { .. }) => error.to_string(),
        Err(error) => panic!("{error:?}"),
    }
}

/// Has the server replicate nobody that is there.
fn demote(server: &Server) {
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
}

/// Verifies without end; what was accepted later than it may be, and how often something was accepted at all.
struct Traffic {
    accepted: Arc<AtomicU64>,
    began: Arc<Mutex<Vec<Instant>>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Traffic {
    fn start(store: &Arc<RedisStore>, session: SessionId) -> Self {
        let (accepted, began, stop) = <(Arc<AtomicU64>, Arc<Mutex<Vec<Instant>>>, Arc<AtomicBool>)>::default();
        let tasks = (0..6).map(|number| {
            let (store, accepted, began, stop) =
                (Arc::clone(store), Arc::clone(&accepted), Arc::clone(&began), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let at = Instant::now();
                    let found = match number % 3 {
                        0 => store.find(session, FindOptions::FOR_USE).await,
                        1 => store.find(session, FindOptions::EXACT).await,
                        _ => match store.cache().and_then(|cache| cache.find_cached(session)) {
                            Some(found) => Ok(Some(found)),
                            None => store
                                .load_by_session(session)
                                .await
                                .map(|device| device.and_then(|device| device.session(session).cloned())),
                        },
                    };
                    match found {
                        Ok(found) => {
                            accepted.fetch_add(1, Ordering::Relaxed);
                            if found.is_some_and(|found| found.end.is_none()) {
                                began.lock().unwrap().push(at);
                            }
                        }
                        Err(StoreError::Unavailable { .. }) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                    tokio::task::yield_now().await;
                }
            })
        });
        Self {
            accepted: Arc::clone(&accepted),
            began: Arc::clone(&began),
            stop: Arc::clone(&stop),
            tasks: tasks.collect(),
        }
    }

    async fn flows(&self) {
        let before = self.accepted.load(Ordering::Relaxed);
        let more = async || self.accepted.load(Ordering::Relaxed) > before + 100;
        eventually("sessions are verified", SOON, more).await;
    }

    /// How many verifications that began after `bound` were accepted.
    async fn later_than(self, bound: Instant) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        let began = self.began.lock().unwrap();
        assert!(began.iter().any(|at| *at < bound), "nothing was verified before");
        began.iter().filter(|at| **at > bound).count()
    }
}

#[tokio::test]
async fn a_replica_is_refused_at_the_start_and_told_what_to_do() {
    let primary = Server::start_primary();
    let replica = primary.start_replica();
    let lost = Server::start();
    demote(&lost);
    eventually("it has caught up", SOON, async || {
        replica.ask::<String>(&["INFO", "replication"]).contains("master_link_status:up")
    })
    .await;
    for durability in [Durability::Local, Durability::Replicated] {
        let told = refusal(Options { durability, ..patient(&replica.url()) }).await;
        assert!(told.contains(&format!("redis at 127.0.0.1:{}", replica.port())), "{told}");
        assert!(told.contains(&format!("is a replica of 127.0.0.1:{}, ", primary.port())), "{told}");
        assert!(told.contains("name the primary in redis.url"), "{told}");
    }
    let told = refusal(Options { near_cache: true, ..patient(&lost.unix_url()) }).await;
    assert!(told.contains("redis.sock") && told.contains("that has lost it"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_verified_by_a_primary_that_became_a_replica() {
    for near_cache in [false, true] {
        let server = Server::start();
        let store = open(Options { near_cache, ..patient(&server.url()) }).await;
        let mut feed = store.subscribe().await.unwrap();
        let (session, _) = issue(&store, "laptop", &Policy::default()).await;
        if near_cache {
            keep(&store, session.id).await;
        }
        let traffic = Traffic::start(&store, session.id);
        traffic.flows().await;
        demote(&server);
        let bound = Instant::now() + DEMOTED;
        sleep_until(bound + Duration::from_secs(1)).await;
        assert_eq!(traffic.later_than(bound).await, 0, "near cache: {near_cache}");
        let told = store.find(session.id, FindOptions::EXACT).await.unwrap_err().to_string();
        assert!(told.contains("is a replica of"), "{told}");
        let loaded = store.load(&device("phone")).await;
        assert!(matches!(loaded, Err(StoreError::Unavailable { .. })), "{loaded:?}");
        // The news comes from nowhere meanwhile; once it is the primary again, all goes on.
        server.ask::<()>(&["REPLICAOF", "NO", "ONE"]);
        eventually("it is believed again", SOON, async || store.find(session.id, FindOptions::EXACT).await.is_ok())
            .await;
        let missed = async { while feed.next().await.unwrap() != StoreEvent::Lagged {} };
        timeout(SOON, missed).await.expect("the feed says that news may be missing");
        revoke(&store, session.id).await;
        assert!(store.find(session.id, FindOptions::EXACT).await.unwrap().unwrap().end.is_some());
    }
}

#[tokio::test]
async fn a_replica_that_takes_writes_acknowledges_none() {
    for durability in [Durability::Local, Durability::Replicated] {
        let server = Server::start();
        let store = open(Options { durability, ..brief(&server.url()) }).await;
        let policy = Policy::default();
        let loaded = store.load(&device("laptop")).await.unwrap();
        let issue = loaded.issue(new_session(&policy), &policy, store.clock().now()).unwrap();
        server.ask::<()>(&["CONFIG", "SET", "replica-read-only", "no"]);
        demote(&server);
        sleep(DEMOTED).await;
        let outcome = store.commit(&issue.commit).await;
        let refused = |outcome: &Result<_, CommitError>| {
            matches!(
                outcome,
                Err(CommitError::Store(StoreError::Unavailable { .. }) | CommitError::OutcomeUnknown { .. })
            )
        };
        assert!(refused(&outcome), "{outcome:?}");
        eventually("it is left", SOON, async || {
            let outcome = store.commit(&issue.commit).await;
            assert!(refused(&outcome), "{outcome:?}");
            outcome.unwrap_err().to_string().contains("is a replica of")
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_that_name_a_replica_are_not_followed() {
    let sentinels = Sentinels::start();
    let store = open(brief(&sentinels.url())).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    let is_primary =
        |number: usize| sentinels.server(number).ask::<String>(&["INFO", "replication"]).contains("role:master");
    let primary = sentinels.primary();
    demote(sentinels.server(primary));
    let bound = Instant::now() + DEMOTED;
    sleep_until(bound).await;
    let mut told = String::new();
    for _ in 0..10 {
        match store.find(session.id, FindOptions::EXACT).await {
            // The sentinels may have put things right by now.
            Ok(_) => assert!(is_primary(0) || is_primary(1), "a replica was believed"),
            // What is told is the last that went wrong within the time.
            Err(error) => told += &error.to_string(),
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert!(told.is_empty() || told.contains("but it is a replica") || told.contains("in time"), "{told}");
    sentinels.server(primary).ask::<()>(&["REPLICAOF", "NO", "ONE"]);
    eventually("it is believed again", SOON, async || store.find(session.id, FindOptions::EXACT).await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_a_cluster_that_became_a_replica_is_not_believed() {
    let cluster = Cluster::start_with(true, &[]);
    let near = open(Options { near_cache: true, ..patient(&cluster.url()) }).await;
    let other = store_at(&cluster.url()).await;
    let mut sessions = Vec::new();
    for number in 0..12 {
        let (session, _) = issue(&near, &format!("device {number}"), &Policy::default()).await;
        keep(&near, session.id).await;
        sessions.push(session);
    }
    // Once another has taken its place, the first node cannot follow it: it says a password that nobody asked for.
    cluster.nodes()[0].ask::<()>(&["CONFIG", "SET", "masterauth", "nobody asked"]);
    cluster.nodes()[3].ask::<()>(&["CLUSTER", "FAILOVER"]);
    let role = |number: usize| cluster.nodes()[number].ask::<String>(&["INFO", "replication"]);
    eventually("the replica took over", SOON, async || role(3).contains("role:master")).await;
    eventually("the primary gave in", SOON, async || role(0).contains("role:slave")).await;
    let bound = Instant::now() + DEMOTED;
    for session in &sessions {
        eventually("it is revoked", SOON, async || end(&other, session).await).await;
    }
    sleep_until(bound).await;
    for _ in 0..200 {
        for session in &sessions {
            let found = near.cache().unwrap().find_cached(session.id);
            assert!(found.is_none_or(|found| found.end.is_some()), "{session:?} is still accepted");
        }
        sleep(Duration::from_millis(5)).await;
    }
    assert!(role(0).contains("master_link_status:down"), "the test shows nothing: {}", role(0));
}

async fn end(store: &RedisStore, session: &Session) -> bool {
    let Ok(Some(loaded)) = store.load_by_session(session.id).await else {
        return false;
    };
    store.commit(&revocation(&loaded, session.id, store.clock().now())).await.is_ok()
}

#[tokio::test]
async fn a_server_whose_name_leads_elsewhere_is_left() {
    let (old, new) = (Server::start(), Server::start());
    let at = |server: &Server| SocketAddr::from(([127, 0, 0, 1], server.port()));
    let leads_to = Arc::new(Mutex::new(vec![at(&old)]));
    let names = Arc::clone(&leads_to);
    let resolver = Resolver::new(move |host, _| {
        assert_eq!(host, "db.example");
        Ok(names.lock().unwrap().clone())
    });
    let options = |near_cache| Options { near_cache, resolver: resolver.clone(), ..patient("redis://db.example") };
    let (plain, near) = (open(options(false)).await, open(options(true)).await);
    let mut feed = plain.subscribe().await.unwrap();
    let (session, _) = issue(&plain, "laptop", &Policy::default()).await;
    keep(&near, session.id).await;
    *leads_to.lock().unwrap() = vec![at(&new)];
    let moved = Instant::now();
    for store in [&plain, &near] {
        eventually("the new server is asked", SOON, async || {
            store.find(session.id, FindOptions::EXACT).await.unwrap().is_none()
        })
        .await;
    }
    assert!(moved.elapsed() < MOVED + BUSY, "{:?}", moved.elapsed());
    assert!(near.cache().unwrap().find_cached(session.id).is_none());
    let next = async {
        loop {
            let (issued, _) = issue(&near, "phone", &Policy::default()).await;
            while let Ok(Some(item)) = timeout(Duration::from_millis(200), feed.next()).await {
                if matches!(item, StoreEvent::Changed { session, .. } if session == issued.id) {
                    return;
                }
            }
        }
    };
    timeout(SOON, next).await.expect("the news is that of the new server");
}

#[tokio::test]
async fn the_addresses_of_a_name_are_tried_in_turn() {
    let server = Server::start();
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let replica = Server::start();
    demote(&replica);
    let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let all = vec![at(free_port()), silent.local_addr().unwrap(), at(replica.port()), at(server.port())];
    let resolver = Resolver::new(move |_, _| Ok(all.clone()));
    let store = open(Options { near_cache: true, resolver, ..brief("redis://db.example") }).await;
    let mut feed = store.subscribe().await.unwrap();
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    assert!(matches!(timeout(SOON, feed.next()).await, Ok(Some(StoreEvent::Changed { .. }))));
    keep(&store, session.id).await;
    // What a server said is told, and by which address, rather than that another is silent.
    let bad = vec![at(free_port()), at(replica.port())];
    let resolver = Resolver::new(move |_, _| Ok(bad.clone()));
    let told = refusal(Options { resolver, ..brief("redis://db.example") }).await;
    assert!(told.contains(&format!("127.0.0.1:{}: the server is a replica", replica.port())), "{told}");
    let resolver = Resolver::new(|_, _| Err(std::io::Error::other("no such name")));
    let told = refusal(Options { resolver, ..brief("redis://db.example") }).await;
    assert!(told.contains("db.example could not be found: no such name"), "{told}");
}

#[tokio::test]
async fn a_verification_is_one_command_and_the_watch_is_beside_it() {
    let server = Server::start();
    let store = store_at(&server.url()).await;
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    store.find(session.id, FindOptions::FOR_USE).await.unwrap();
    server.ask::<()>(&["CONFIG", "RESETSTAT"]);
    let began = Instant::now();
    for _ in 0..2_000 {
        store.find(session.id, FindOptions::FOR_USE).await.unwrap();
    }
    let taken = began.elapsed();
    let stats: String = server.ask(&["INFO", "commandstats"]);
    let calls = |command: &str| {
        let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse::<u64>().unwrap())
    };
    println!("{:?} a verification; {} INFO beside 2,000 GET", taken / 2_000, calls("info"));
    assert_eq!(calls("get"), 2_000);
    assert!(calls("info") <= 3 + taken.as_millis() as u64 / 200, "{stats}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_loads_its_data_is_not_believed() {
    let server = Server::start_with(&["--enable-debug-command", "yes"]);
    let session = issue(&*store_at(&server.url()).await, "laptop", &Policy::default()).await.0;
    // While a server loads, it answers between a thousand commands and the next: this makes it load for some seconds.
    server.ask::<()>(&["EVAL", "for i = 1, 20000 do redis.call('SET', 'filler' .. i, i) end", "0"]);
    server.ask::<()>(&["CONFIG", "SET", "key-load-delay", "250"]);
    // Its limits end before the loading does, or it would wait for the end.
    let store = open(brief(&server.url())).await;
    let deadline = Instant::now() + 4 * SOON;
    loop {
        let loads = std::thread::scope(|scope| {
            let loading = scope.spawn(|| server.ask::<()>(&["DEBUG", "LOADAOF"]));
            let mut told = Vec::new();
            while !loading.is_finished() {
                let found = tokio::task::block_in_place(|| {
                    tokio::runtime::Handle::current().block_on(store.find(session.id, FindOptions::EXACT))
                });
                match found {
                    // Either before it began, or once it was done: never "no such session".
                    Ok(found) => assert!(found.is_some(), "it was taken for absent"),
                    Err(error) => told.push(error.to_string()),
                }
            }
            told
        });
        if loads.iter().any(|told| told.contains("the server is loading its data")) {
            break;
        }
        // A machine that is busy may answer none of them in time.
        assert!(Instant::now() < deadline, "{loads:?}");
    }
    eventually("it is believed again", SOON, async || store.find(session.id, FindOptions::EXACT).await.is_ok()).await;
}
