//! The diagnosis of the server, for `tenure doctor`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use tenure_domain::Millis;
use tenure_ports::{Backend, Clock, Diagnosis, SessionUpkeep as _, StoreError};
use tokio::time::Instant;

use crate::client::Request;
use crate::client::request_error::RequestError;
use crate::client::slot::SLOTS;
use crate::client::topology::Topology;
use crate::options::Durability;
use crate::repository::RedisStore;
use crate::repository::clock::monotonic_micros;

/// The oldest servers that have every command the scripts use.
const OLDEST_REDIS: (u64, u64) = (7, 0);
const OLDEST_VALKEY: (u64, u64) = (7, 2);
/// Clocks further apart than this make logs hard to compare.
const CLOCKS_APART: u64 = 2_000;
/// A round trip above this makes every verification slow.
const SLOW_MICROS: u64 = 5_000;
/// The number of round trips that are measured.
const ROUND_TRIPS: usize = 5;

/// The fields of `INFO`, by name.
type Info = HashMap<String, String>;

#[async_trait]
impl Backend for RedisStore {
    /// Returns the store's clock: the server's time, sampled on connecting and every second since, and carried on by a
    /// clock of this machine that cannot be set. It never runs backward. If it is ahead, it runs slower until it is
    /// not.
    fn clock(&self) -> Arc<dyn Clock> {
        match &self.own_clock {
            Some(clock) => Arc::clone(clock),
            None => Arc::clone(&self.fleet) as Arc<dyn Clock>,
        }
    }

    async fn diagnose(&self) -> Vec<Diagnosis> {
        let mut findings = match self.latency().await {
            Ok(finding) => vec![finding],
            Err(error) => return vec![Diagnosis::failure(error.to_string(), "start the server, or correct redis.url")],
        };
        let deadline = self.client.deadline();
        let connections = self.client.topology.connections(deadline).await.unwrap_or_default();
        for connection in &connections {
            let found = match connection.send(&redis::cmd("INFO"), deadline).await {
                Ok(answer) => self.diagnose_server(&info(answer)),
                Err(RequestError::Refused(failure)) => vec![Diagnosis::warning(
                    format!("version, persistence, eviction, replicas and memory cannot be seen: {failure}"),
                    "give the user +info, or look at INFO as another user",
                )],
                Err(failure) => {
                    vec![Diagnosis::failure(self.client.fail(failure, String::new).to_string(), "start it")]
                }
            };
            let node = connection.address().filter(|_| connections.len() > 1);
            findings.extend(found.into_iter().map(|found| match &node {
                Some(address) => Diagnosis { finding: format!("node {address}: {}", found.finding), ..found },
                None => found,
            }));
        }
        if matches!(*self.client.topology, Topology::Cluster(_)) {
            findings.push(self.coverage().await);
        }
        findings.push(self.clocks());
        findings.extend(self.tracking().await);
        findings.push(match self.check_writable().await {
            Ok(()) => Diagnosis::ok("the server takes writes"),
            Err(error) => {
                Diagnosis::failure(error.to_string(), "until then tokens are verified, and nothing can be changed")
            }
        });
        findings
    }

