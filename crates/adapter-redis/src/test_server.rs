//! A server of one's own for tests, gone when it is dropped.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(20);

/// A server on a free loopback port, with an append-only file in a directory of its own.
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
    /// Where there is none, or it does not start: a test that needs it cannot be run.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments of its command line.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Self {
        let dir = TempDir::new().unwrap_or_else(|error| panic!("no temporary directory for a test server: {error}"));
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        for _ in 0..5 {
            let port = free_port();
            let mut child = spawn(port, dir.path(), &arguments);
            if wait_until_ready(&mut child, port) {
                return Self { child, dir, port, arguments };
            }
            // Another test took the port first.
            stop(&mut child);
        }
        panic!("redis-server did not start in five tries; its log is in {}", dir.path().display());
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The Unix socket on which it listens too.
    #[must_use]
    pub fn unix_url(&self) -> String {
        format!("unix://{}", self.dir.path().join("redis.sock").display())
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its directory: socket, log, append-only file.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as a power loss would, with what it had not written yet.
    pub fn kill(&mut self) {
        stop(&mut self.child);
    }

    /// Starts it again on the same port with the same data.
    ///
    /// # Panics
    /// Where it does not come back.
    pub fn restart(&mut self) {
        stop(&mut self.child);
        self.child = spawn(self.port, self.dir.path(), &self.arguments);
        assert!(wait_until_ready(&mut self.child, self.port), "redis-server did not come back on port {}", self.port);
    }

    /// Stops it where it stands: connections stay open and nothing answers.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after [`Server::freeze`].
    pub fn thaw(&self) {
        self.signal("CONT");
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
    // It may have ended by itself; then there is nothing to stop.
    let _ = child.kill();
    let _ = child.wait();
}

/// A port of 127.0.0.1 that was free a moment ago.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    listener.unwrap_or_else(|error| panic!("no free port on 127.0.0.1: {error}")).port()
}

fn spawn(port: u16, dir: &Path, arguments: &[String]) -> Child {
    let program = std::env::var("TEST_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let mut command = Command::new(&program);
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
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

/// Whether a server answers there that has loaded its data; one that asks for a password has.
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
