//! What the store in Redis costs beside bare commands of the same client on the same server, in one run.
//!
//! `cargo bench -p tenure-tests --bench redis`; needs two cores that nobody else uses.

#![expect(clippy::unwrap_used, reason = "a measurement that fails has nothing to say")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use redis::aio::MultiplexedConnection;
use tenure_adapter_redis::{Durability, Options, RedisStore};
use tenure_conformance::{SystemClock, SystemRandom};
use tenure_domain::{ClientInfo, DeviceId, EndCause, EndReason, Filter, Policy, SortKey, Subject, Token};
use tenure_ports::{FindOptions, prelude::*};
use tenure_redis_test_server::Server;
use tenure_service::{ActivityMode, IssueRequest, Sessions, Target};

/// Sessions in the store.
const SESSIONS: usize = 100_000;
/// Each measurement is taken so often, in turns with the others; the middle one counts.
const TURNS: usize = 7;

async fn connect(server: &Server, change: impl FnOnce(&mut Options)) -> (Arc<RedisStore>, Arc<Sessions>) {
    let mut options = Options::new(&server.url());
    change(&mut options);
    let store = RedisStore::connect(options, Arc::new(SystemClock)).await.unwrap();
    let sessions = Sessions::new(store.clone(), store.clock(), Arc::new(SystemRandom), Policy::default());
    (store, Arc::new(sessions))
}

fn request(device: &str) -> IssueRequest {
    let device = DeviceId::new(device).unwrap();
    IssueRequest { device, subject: Subject::default(), client: ClientInfo::default(), ttl: None }
}

async fn fill(sessions: &Sessions, count: usize, devices: usize) -> Vec<Token> {
    stream::iter(0..count)
        .map(|n| async move { sessions.issue(request(&format!("device-{}", n % devices))).await.unwrap().token })
        .buffer_unordered(64)
        .collect()
        .await
}

