//! What is to be said of the server.

use std::collections::HashMap;

use redis::Value;
use tenure_domain::Millis;

use crate::finding::{Finding, Level};
use crate::store::RedisStore;
use crate::time::steady;
use crate::wire::Request;

/// The oldest servers that have every command the scripts use.
const OLDEST_REDIS: (u64, u64) = (7, 0);
const OLDEST_VALKEY: (u64, u64) = (7, 2);
/// Clocks further apart than this make logs hard to compare.
const CLOCKS_APART: u64 = 2_000;
/// A round trip above this makes every verification slow.
const SLOW_MICROS: u64 = 5_000;

/// What `INFO` says, by name.
type Info = HashMap<String, String>;

fn ok(what: impl Into<String>) -> Finding {
    Finding { level: Level::Ok, what: what.into(), advice: String::new() }
}

fn warn(what: impl Into<String>, advice: &str) -> Finding {
    Finding { level: Level::Warn, what: what.into(), advice: advice.to_owned() }
}

fn fail(what: impl Into<String>, advice: &str) -> Finding {
    Finding { level: Level::Fail, what: what.into(), advice: advice.to_owned() }
}

impl RedisStore {
    /// What is to be said of the server: whether it can be used, and what it should be set to.
    pub async fn examine(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let asked = steady();
        let info = match self.info().await {
            Ok(info) => info,
            Err(finding) => return vec![finding],
        };
        let taken = steady().saturating_sub(asked);
        findings.push(if taken > SLOW_MICROS {
            warn(
                format!("a round trip took {:.1} ms", taken as f64 / 1e3),
                "verification waits for one; move closer to the server",
            )
        } else {
            ok(format!("a round trip took {:.1} ms", taken as f64 / 1e3))
        });
        findings.push(version(&info));
        findings.push(role(&info));
        findings.push(persistence(&info));
        findings.push(eviction(&info));
        findings.push(memory(&info));
        findings.push(replicas(&info));
        findings.push(self.clocks());
        findings.push(match self.check_writable().await {
            Ok(()) => ok("the server takes writes"),
            Err(error) => fail(error.to_string(), "until then tokens are verified, and nothing can be changed"),
        });
        findings
    }

    async fn info(&self) -> Result<Info, Finding> {
        let answer = self.wire.read(&Request::Plain(redis::cmd("INFO"))).await;
        let text = match answer {
            Ok(Value::BulkString(text)) => String::from_utf8_lossy(&text).into_owned(),
            Ok(Value::VerbatimString { text, .. }) => text,
            Ok(_) => return Err(fail(self.strange().to_string(), "check redis.url")),
            Err(trouble) => {
                let error = self.wire.fail(trouble, String::new);
                return Err(fail(error.to_string(), "start the server, or correct redis.url"));
            }
        };
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Ok(lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    fn clocks(&self) -> Finding {
        let (server, here) = (self.clock().now(), self.wall.now());
        let apart = server.since(here).get().max(here.since(server).get());
        let text = format!("this machine's clock and the server's differ by {}", Millis::new(apart));
        if apart > CLOCKS_APART {
            warn(text, "expiry goes by the server's; set both by NTP so that logs agree")
        } else {
            ok(text)
        }
    }
}

fn text<'a>(info: &'a Info, name: &str) -> &'a str {
    info.get(name).map_or("", String::as_str)
}

fn number(info: &Info, name: &str) -> u64 {
    text(info, name).parse().unwrap_or_default()
}

fn version(info: &Info) -> Finding {
    let (server, told, oldest) = match info.get("valkey_version") {
        Some(version) => ("Valkey", version.as_str(), OLDEST_VALKEY),
        None => ("Redis", text(info, "redis_version"), OLDEST_REDIS),
    };
    let mut parts = told.split('.').map(|part| part.parse().unwrap_or(0));
    let have = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if have >= oldest {
        ok(format!("{server} {told}"))
    } else {
        fail(format!("{server} {told} is too old"), "install Redis 7.0 or later, or Valkey 7.2 or later")
    }
}

fn role(info: &Info) -> Finding {
    match text(info, "role") {
        "master" => ok("it is a primary"),
        _ => fail("it is a replica", "name the primary in redis.url, or use redis+sentinel://"),
    }
}

fn persistence(info: &Info) -> Finding {
    if text(info, "aof_enabled") == "1" {
        if text(info, "aof_last_write_status") != "ok" {
            return fail("the append-only file could not be written", "see the server's log and its free disk space");
        }
        return ok("it keeps an append-only file");
    }
    // Without save points this counter still runs, and nobody writes it out.
    let saved = text(info, "rdb_last_bgsave_status") == "ok" && number(info, "rdb_saves") > 0;
    let advice = "set appendonly yes: else a restart brings revoked sessions back";
    if saved {
        fail("it keeps snapshots only, which lose the latest changes", advice)
    } else {
        fail("it keeps nothing on disk", advice)
    }
}

fn eviction(info: &Info) -> Finding {
    match text(info, "maxmemory_policy") {
        "noeviction" => ok("it evicts nothing"),
        policy => fail(
            format!("its eviction policy is {policy}"),
            "set maxmemory-policy noeviction: else it forgets sessions, and ends among them, when memory is short",
        ),
    }
}

fn memory(info: &Info) -> Finding {
    let (used, most) = (number(info, "used_memory"), number(info, "maxmemory"));
    let mib = |bytes: u64| bytes / 1_048_576;
    if most == 0 {
        return ok(format!("it uses {} MiB, without a limit", mib(used)));
    }
    let said = format!("it uses {} of {} MiB", mib(used), mib(most));
    if used.saturating_mul(10) > most.saturating_mul(9) {
        warn(said, "raise maxmemory: when it is reached, no session can be issued")
    } else {
        ok(said)
    }
}

fn replicas(info: &Info) -> Finding {
    match number(info, "connected_slaves") {
        0 => warn("it has no replica", "if its machine is lost, every session is"),
        1 => ok("it has 1 replica"),
        count => ok(format!("it has {count} replicas")),
    }
}
