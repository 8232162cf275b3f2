//! A store, gateways in front of an upstream, and the command beside them.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;
use tenure_adapter_json::JsonStore;
use tenure_adapter_redis::RedisStore;
use tenure_conformance::{SystemClock, SystemRandom};
use tenure_domain::{ClientInfo, DeviceId, Millis, Policy, Subject};
use tenure_ports::{Backend as _, Clock, SessionRepository};
use tenure_redis_test_server::Server;
use tenure_service::{IssueRequest, Issued, Sessions};

use crate::Failure;

pub(crate) const SUBJECT: &str = "figures";

/// A home directory with a store, and the use cases over it in this process.
pub(crate) struct Stand {
    tenure: String,
    home: TempDir,
    pub(crate) server: Option<Server>,
    pub(crate) sessions: Sessions,
}

impl Stand {
    pub(crate) async fn new(tenure: &str, redis: bool) -> Result<Self, Failure> {
        let home = tempfile::tempdir()?;
        let server = redis.then(Server::start);
        let (repository, clock): (Arc<dyn SessionRepository>, Arc<dyn Clock>) = match &server {
            Some(server) => {
                let options = tenure_adapter_redis::Options::new(&server.url());
                let store = RedisStore::connect(options, Arc::new(SystemClock)).await?;
                (store.clone(), store.clock())
            }
            None => {
                let path = home.path().join("tenure/sessions.jsonl");
                let store = JsonStore::open(&path, Arc::new(SystemClock), tenure_adapter_json::Options::default())?;
                (store.clone(), store.clock())
            }
        };
        let sessions = Sessions::new(repository, clock, Arc::new(SystemRandom), Policy::default());
        Ok(Self { tenure: tenure.to_owned(), home, server, sessions })
    }

    pub(crate) fn name(&self) -> &'static str {
        if self.server.is_some() { "Redis" } else { "JSON" }
    }

    /// The command, in this home.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.tenure);
        command.args(args).env_clear().env("HOME", self.home.path()).env("XDG_STATE_HOME", self.home.path());
        command.env("XDG_CONFIG_HOME", self.home.path());
        if let Some(server) = &self.server {
            command.env("TENURE_BACKEND", "redis").env("TENURE_REDIS_URL", server.url());
        }
        command
    }

    /// Issues sessions of [`SUBJECT`], `per_device` on each device.
    pub(crate) async fn issue(&self, count: usize, per_device: usize, ttl: Millis) -> Result<Vec<Issued>, Failure> {
        let mut issued = Vec::with_capacity(count);
        let one = |n: usize| async move {
            let request = IssueRequest {
                device: DeviceId::new(&format!("device-{}", n / per_device))?,
                subject: Subject::new(SUBJECT)?,
                client: ClientInfo::default(),
                ttl: Some(ttl),
            };
            Ok::<_, Failure>(self.sessions.issue(request).await?)
        };
        // Many at once, so that they share the store's work.
        for chunk in (0..count).collect::<Vec<_>>().chunks(100) {
            issued.extend(futures_util::future::try_join_all(chunk.iter().map(|n| one(*n))).await?);
        }
        Ok(issued)
    }

    /// Starts a gateway.
    pub(crate) fn gateway(&self, upstream: SocketAddr, more: &[&str]) -> Result<Gateway, Failure> {
        let upstream = format!("http://{upstream}");
        let args = ["gateway", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let mut command = self.command(&[&args, &["--upstream", &upstream][..], more].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let out = child.stdout.take().ok_or("no standard output")?;
        let mut gateway = Gateway { child, address: String::new() };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line)?;
        let (_, rest) = line.split_once("\"listen\":\"http://").ok_or_else(|| format!("it did not start: {line}"))?;
        gateway.address = rest.split('"').next().unwrap_or_default().to_owned();
        Ok(gateway)
    }
}

/// A gateway, gone when it is dropped.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) address: String,
}

impl Gateway {
    /// Its resident memory in KiB.
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
