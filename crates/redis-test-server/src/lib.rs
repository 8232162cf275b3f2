//! Redis servers for tests: one server, a primary with a replica behind sentinels, a cluster, each with TLS or without.
//!
//! Each test starts its own servers on free ports of 127.0.0.1. They stop when they are dropped. A [`Proxy`] between a
//! client and a server loses requests or answers.

mod cluster;
mod proxy;
mod sentinel;
mod tls;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use cluster::Cluster;
pub use proxy::{Lost, Proxy};
pub use sentinel::Sentinels;
use tempfile::TempDir;
use tenure_adapter_redis::Options;
use tenure_domain::Millis;
pub use tls::{Certificates, Tls};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(60);
/// The time that a machine which is busy with other tests may add to every bound.
pub const BUSY: Duration = Duration::from_secs(5);

/// The default options with limits that a busy machine keeps too, for tests that are not about those limits.
#[must_use]
pub fn patient(url: &str) -> Options {
    let limit = Millis::seconds(20);
    Options { response_timeout: limit, connect_timeout: limit, operation_timeout: limit, ..Options::new(url) }
}

/// A server on a free loopback port, with an append-only file in a directory of its own. What it has acknowledged
/// survives the process but not the machine, because it never waits for the disk.
pub struct Server {
    child: Child,
    dir: TempDir,
    port: u16,
    arguments: Vec<String>,
}

impl Server {
    /// Starts `$TEST_REDIS_SERVER`, else the `redis-server` on the path.
    ///
    /// # Panics
    /// If there is none, or if it does not start: a test that needs it cannot run.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with more arguments.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Self {
        Self::start_each(|| arguments.iter().map(|&argument| argument.to_owned()).collect())
    }

    /// Starts a server with arguments that are made again for each attempt, because another port may be taken too.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_each(arguments: impl Fn() -> Vec<String>) -> Self {
        let dir = TempDir::new().unwrap_or_else(|error| panic!("no temporary directory for a test server: {error}"));
        for _ in 0..5 {
            let (port, arguments) = (free_port(), arguments());
            let mut child = spawn(port, dir.path(), &arguments);
            if wait_until_ready(&mut child, port) {
                return Self { child, dir, port, arguments };
            }
            // Another test took the port first.
            stop(&mut child);
        }
        panic!("redis-server did not start in five tries; its log is in {}", dir.path().display());
    }

    /// Starts a server whose replicas do not have to wait.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_primary() -> Self {
        Self::start_with(&["--repl-diskless-sync-delay", "0"])
    }

    /// Starts a replica of the server, which begins to catch up.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_replica(&self) -> Self {
        Self::start_with(&["--replicaof", "127.0.0.1", &self.port.to_string()])
    }

    /// Returns the server's URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Returns the Unix socket on which the server also listens.
    #[must_use]
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.dir.path().join("redis.sock").display())
    }

    /// Returns the server's port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns the server's directory, with its socket, log and append-only file.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns the server's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the server.
    pub fn kill(&mut self) {
        stop(&mut self.child);
    }

    /// Starts the server again on the same port with the same data.
    ///
    /// # Panics
    /// If it does not start again.
    pub fn restart(&mut self) {
        stop(&mut self.child);
        self.child = spawn(self.port, self.dir.path(), &self.arguments);
        assert!(wait_until_ready(&mut self.child, self.port), "redis-server did not come back on port {}", self.port);
    }

    /// Stops the server's process: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Continues the server after [`Server::freeze`].
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Sends a command to the server, past any store.
    ///
    /// # Panics
    /// If the command is refused, or its answer has another type.
    pub fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        ask(self.port, words)
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot send SIG{name} to the test server");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

fn stop(child: &mut Child) {
    // The process may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

fn ask<T: redis::FromRedisValue>(port: u16, words: &[&str]) -> T {
    try_ask(port, words).unwrap_or_else(|error| panic!("the server on port {port} refuses {words:?}: {error}"))
}

fn try_ask<T: redis::FromRedisValue>(port: u16, words: &[&str]) -> redis::RedisResult<T> {
    let client = redis::Client::open(("127.0.0.1", port))?;
    let mut connection = client.get_connection_with_timeout(START)?;
    connection.set_read_timeout(Some(START))?;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query(&mut connection)
}

/// Returns `master`, or `slave` and the state of its link.
fn role(port: u16) -> Option<String> {
    let answer: Vec<redis::Value> = try_ask(port, &["ROLE"]).ok()?;
    let text = |at: usize| redis::from_redis_value::<String>(answer.get(at)?.clone()).ok();
    match text(0)?.as_str() {
        "slave" => Some(format!("slave {}", text(3)?)),
        other => Some(other.to_owned()),
    }
}

/// Waits until something holds.
///
/// # Panics
/// If it takes longer than a start may.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + START;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {START:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Returns a port of 127.0.0.1 that was free a moment ago.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener.unwrap_or_else(|error| panic!("no free port on 127.0.0.1: {error}")).port()
}

fn program() -> String {
    std::env::var("TEST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

fn spawn(port: u16, dir: &Path, arguments: &[String]) -> Child {
    let program = program();
    let mut command = Command::new(&program);
    command
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "no",
        ])
        .args(["--dir", &dir.display().to_string(), "--logfile", "redis.log", "--daemonize", "no"])
        .args(["--unixsocket", &dir.join("redis.sock").display().to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!(
            "cannot run {program}: {error}; install Redis 7.0 or later (Debian: apt-get install redis-server), \
             or set TEST_REDIS_SERVER to its path"
        )
    })
}

fn wait_until_ready(child: &mut Child, port: u16) -> bool {
    let deadline = Instant::now() + START;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return false;
        }
        if answers(port) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Whether a server on this port has loaded its data. One that asks for a password has.
fn answers(port: u16) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(b"PING\r\n")?;
        let mut line = String::new();
        BufReader::new(stream.take(200)).read_line(&mut line)?;
        std::io::Result::Ok(line)
    };
    ask().is_ok_and(|line| line.starts_with("+PONG") || line.starts_with("-NOAUTH"))
}