    /// Nothing waits in this process: everything written is on the server.
    async fn close(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl RedisStore {
    fn diagnose_server(&self, info: &Info) -> Vec<Diagnosis> {
        let replicated = self.options.durability == Durability::Replicated;
        vec![
            version(info),
            role(info),
            persistence(info, replicated),
            eviction(info),
            memory(info),
            replicas(info, replicated),
        ]
    }

    /// Returns the median of several round trips.
    async fn latency(&self) -> Result<Diagnosis, StoreError> {
        let mut taken = [0; ROUND_TRIPS];
        for taken in &mut taken {
            let asked = monotonic_micros();
            let answer = self.client.send_repeatable(&Request::Plain(redis::cmd("TIME"))).await;
            answer.map_err(|failure| self.client.fail(failure, String::new))?;
            *taken = monotonic_micros().saturating_sub(asked);
        }
        taken.sort_unstable();
        let taken = taken[ROUND_TRIPS / 2];
        let said = format!("a round trip takes {:.1} ms", taken as f64 / 1e3);
        Ok(if taken > SLOW_MICROS {
            Diagnosis::warning(said, "verification waits for one; move closer to the server")
        } else {
            Diagnosis::ok(said)
        })
    }

    async fn coverage(&self) -> Diagnosis {
        let mut command = redis::cmd("CLUSTER");
        command.arg("INFO");
        match self.client.send_repeatable(&Request::Plain(command)).await {
            Ok(answer) => coverage(&info(answer)),
            Err(RequestError::Refused(failure)) => Diagnosis::warning(
                format!("the state of the cluster cannot be seen: {failure}"),
                "give the user +cluster|info",
            ),
            Err(failure) => Diagnosis::failure(self.client.fail(failure, String::new).to_string(), "see CLUSTER INFO"),
        }
    }

    fn clocks(&self) -> Diagnosis {
        let (server, here) = (self.clock().now(), self.wall.now());
        let apart = server.since(here).get().max(here.since(server).get());
        let text = format!("this machine's clock and the server's differ by {}", Millis::new(apart));
        if apart > CLOCKS_APART {
            Diagnosis::warning(text, "expiry goes by the server's; set both by NTP so that logs agree")
        } else {
            Diagnosis::ok(text)
        }
    }

    async fn tracking(&self) -> Option<Diagnosis> {
        let cache = self.cache.as_ref()?;
        let deadline = self.client.deadline();
        while !cache.is_usable() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Some(if cache.is_usable() {
            Diagnosis::ok("the server tells of changes, so the near cache can be used")
        } else {
            Diagnosis::warning(
                "the server does not tell of changes, so the near cache is off",
                "give the user +client|tracking and +client|caching, and allow RESP3 (HELLO 3)",
            )
        })
    }
}

/// Returns the lines of an answer, by name.
fn info(answer: Value) -> Info {
    let text = match answer {
        Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
        Value::VerbatimString { text, .. } => text,
        _ => String::new(),
    };
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

fn text<'a>(info: &'a Info, name: &str) -> &'a str {
    info.get(name).map_or("", String::as_str)
}

fn number(info: &Info, name: &str) -> u64 {
    text(info, name).parse().unwrap_or_default()
}

fn version(info: &Info) -> Diagnosis {
    let (server, told, oldest) = match info.get("valkey_version") {
        Some(version) => ("Valkey", version.as_str(), OLDEST_VALKEY),
        None => ("Redis", text(info, "redis_version"), OLDEST_REDIS),
    };
    let mut parts = told.split('.').map(|part| part.parse().unwrap_or(0));
    let have = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if have >= oldest {
        Diagnosis::ok(format!("{server} {told}"))
    } else {
        Diagnosis::failure(format!("{server} {told} is too old"), "install Redis 7.0 or later, or Valkey 7.2 or later")
    }
}

fn role(info: &Info) -> Diagnosis {
    match text(info, "role") {
        "master" => Diagnosis::ok("it is a primary"),
        _ => Diagnosis::failure("it is a replica", "name the primary in redis.url, or use redis+sentinel://"),
    }
}

fn persistence(info: &Info, replicated: bool) -> Diagnosis {
    if text(info, "aof_enabled") == "1" {
        if text(info, "aof_last_write_status") != "ok" {
            return Diagnosis::failure(
                "the append-only file could not be written",
                "see the server's log and its free disk space",
            );
        }
        return Diagnosis::ok("it keeps an append-only file");
    }
    // Without save points this counter still grows, and is never saved.
    let saved = text(info, "rdb_last_bgsave_status") == "ok" && number(info, "rdb_saves") > 0;
    let said =
        if saved { "it keeps snapshots only, which lose the latest changes" } else { "it keeps nothing on disk" };
    if replicated {
        Diagnosis::warning(
            said,
            "set appendonly yes: else revoked sessions come back when all servers are restarted at once",
        )
    } else {
        Diagnosis::failure(said, "set appendonly yes: else a restart brings revoked sessions back")
    }
}

fn eviction(info: &Info) -> Diagnosis {
    match text(info, "maxmemory_policy") {
        "noeviction" => Diagnosis::ok("it evicts nothing"),
        policy => Diagnosis::failure(
            format!("its eviction policy is {policy}"),
            "set maxmemory-policy noeviction: else it forgets sessions, and ends among them, when memory is short",
        ),
    }
}

fn memory(info: &Info) -> Diagnosis {
    let (used, most) = (number(info, "used_memory"), number(info, "maxmemory"));
    let mib = |bytes: u64| bytes / 1_048_576;
    if most == 0 {
        return Diagnosis::ok(format!("it uses {} MiB, without a limit", mib(used)));
    }
    let said = format!("it uses {} of {} MiB", mib(used), mib(most));
    if used.saturating_mul(10) > most.saturating_mul(9) {
        Diagnosis::warning(said, "raise maxmemory: when it is reached, no session can be issued")
    } else {
        Diagnosis::ok(said)
    }
}

fn replicas(info: &Info, replicated: bool) -> Diagnosis {
    let online = (0..number(info, "connected_slaves"))
        .filter(|replica| text(info, &format!("slave{replica}")).contains("state=online"))
        .count();
    match online {
        0 if replicated => Diagnosis::failure(
            "it has no replica, and redis.durability = replicated",
            "connect a replica (replicaof): until then changes are made and reported as not durable",
        ),
        0 => Diagnosis::warning("it has no replica", "if its machine is lost, every session is"),
        1 => Diagnosis::ok("it has 1 replica"),
        count => Diagnosis::ok(format!("it has {count} replicas")),
    }
}

fn coverage(info: &Info) -> Diagnosis {
    let (served, failing) = (number(info, "cluster_slots_ok"), number(info, "cluster_slots_fail"));
    if text(info, "cluster_state") == "ok" && served == u64::from(SLOTS) {
        return Diagnosis::ok(format!("the cluster serves all {SLOTS} slots"));
    }
    Diagnosis::failure(
        format!("the cluster serves {served} of {SLOTS} slots, {failing} of their nodes failed"),
        "see CLUSTER NODES; start the failed nodes, or give their slots to others (redis-cli --cluster fix)",
    )
}
