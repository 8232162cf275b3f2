//! A primary, a replica, and three sentinels that watch them.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::tls::tls_port;
use crate::{Certificates, Server, ask, free_port, role, stop, wait_until, wait_until_ready};

const SERVICE: &str = "main";
const SENTINELS: usize = 3;

/// A primary, a replica, and three sentinels.
pub struct Sentinels {
    servers: [Server; 2],
    sentinels: Vec<Sentinel>,
    certificates: Option<Certificates>,
    _dir: TempDir,
}

struct Sentinel {
    child: Child,
    port: u16,
    /// Returns the port at which the other servers reach it: its TLS port, if it has one.
    announced: u16,
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

impl Sentinels {
    /// Starts the servers and the sentinels, and waits until they know each other.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start() -> Self {
        Self::start_as(None)
    }

    /// Starts them with TLS between all of them, and a TLS port beside the plain port of each.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_with_tls() -> Self {
        Self::start_as(Some(Certificates::make()))
    }

    fn start_as(certificates: Option<Certificates>) -> Self {
        let dir = TempDir::new().unwrap_or_else(|error| panic!("no temporary directory for sentinels: {error}"));
        let server = |more: &[&str]| {
            Server::start_each(|| {
                let plain = ["--repl-diskless-sync-delay", "0", "--repl-timeout", "5"].iter().chain(more);
                let tls = certificates.as_ref().map(|made| made.arguments("no", &["tls-replication"]));
                plain.map(|&word| word.to_owned()).chain(tls.into_iter().flatten()).collect()
            })
        };
        let reached = |server: &Server| if certificates.is_some() { tls_port(server) } else { server.port() };
        let primary = server(&[]);
        let address = format!("127.0.0.1 {}", reached(&primary));
        let replica = server(&["--replicaof", &address]);
        let servers = [primary, replica];
        wait_until("the replica has caught up", || role(servers[1].port()).as_deref() == Some("slave connected"));
        let ports = [reached(&servers[0]), reached(&servers[1])];
        let sentinels = start_sentinels(dir.path(), ports, certificates.as_ref());
        let started = Self { servers, sentinels, certificates, _dir: dir };
        wait_until("the sentinels know each other", || {
            started.sentinels.iter().all(|sentinel| {
                ask::<String>(sentinel.port, &["SENTINEL", "CKQUORUM", SERVICE]).starts_with("OK 3 usable")
            })
        });
        started
    }

    /// Returns the service's URL.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// Returns the service's TLS URL, and the authority to trust.
    ///
    /// # Panics
    /// If they were started without TLS.
    #[must_use]
    pub fn tls(&self) -> (String, &Certificates) {
        let certificates = self.certificates.as_ref().unwrap_or_else(|| panic!("sentinels without TLS"));
        let hosts: Vec<String> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.announced)).collect();
        (format!("rediss+sentinel://{}/{SERVICE}", hosts.join(",")), certificates)
    }

    /// Sends a command to each sentinel.
    ///
    /// # Panics
    /// If one refuses it.
    pub fn tell(&self, words: &[&str]) {
        for sentinel in &self.sentinels {
            ask::<redis::Value>(sentinel.port, words);
        }
    }

    /// Returns which of the two servers the sentinels name as primary.
    ///
    /// # Panics
    /// If no sentinel answers.
    #[must_use]
    pub fn primary(&self) -> usize {
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE];
        let (_, port): (String, u16) = ask(self.sentinels[0].port, &words);
        self.servers
            .iter()
            .position(|server| self.reached(server) == port)
            .unwrap_or_else(|| panic!("port {port} is unknown"))
    }

    /// Returns the port by which the sentinels know a server.
    fn reached(&self, server: &Server) -> u16 {
        if self.certificates.is_some() { tls_port(server) } else { server.port() }
    }

    /// Returns one of the two servers.
    #[must_use]
    pub fn server(&self, number: usize) -> &Server {
        &self.servers[number]
    }

    /// Returns one of the two servers, to be stopped.
    #[must_use]
    pub fn server_mut(&mut self, number: usize) -> &mut Server {
        &mut self.servers[number]
    }

    /// Waits until all sentinels name the same server as primary, it is one, and the other replicates it. On a busy
    /// machine the new primary may be considered down as well, so the primary may change meanwhile.
    ///
    /// # Panics
    /// If that takes too long.
    pub fn wait_until_settled(&self) {
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE];
        wait_until("the sentinels and both servers agree on the primary", || {
            let named: Vec<u16> =
                self.sentinels.iter().map(|sentinel| ask::<(String, u16)>(sentinel.port, &words).1).collect();
            let primary = self.servers.iter().position(|server| named.iter().all(|port| *port == self.reached(server)));
            primary.is_some_and(|primary| {
                let role_of = |number: usize| role(self.servers[number].port());
                role_of(primary).as_deref() == Some("master")
                    && role_of(1 - primary).as_deref() == Some("slave connected")
            })
        });
    }
}

/// The configuration names all sentinels and the replica, so that nothing has to be discovered first.
fn start_sentinels(dir: &Path, [primary, replica]: [u16; 2], certificates: Option<&Certificates>) -> Vec<Sentinel> {
    for _ in 0..5 {
        let ports: Vec<u16> = (0..SENTINELS).map(|_| free_port()).collect();
        let tls: Vec<u16> = ports.iter().map(|_| free_port()).collect();
        let reached = if certificates.is_some() { &tls } else { &ports };
        let id = |number: usize| format!("{number:040x}");
        let mut started = Vec::new();
        for (number, port) in ports.iter().enumerate() {
            let folder = dir.join(format!("{port}"));
            let others = reached.iter().enumerate().filter(|(other, _)| *other != number);
            let known: Vec<String> = others
                .map(|(other, port)| format!("sentinel known-sentinel {SERVICE} 127.0.0.1 {port} {}", id(other + 1)))
                .collect();
            let mut lines = certificates.map_or_else(Vec::new, |made| made.settings(tls[number], "no"));
            if certificates.is_some() {
                lines.push(("tls-replication", "yes".to_owned()));
            }
            let tls: String = lines.into_iter().map(|(name, value)| format!("{name} {value}\n")).collect();
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile sentinel.log\nsentinel myid {id}\n\
                 sentinel monitor {SERVICE} 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds {SERVICE} 500\nsentinel failover-timeout {SERVICE} 1500\n\
                 sentinel known-replica {SERVICE} 127.0.0.1 {replica}\n{known}\n{tls}",
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
            started.push(Sentinel { child, port: *port, announced: reached[number] });
        }
        if started.len() == SENTINELS {
            return started;
        }
    }
    panic!("the sentinels did not start in five tries; their logs are in {}", dir.display());
}

fn spawn(file: &Path) -> Child {
    let mut command = Command::new(crate::program());
    command.arg(file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap_or_else(|error| panic!("cannot run a sentinel: {error}"))
}
