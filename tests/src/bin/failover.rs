//! What becomes of acknowledged revocations when a primary is lost: run by `cargo xtask faults`, as root on Linux.
//!
//! Two network namespaces: in one the primary and a process that revokes, in the other the replica and three
//! sentinels. Each round loses the primary under load, either killed or cut off with the revoking process on its side,
//! and asks the new primary about every revocation that was acknowledged. In the rounds with a cut the revoking
//! process is killed before the cut is healed, so that nobody is left to end again what was lost.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tempfile::TempDir;
use tenure_adapter_redis::{Durability, Options, RedisStore};
use tenure_conformance::{SystemClock, SystemRandom};
use tenure_domain::{ClientInfo, DeviceId, EndCause, EndReason, Policy, SessionId, Subject};
use tenure_ports::{FindOptions, prelude::*};
use tenure_service::{IssueRequest, Sessions, Target};

type Failure = Box<dyn std::error::Error>;

const PRIMARY: &str = "10.213.7.1";
const REPLICA: &str = "10.213.7.2";
const PORT: u16 = 7_379;
const SENTINELS: [u16; 3] = [27_381, 27_382, 27_383];
/// Sessions that each round may revoke.
const SESSIONS: usize = 10_000;
/// Revocations under way at once.
const AT_ONCE: usize = 8;
/// How long a round goes on after the primary is lost.
const AFTERWARDS: Duration = Duration::from_secs(4);
const SOON: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["revoke", durability] => run(revoke(durability)),
        ["check"] => run(check()),
        ["all", rounds] => rounds.parse().map_err(Failure::from).and_then(all),
        _ => Err("usage: failover all ROUNDS".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failover: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

async fn connect(durability: Durability) -> Result<Arc<RedisStore>, Failure> {
    let hosts: Vec<String> = SENTINELS.iter().map(|port| format!("{REPLICA}:{port}")).collect();
    let options = Options { durability, ..Options::new(&format!("redis+sentinel://{}/main", hosts.join(","))) };
    Ok(RedisStore::connect(options, Arc::new(SystemClock)).await?)
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody listens any more once the round is over.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Issues sessions, then ends one after the other, and says which ends were acknowledged.
async fn revoke(durability: &str) -> Result<(), Failure> {
    let issuing = connect(Durability::Local).await?;
    let sessions = |store: &Arc<RedisStore>| {
        Sessions::new(store.clone(), store.clock(), Arc::new(SystemRandom), Policy::default())
    };
    let issuer = sessions(&issuing);
    let ids: Vec<SessionId> = stream::iter(0..SESSIONS)
        .map(|number| {
            let issuer = &issuer;
            async move {
                let device = DeviceId::new(&format!("device-{number}"))?;
                let request =
                    IssueRequest { device, subject: Subject::default(), client: ClientInfo::default(), ttl: None };
                Ok::<_, Failure>(issuer.issue(request).await?.session.id)
            }
        })
        .buffer_unordered(64)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    let durability = if durability == "replicated" { Durability::Replicated } else { Durability::Local };
    let store = connect(durability).await?;
    let revoker = sessions(&store);
    say("ready");
    stream::iter(ids)
        .for_each_concurrent(AT_ONCE, |id| {
            let revoker = &revoker;
            async move {
                let cause = EndCause::by_rule(EndReason::Revoked);
                match revoker.revoke(&Target::Ids(vec![id]), None, &cause).await {
                    Ok(revoked) if revoked.ended.len() == 1 => say(&format!("revoked {id}")),
                    Ok(_) => say("odd"),
                    Err(_) => say("failed"),
                }
            }
        })
        .await;
    // Lives on, as a gateway does.
    std::future::pending().await
}

/// Reads ids, and says which of these sessions the primary shows as active, or does not know.
async fn check() -> Result<(), Failure> {
    let store = connect(Durability::Local).await?;
    for line in std::io::stdin().lock().lines() {
        let id: SessionId = line?.parse()?;
        if store.find(id, FindOptions::EXACT).await?.is_none_or(|session| session.end.is_none()) {
            say(&format!("active {id}"));
        }
    }
    Ok(())
}

fn sh(line: &str) -> Result<(), Failure> {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap_or_default()).args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{line}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// Two namespaces and the cable between them.
struct Network {
    near: String,
    far: String,
}

impl Network {
    fn new() -> Result<Self, Failure> {
        let id = std::process::id();
        let network = Self { near: format!("tenure-near-{id}"), far: format!("tenure-far-{id}") };
        let (near, far) = (&network.near, &network.far);
        sh(&format!("ip netns add {near}"))?;
        sh(&format!("ip netns add {far}"))?;
        sh(&format!("ip link add tn{id} netns {near} type veth peer name tf{id} netns {far}"))?;
        for (space, link, address) in [(near, format!("tn{id}"), PRIMARY), (far, format!("tf{id}"), REPLICA)] {
            sh(&format!("ip -n {space} addr add {address}/24 dev {link}"))?;
            sh(&format!("ip -n {space} link set {link} up"))?;
            sh(&format!("ip -n {space} link set lo up"))?;
        }
        Ok(network)
    }

    fn cable(&self, state: &str) -> Result<(), Failure> {
        sh(&format!("ip -n {} link set tf{} {state}", self.far, std::process::id()))
    }

    fn command(space: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", space, program])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for space in [&self.near, &self.far] {
            if let Err(error) = sh(&format!("ip netns del {space}")) {
                eprintln!("failover: {error}");
            }
        }
    }
}

/// A process that ends with its handle.
struct Process(Child);

impl Process {
    fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn server(space: &str, dir: &Path, address: &str, more: &[&str]) -> Result<Process, Failure> {
    let program = std::env::var("TEST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let dir = dir.join(address);
    std::fs::create_dir_all(&dir)?;
    let mut command = Network::command(space, &program);
    command
        .args(["--port", &PORT.to_string(), "--bind", address, "--protected-mode", "no", "--save", ""])
        .args(["--appendonly", "yes", "--dir", &dir.display().to_string(), "--logfile", "log"])
        .args(["--repl-diskless-sync-delay", "0", "--repl-timeout", "5"])
        .args(more);
    Ok(Process(command.spawn()?))
}

fn sentinel(space: &str, dir: &Path, port: u16) -> Result<Process, Failure> {
    let program = std::env::var("TEST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let folder = dir.join(port.to_string());
    std::fs::create_dir_all(&folder)?;
    let file = folder.join("sentinel.conf");
    let text = format!(
        "port {port}\nbind {REPLICA}\nprotected-mode no\ndir {}\nlogfile log\nsentinel monitor main {PRIMARY} {PORT} 2\n\
         sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 3000\nsentinel known-replica main {REPLICA} {PORT}\n",
        folder.display()
    );
    std::fs::write(&file, text)?;
    let mut command = Network::command(space, &program);
    command.arg(&file).arg("--sentinel");
    Ok(Process(command.spawn()?))
}

/// What a server answers, asked in its own namespace.
fn ask(space: &str, address: &str, port: u16, words: &[&str]) -> String {
    let output = Network::command(space, "redis-cli")
        .args(["-h", address, "-p", &port.to_string()])
        .args(words)
        .stdout(Stdio::piped())
        .output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) -> Result<(), Failure> {
    let deadline = Instant::now() + SOON;
    while !holds() {
        if Instant::now() > deadline {
            return Err(format!("not within {SOON:?}: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// What a revoking process said.
#[derive(Default)]
struct Said {
    ready: bool,
    revoked: Vec<(Instant, String)>,
    failed: usize,
}

/// What came of losing a primary.
#[derive(Default)]
struct Outcome {
    /// Revocations that were acknowledged.
    acknowledged: usize,
    /// Those of them that were after the primary was gone.
    after: usize,
    /// Revocations that were refused, or not durable, or of unknown outcome.
    failed: usize,
    /// Acknowledged ones that the new primary does not know of.
    lost: usize,
    /// The longest time without an acknowledgement.
    silent: Duration,
}

/// Loses the primary once.
fn round(durability: &str, cut: bool) -> Result<Outcome, Failure> {
    let network = Network::new()?;
    let dir = TempDir::new()?;
    let (near, far) = (&network.near, &network.far);
    let mut primary = server(near, dir.path(), PRIMARY, &[])?;
    let replicaof = format!("{PRIMARY} {PORT}");
    let _replica = server(far, dir.path(), REPLICA, &["--replicaof", &replicaof])?;
    wait_until("the replica has caught up", || {
        ask(far, REPLICA, PORT, &["INFO", "replication"]).contains("master_link_status:up")
    })?;
    let _sentinels = SENTINELS.iter().map(|port| sentinel(far, dir.path(), *port)).collect::<Result<Vec<_>, _>>()?;
    wait_until("the sentinels know each other and the replica", || {
        SENTINELS.iter().all(|port| {
            let known = ask(far, REPLICA, *port, &["SENTINEL", "MASTER", "main"]);
            let value =
                |name: &str| known.lines().skip_while(|line| *line != name).nth(1).unwrap_or_default().to_owned();
            value("num-other-sentinels") == "2" && value("num-slaves") == "1"
        })
    })?;
    let this = std::env::current_exe()?.display().to_string();
    let mut revoking = Network::command(near, &this);
    let mut revoking = Process(revoking.args(["revoke", durability]).stdout(Stdio::piped()).spawn()?);
    let said = Arc::new(Mutex::new(Said::default()));
    let listening = {
        let (out, said) = (revoking.0.stdout.take().ok_or("no output")?, Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let mut said = said.lock();
                match line.strip_prefix("revoked ") {
                    Some(id) => said.revoked.push((Instant::now(), id.to_owned())),
                    None if line == "ready" => said.ready = true,
                    None => said.failed += 1,
                }
            }
        })
    };
    wait_until("revocations are under way", || said.lock().revoked.len() > 200)?;
    let lost_at = Instant::now();
    if cut {
        network.cable("down")?;
    } else {
        primary.kill();
    }
    wait_until("another primary is named", || {
        ask(far, REPLICA, SENTINELS[0], &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]).starts_with(REPLICA)
            && ask(far, REPLICA, PORT, &["ROLE"]).starts_with("master")
    })?;
    std::thread::sleep(AFTERWARDS.saturating_sub(lost_at.elapsed()));
    revoking.kill();
    listening.join().map_err(|_| "the listener panicked")?;
    if cut {
        network.cable("up")?;
        wait_until("the old primary gives in", || ask(near, PRIMARY, PORT, &["ROLE"]).starts_with("slave"))?;
    }
    let said = said.lock();
    let acknowledged: BTreeSet<&str> = said.revoked.iter().map(|(_, id)| id.as_str()).collect();
    let mut asking = Network::command(far, &this);
    let mut asking = Process(asking.arg("check").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?);
    let mut input = asking.0.stdin.take().ok_or("no input")?;
    let out = asking.0.stdout.take().ok_or("no output")?;
    let answers = std::thread::spawn(move || BufReader::new(out).lines().map_while(Result::ok).count());
    for id in &acknowledged {
        writeln!(input, "{id}")?;
    }
    drop(input);
    let lost = answers.join().map_err(|_| "the reader panicked")?;
    if !asking.0.wait()?.success() {
        return Err("the new primary could not be asked".into());
    }
    let after: Vec<Instant> = said.revoked.iter().map(|(at, _)| *at).filter(|at| *at > lost_at).collect();
    let times = std::iter::once(lost_at).chain(after.iter().copied());
    let silent = times.clone().zip(times.skip(1)).map(|(one, next)| next - one).max().unwrap_or_default();
    Ok(Outcome { acknowledged: acknowledged.len(), after: after.len(), failed: said.failed, lost, silent })
}

fn all(rounds: usize) -> Result<(), Failure> {
    let mut failed = false;
    // What `local` loses shows in a few rounds; that `replicated` loses nothing takes all of them.
    for (durability, rounds) in [("replicated", rounds.div_ceil(2)), ("local", rounds.div_ceil(8))] {
        for cut in [false, true] {
            let mut sum = Outcome::default();
            for _ in 0..rounds {
                let outcome = round(durability, cut)?;
                sum.acknowledged += outcome.acknowledged;
                sum.after += outcome.after;
                sum.failed += outcome.failed;
                sum.lost += outcome.lost;
                sum.silent = sum.silent.max(outcome.silent);
            }
            failed |= sum.lost > 0 && durability == "replicated";
            let Outcome { acknowledged, after, failed, lost, silent } = sum;
            println!(
                "{durability:<10}  primary {:<7}  {rounds} failovers: {lost} of {acknowledged} acknowledged revocations \
                 lost ({after} acknowledged after the primary was gone, {failed} not acknowledged; longest silence {:.1} s)",
                if cut { "cut off" } else { "killed" },
                silent.as_secs_f64()
            );
        }
    }
    if failed { Err("acknowledged revocations were lost".into()) } else { Ok(()) }
}
