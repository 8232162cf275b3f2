//! What enforcement costs beside the same stack bare, on one core each: forward auth, proxied requests, and bodies of
//! 1 GiB. Linux: processes are held to their cores by `taskset`.
//!
//! `cargo bench -p tenure-tests --bench gateway` runs all of it; `-- auth`, `-- proxy`, `-- nginx`, `-- bodies` a part.
//! `SECONDS_EACH` (default 3) is how long each figure is measured, `ROUNDS` (default 5) how often; the median counts.

#![expect(clippy::unwrap_used, reason = "a measurement that fails has nothing to say")]

mod load;
mod serve;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use tenure_redis_test_server::Server;

/// The core of what is measured, and the core of everything else.
const MEASURED: &str = "0";
const OTHERS: &str = "1";

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["role", role, rest @ ..] => serve::run(role, rest),
        ["load", rest @ ..] => load::run(rest),
        parts => {
            let all = ["auth", "nginx", "proxy", "bodies"];
            for part in if parts.is_empty() { &all[..] } else { parts } {
                match *part {
                    "auth" => auth(),
                    "nginx" => nginx(),
                    "proxy" => proxy(),
                    "bodies" => bodies(),
                    other => panic!("{other} is none of {all:?}"),
                }
            }
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A process of this program, held to a core; it says where it listens.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(core: &str, args: &[&str]) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut child = Command::new("taskset")
            .args(["-c", core])
            .arg(program)
            .arg("role")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        assert!(address.contains(':'), "{args:?} did not start");
        Self { child, address }
    }

    /// The most memory that it ever held, in MiB.
    fn peak(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks for `target` from one core for some seconds; requests per second.
fn ask(address: &str, target: &str, tokens: &str) -> f64 {
    let seconds = number("SECONDS_EACH", 3).to_string();
    let output = Command::new("taskset")
        .args(["-c", OTHERS])
        .arg(std::env::current_exe().unwrap())
        .args(["load", "requests", address, target, tokens, &seconds])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Measures each of several in turn, round by round, so that what disturbs the machine disturbs all of them.
fn compare(title: &str, of: &[(&str, &dyn Fn() -> f64)]) {
    let mut figures = vec![Vec::new(); of.len()];
    for _ in 0..number("ROUNDS", 5) {
        for ((_, measure), figures) in of.iter().zip(&mut figures) {
            figures.push(measure());
        }
    }
    println!("\n{title}");
    let floor = median(figures[0].clone());
    for ((name, _), figures) in of.iter().zip(figures) {
        let figure = median(figures);
        println!("  {name:<44} {figure:>9.0}/s  {:.3}", figure / floor);
    }
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

/// Forward auth beside a server that answers 204 to whatever it is asked.
fn auth() {
    let scratch = Scratch::new();
    let (json, redis) = (scratch.path("json"), scratch.path("redis"));
    let cached_tokens = scratch.path("cached");
    let bare = Process::start(MEASURED, &["bare"]);
    let on_json = Process::start(MEASURED, &["gateway", "json", &json, "-"]);
    let server = Server::start();
    let pinned = Command::new("taskset").args(["-acp", OTHERS, &server.pid().to_string()]).output().unwrap();
    assert!(pinned.status.success(), "{pinned:?}");
    let cached = Process::start(MEASURED, &["gateway", "redis-cached", &cached_tokens, "-", &server.url()]);
    let plain = Process::start(MEASURED, &["gateway", "redis", &redis, "-", &server.url()]);
    compare(
        "forward auth, 1,000 sessions, 64 connections, one core",
        &[
            ("axum, 204", &|| ask(&bare.address, "/_tenure/auth", &json)),
            ("tenure, JSON store", &|| ask(&on_json.address, "/_tenure/auth", &json)),
            ("tenure, Redis with near cache", &|| ask(&cached.address, "/_tenure/auth", &cached_tokens)),
            ("tenure, Redis", &|| ask(&plain.address, "/_tenure/auth", &redis)),
        ],
    );
}

/// The same behind nginx, which answers `ok` itself once it was told that it may.
fn nginx() {
    let scratch = Scratch::new();
    let json = scratch.path("json");
    let bare = Process::start(OTHERS, &["bare"]);
    let tenure = Process::start(OTHERS, &["gateway", "json", &json, "-"]);
    let before_bare = serve::Nginx::start(MEASURED, &scratch.path("bare.d"), &bare.address);
    let before_tenure = serve::Nginx::start(MEASURED, &scratch.path("tenure.d"), &tenure.address);
    compare(
        "behind nginx auth_request, nginx on a core of its own",
        &[
            ("axum, 204", &|| ask(&before_bare.address, "/", &json)),
            ("tenure, JSON store", &|| ask(&before_tenure.address, "/", &json)),
        ],
    );
}

/// Proxied requests beside the same proxy on a public path.
fn proxy() {
    let scratch = Scratch::new();
    let json = scratch.path("json");
    let upstream = Process::start(OTHERS, &["bare"]);
    let tenure = Process::start(MEASURED, &["gateway", "json", &json, &upstream.address]);
    compare(
        "proxied requests, 1,000 sessions, 64 connections, proxy on a core of its own",
        &[
            ("the same proxy, public path", &|| ask(&tenure.address, "/public/", &json)),
            ("tenure, JSON store", &|| ask(&tenure.address, "/", &json)),
        ],
    );
}

/// 1 GiB each way.
fn bodies() {
    let scratch = Scratch::new();
    let json = scratch.path("json");
    let upstream = Process::start(OTHERS, &["bodies"]);
    let tenure = Process::start(MEASURED, &["gateway", "json", &json, &upstream.address]);
    println!("\n1 GiB through the proxy");
    println!("  {:<44} {:>9.1} MiB", "peak memory before", tenure.peak());
    for way in ["down", "up"] {
        let output = Command::new("taskset")
            .args(["-c", OTHERS])
            .arg(std::env::current_exe().unwrap())
            .args(["load", way, &tenure.address, "/", &json])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        let seconds: f64 = String::from_utf8(output.stdout).unwrap().trim().parse().unwrap();
        println!("  {:<44} {:>9.0} MiB/s, peak memory {:.1} MiB", way, 1024.0 / seconds, tenure.peak());
    }
}
