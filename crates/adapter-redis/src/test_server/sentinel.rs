//! A primary, a replica, and three sentinels that watch them.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Server, ask, free_port, role, stop, wait_until, wait_until_ready};

const SERVICE: &str = "main";
const SENTINELS: usize = 3;

/// Two servers, one of which replicates the other, and three sentinels.
pub struct Sentinels {
    servers: [Server; 2],
    sentinels: Vec<Sentinel>,
    _dir: TempDir,
}

struct Sentinel {
    child: Child,
    port: u16,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

impl Sentinels {
    /// Starts them, and waits until they know each other.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with more arguments for the two servers.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_with(arguments: &[&str]) -> Self {
        let dir = TempDir::new().unwrap_or_else(|error| panic!("no temporary directory for sentinels: {error}"));
        let common = [arguments, &["--repl-diskless-sync-delay", "0", "--repl-timeout", "5"]].concat();
        let primary = Server::start_with(&common);
        let address = format!("127.0.0.1 {}", primary.port());
        let replica = Server::start_with(&[&common[..], &["--replicaof", &address]].concat());
        let servers = [primary, replica];
        wait_until("the replica has caught up", || role(servers[1].port()).as_deref() == Some("slave connected"));
        let sentinels = start_sentinels(dir.path(), servers[0].port(), servers[1].port());
        let started = Self { servers, sentinels, _dir: dir };
        wait_until("the sentinels know each other", || {
            started.sentinels.iter().all(|sentinel| {
                ask::<String>(sentinel.port, &["SENTINEL", "CKQUORUM", SERVICE]).starts_with("OK 3 usable")
            })
        });
        started
    }

    /// Where the service is.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// Which of the two servers the sentinels name as primary.
    ///
    /// # Panics
    /// Where no sentinel says.
    #[must_use]
    pub fn primary(&self) -> usize {
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE];
        let (_, port): (String, u16) = ask(self.sentinels[0].port, &words);
        self.servers.iter().position(|server| server.port() == port).unwrap_or_else(|| panic!("port {port} is unknown"))
    }

    /// One of the two servers.
    #[must_use]
    pub fn server(&self, number: usize) -> &Server {
        &self.servers[number]
    }

    /// One of the two servers, to be stopped.
    #[must_use]
    pub fn server_mut(&mut self, number: usize) -> &mut Server {
        &mut self.servers[number]
    }

    /// Waits until all sentinels name this server as primary, it is one, and the other replicates it.
    ///
    /// # Panics
    /// Where that takes too long.
    pub fn wait_for(&self, number: usize) {
        let (port, other) = (self.servers[number].port(), self.servers[1 - number].port());
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE];
        wait_until("the sentinels name the new primary", || {
            self.sentinels.iter().all(|sentinel| ask::<(String, u16)>(sentinel.port, &words).1 == port)
        });
        wait_until("it is one", || role(port).as_deref() == Some("master"));
        wait_until("the other replicates it", || role(other).as_deref() == Some("slave connected"));
    }
}

/// The files name all sentinels and the replica, so that nothing has to be found out first.
fn start_sentinels(dir: &Path, primary: u16, replica: u16) -> Vec<Sentinel> {
    for _ in 0..5 {
        let ports: Vec<u16> = (0..SENTINELS).map(|_| free_port()).collect();
        let id = |number: usize| format!("{number:040x}");
        let mut started = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            let folder = dir.join(format!("{port}"));
            let others = ports.iter().enumerate().filter(|(other, _)| *other != number);
            let known: Vec<String> = others
                .map(|(other, port)| format!("sentinel known-sentinel {SERVICE} 127.0.0.1 {port} {}", id(other + 1)))
                .collect();
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile sentinel.log\nsentinel myid {id}\n\
                 sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 1500\n\
                 sentinel known-replica {SERVICE} 127.0.0.1 {replica}\n{known}\n",
                folder = folder.display(),
                id = id(number + 1),
                known = known.join("\n"),
            );
            let file = folder.join("sentinel.conf");
            let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, text));
            written.unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
            let mut child = spawn(&file);
            if !wait_until_ready(&mut child, *port) {
                stop(&mut child);
                break;
            }
            started.push(Sentinel { child, port: *port });
        }
        if started.len() == SENTINELS {
            return started;
        }
    }
    panic!("the sentinels did not start in five tries; their logs are in {}", dir.display());
}

fn spawn(file: &Path) -> Child {
    let mut command = Command::new(super::program());
    command.arg(file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("cannot run a sentinel: {error}"))
}