async fn bare(server: &Server) -> MultiplexedConnection {
    let client = redis::Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

async fn info(connection: &MultiplexedConnection, field: &str) -> f64 {
    let text: String = redis::cmd("INFO").query_async(&mut connection.clone()).await.unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    value.unwrap().trim().parse().unwrap()
}

async fn cpu(connection: &MultiplexedConnection) -> f64 {
    info(connection, "used_cpu_user").await + info(connection, "used_cpu_sys").await
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The three things that are compared: one that looks up, and two bare commands.
#[derive(Clone, Copy)]
enum What {
    Get,
    Mget,
    Verify,
}

const ALL: [What; 3] = [What::Get, What::Mget, What::Verify];

struct Rig {
    sessions: Arc<Sessions>,
    tokens: Vec<Token>,
    bare: MultiplexedConnection,
    next: AtomicU64,
}

impl Rig {
    fn token(&self) -> &Token {
        let at = self.next.fetch_add(61_195_301, Ordering::Relaxed) as usize;
        &self.tokens[at % self.tokens.len()]
    }

    /// The names of a session's record and activity.
    fn keys(&self) -> (String, String) {
        let id = self.token().session();
        (format!("tenure:{{{}}}:s:{id}", id.bucket()), format!("tenure:{{{}}}:a:{id}", id.bucket()))
    }

    async fn once(&self, what: What) {
        let mut bare = self.bare.clone();
        match what {
            What::Verify => {
                black_box(self.sessions.verify(self.token(), ActivityMode::Record).await.unwrap());
            }
            What::Get => {
                let value: Vec<u8> = redis::cmd("GET").arg(self.keys().0).query_async(&mut bare).await.unwrap();
                black_box(value);
            }
            What::Mget => {
                let (record, activity) = self.keys();
                let value: Vec<Option<Vec<u8>>> =
                    redis::cmd("MGET").arg(record).arg(activity).query_async(&mut bare).await.unwrap();
                black_box(value);
            }
        }
    }

    /// Seconds for each, with so many in flight.
    async fn measure(&self, in_flight: usize, count: usize) -> [f64; 3] {
        let mut taken: [Vec<f64>; 3] = Default::default();
        for _ in 0..TURNS {
            for (what, taken) in ALL.into_iter().zip(&mut taken) {
                let began = Instant::now();
                let rounds = (0..in_flight).map(|_| async {
                    for _ in 0..count / in_flight {
                        self.once(what).await;
                    }
                });
                futures_util::future::join_all(rounds).await;
                taken.push(began.elapsed().as_secs_f64() / count as f64);
            }
        }
        taken.map(middle)
    }
}

async fn verify(rig: &Rig) {
    let [get, mget, verify] = rig.measure(1, 4_000).await.map(|seconds| seconds * 1e6);
    println!("one in flight     GET {get:.1} µs   MGET of two {mget:.1} µs   verify {verify:.1} µs");
    println!("                  verify / GET {:.2}   verify / MGET {:.2}", verify / get, verify / mget);
    let [get, mget, verify] = rig.measure(64, 64_000).await.map(|seconds| 1.0 / seconds);
    println!("64 in flight      GET {get:.0}/s   MGET of two {mget:.0}/s   verify {verify:.0}/s");
    println!("                  verify / GET {:.2}   verify / MGET {:.2}", verify / get, verify / mget);
    let (before, count) = (cpu(&rig.bare).await, 200_000);
    let rounds = (0..64).map(|_| async {
        for _ in 0..count / 64 {
            rig.once(What::Verify).await;
        }
    });
    futures_util::future::join_all(rounds).await;
    let spent = (cpu(&rig.bare).await - before) / count as f64;
    println!("server            {:.2} µs of CPU a verify (64 in flight)", spent * 1e6);
}

/// What it costs the server to record that every session was used.
async fn activity(rig: &Rig) {
    let (memory, spent) = (info(&rig.bare, "used_memory").await, cpu(&rig.bare).await);
    let network = info(&rig.bare, "total_net_input_bytes").await + info(&rig.bare, "total_net_output_bytes").await;
    for token in &rig.tokens {
        rig.sessions.verify(token, ActivityMode::Record).await.unwrap();
    }
    let count = rig.tokens.len() as f64;
    let verified = info(&rig.bare, "total_net_input_bytes").await + info(&rig.bare, "total_net_output_bytes").await;
    let spent = (spent, cpu(&rig.bare).await);
    rig.sessions.flush_activity().await.unwrap();
    println!(
        "activity          {:.2} µs of CPU a session, {:.0} bytes more a session in use; one in flight a verify takes \
         {:.2} µs of CPU; {:.0} bytes a verify on the wire",
        (cpu(&rig.bare).await - spent.1) * 1e6 / count,
        (info(&rig.bare, "used_memory").await - memory) / count,
        (spent.1 - spent.0) * 1e6 / count,
        (verified - network) / count
    );
}

async fn changes(server: &Server, rig: &Rig) {
    let count = 1_000;
    let mut tokens = Vec::with_capacity(count);
    let mut took = Vec::new();
    let before = cpu(&rig.bare).await;
    for n in 0..count {
        let began = Instant::now();
        tokens.push(rig.sessions.issue(request(&format!("change-{n}"))).await.unwrap().token);
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let issue = (middle(took), (cpu(&rig.bare).await - before) * 1e6 / count as f64);
    let (mut took, before) = (Vec::new(), cpu(&rig.bare).await);
    for token in &mut tokens {
        let began = Instant::now();
        *token = rig.sessions.rotate(token).await.unwrap().token;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let rotate = (middle(took), (cpu(&rig.bare).await - before) * 1e6 / count as f64);
    let (mut took, before) = (Vec::new(), cpu(&rig.bare).await);
    for token in &tokens {
        let began = Instant::now();
        let cause = EndCause::by_rule(EndReason::Revoked);
        rig.sessions.revoke(&Target::Ids(vec![token.session()]), None, &cause).await.unwrap();
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let revoke = (middle(took), (cpu(&rig.bare).await - before) * 1e6 / count as f64);
    println!(
        "changes           issue {:.0} µs   rotate {:.0} µs   revoke {:.0} µs (server CPU {:.0}, {:.0}, {:.0} µs)",
        issue.0, rotate.0, revoke.0, issue.1, rotate.1, revoke.1
    );
    let began = Instant::now();
    fill(&rig.sessions, 10_000, 10_000).await;
    println!("                  {:.0} issues/s with 64 in flight", 10_000.0 / began.elapsed().as_secs_f64());
    let _replica = Server::start_with(&["--replicaof", "127.0.0.1", &server.port().to_string()]);
    let (_, sessions) = connect(server, |options| options.durability = Durability::Replicated).await;
    while sessions.issue(request("first")).await.is_err() {}
    let mut took = Vec::new();
    for n in 0..count {
        let began = Instant::now();
        sessions.issue(request(&format!("replicated-{n}"))).await.unwrap();
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    let began = Instant::now();
    fill(&sessions, 10_000, 10_000).await;
    let rate = 10_000.0 / began.elapsed().as_secs_f64();
    println!("replicated        issue {:.0} µs   {rate:.0} issues/s with 64 in flight", middle(took));
}

async fn walks(rig: &Rig, store: &RedisStore) {
    let (mut first, mut all) = (Vec::new(), Vec::new());
    let mut count = 0;
    for _ in 0..5 {
        let began = Instant::now();
        black_box(rig.sessions.page(&Filter::default(), None, 100).await.unwrap());
        first.push(began.elapsed().as_secs_f64() * 1e3);
        let began = Instant::now();
        count = store
            .list_sorted(&Filter::default(), store.clock().now(), SortKey::LastActivity, usize::MAX)
            .await
            .unwrap()
            .len();
        all.push(began.elapsed().as_secs_f64());
    }
    println!("listing           first page {:.1} ms   all {count} sessions {:.2} s", middle(first), middle(all));
}

/// Verifications by one and by two threads of sessions that are kept in memory.
async fn near(server: &Server, tokens: &[Token]) {
    let (store, sessions) = connect(server, |options| options.near_cache = true).await;
    for kept in [1_000, 50_000] {
        let tokens: Arc<[Token]> = tokens[..kept].to_vec().into();
        while store.cache().unwrap().find_cached(tokens[0].session()).is_none() {
            store.find(tokens[0].session(), FindOptions::EXACT).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stream::iter(tokens.iter())
            .for_each_concurrent(64, |token| {
                let store = &store;
                async move { drop(store.find(token.session(), FindOptions::EXACT).await.unwrap()) }
            })
            .await;
        for threads in [1, 2] {
            let stop = Arc::new(AtomicBool::new(false));
            let began = Instant::now();
            let workers: Vec<_> = (0..threads)
                .map(|worker| {
                    let (sessions, tokens, stop) = (Arc::clone(&sessions), Arc::clone(&tokens), Arc::clone(&stop));
                    std::thread::spawn(move || {
                        let (mut at, mut done, mut missed) = (worker * 7_919, 0_u64, 0_u64);
                        while !stop.load(Ordering::Relaxed) {
                            for _ in 0..1_000 {
                                at = (at + 611_953) % tokens.len();
                                // Ready at once where the session is kept; what is not is asked for by nobody here.
                                let verified = sessions.verify(&tokens[at], ActivityMode::Record).now_or_never();
                                missed += u64::from(verified.is_none());
                                black_box(verified);
                                done += 1;
                            }
                        }
                        (done, missed)
                    })
                })
                .collect();
            tokio::time::sleep(Duration::from_secs(2)).await;
            stop.store(true, Ordering::Relaxed);
            let elapsed = began.elapsed().as_secs_f64();
            let (done, missed) = workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
            let rate = done as f64 / elapsed;
            println!(
                "near cache        {kept} sessions, {threads} thread{}: {:.0} ns   {:.2} M/s   {missed} not kept",
                if threads == 1 { "" } else { "s" },
                1e9 * f64::from(threads as u32) / rate,
                rate / 1e6
            );
        }
    }
}

/// How long after its acknowledgement a revocation by others is refused here.
async fn invalidation(server: &Server) {
    let (store, _) = connect(server, |options| options.near_cache = true).await;
    let (_, theirs) = connect(server, |_| {}).await;
    let mut delays = Vec::new();
    for n in 0..2_000 {
        let token = theirs.issue(request(&format!("told-{}", n % 500))).await.unwrap().token;
        let id = token.session();
        while store.cache().unwrap().find_cached(id).is_none() {
            store.find(id, FindOptions::EXACT).await.unwrap();
        }
        let watched = Arc::clone(&store);
        let gone = std::thread::spawn(move || {
            while watched.cache().unwrap().find_cached(id).is_some() {
                // Looks often, and leaves the cores to others meanwhile.
                std::thread::sleep(Duration::from_micros(20));
            }
            Instant::now()
        });
        let cause = EndCause::by_rule(EndReason::Revoked);
        theirs.revoke(&Target::Ids(vec![id]), None, &cause).await.unwrap();
        let acknowledged = Instant::now();
        let gone = tokio::task::spawn_blocking(move || gone.join().unwrap()).await.unwrap();
        delays.push(gone.saturating_duration_since(acknowledged).as_secs_f64() * 1e3);
    }
    delays.sort_by(f64::total_cmp);
    println!(
        "revoked elsewhere refused from memory {:.2} ms (p50), {:.2} ms (p99), {:.2} ms (longest) after the \
         acknowledgement",
        delays[delays.len() / 2],
        delays[delays.len() * 99 / 100],
        delays[delays.len() - 1]
    );
}

async fn measure() {
    let server = Server::start_with(&["--appendonly", "no", "--repl-diskless-sync-delay", "0"]);
    let (store, sessions) = connect(&server, |_| {}).await;
    let bare = bare(&server).await;
    for devices in [SESSIONS, SESSIONS / 10] {
        let before = info(&bare, "used_memory").await;
        let tokens = fill(&sessions, SESSIONS, devices).await;
        let bytes = (info(&bare, "used_memory").await - before) / SESSIONS as f64;
        println!("memory            {bytes:.0} bytes a session, {} to a device", SESSIONS / devices);
        if devices == SESSIONS {
            let () = redis::cmd("FLUSHALL").query_async(&mut bare.clone()).await.unwrap();
            continue;
        }
        let rig = Rig { sessions: Arc::clone(&sessions), tokens, bare: bare.clone(), next: AtomicU64::new(1) };
        verify(&rig).await;
        walks(&rig, &store).await;
        activity(&rig).await;
        near(&server, &rig.tokens).await;
        invalidation(&server).await;
        changes(&server, &rig).await;
    }
}

fn main() {
    // `cargo test --benches` only wants to know that it builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async { tokio::spawn(measure()).await.unwrap() });
}
