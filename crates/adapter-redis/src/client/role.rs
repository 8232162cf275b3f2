//! The role of a server: whether it is the primary. It is asked for when a connection is made, and then at intervals in
//! the background.
//!
//! A replica answers reads too, and a primary that becomes a replica keeps its connections. So an answer is accepted
//! only if the server has said within the last [`LEASE`] that it is the primary, or says so afterwards.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, RedisResult, ServerError, Value};

use crate::client::request_error::{Failure, MAX_CLIENTS, RequestError};
use crate::repository::clock::monotonic_micros;

/// How long after the question a server counts as the primary.
pub(crate) const LEASE: Duration = Duration::from_millis(500);
/// How often the server is asked. One answer may be late before the lease ends.
pub(crate) const ASK_EVERY: Duration = Duration::from_millis(200);

const REPLICA: &str = "the server is a replica";

/// The command that asks a server for its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoleQuery {
    /// `INFO replication`.
    Info,
    /// `HELLO`, which every user may send, where `INFO` is not allowed.
    Hello,
}

impl RoleQuery {
    pub(crate) fn command(self) -> Cmd {
        match self {
            Self::Info => redis::cmd("INFO").arg("replication").clone(),
            Self::Hello => redis::cmd("HELLO"),
        }
    }

    /// Asks a server, with the other command if this one is not allowed. Also returns the command that worked.
    pub(crate) async fn settle(answer: Value, calls: &mut MultiplexedConnection) -> RedisResult<(Self, Value)> {
        match answer {
            Value::ServerError(error) if !is_about_the_connection(&error) => {
                Ok((Self::Hello, calls.send_packed_command(&Self::Hello.command()).await?))
            }
            answer => Ok((Self::Info, answer)),
        }
    }

    /// Checks that the answer is that of a primary.
    ///
    /// # Errors
    /// [`RequestError::WrongServer`] for a replica.
    pub(crate) fn check_answer(self, answer: Value) -> Result<(), RequestError> {
        let answer = match answer {
            Value::ServerError(error) => {
                let failure = RequestError::of_server(&error);
                return Err(if is_about_the_connection(&error) { failure } else { unseen(failure) });
            }
            answer => answer,
        };
        let (role, of) = match self {
            Self::Info => of_info(answer),
            Self::Hello => (field(answer, "role"), String::new()),
        };
        match role.as_deref() {
            Some("master" | "primary") => Ok(()),
            Some(_) => {
                let message = format!(
                    "{REPLICA}{of}, which may lag behind; name the primary in redis.url, or use redis+sentinel:// or \
                     redis+cluster://"
                );
                Err(RequestError::WrongServer(message.into()))
            }
            None => {
                Err(RequestError::refused("the server does not say whether it is the primary; is it a Redis server?"))
            }
        }
    }
}

/// An error that is not about the question.
pub(crate) fn is_about_the_connection(error: &ServerError) -> bool {
    matches!(error.code(), "NOAUTH" | "LOADING" | "MASTERDOWN" | "DENIED")
        || error.details().is_some_and(|detail| detail.contains(MAX_CLIENTS))
}

/// Whether a server says that it is a replica.
pub(crate) fn is_of_replica(failure: &RequestError) -> bool {
    matches!(failure, RequestError::WrongServer(failure) if failure.message.starts_with(REPLICA))
}

fn unseen(failure: RequestError) -> RequestError {
    match failure {
        RequestError::Refused(failure) => {
            let message =
                format!("whether the server is the primary cannot be seen: {failure}; give the user +info or +hello");
            RequestError::Refused(Failure { message, ..failure })
        }
        failure => failure,
    }
}

/// Returns the role, and whose replica the server is.
fn of_info(answer: Value) -> (Option<String>, String) {
    let text = match answer {
        Value::BulkString(text) => String::from_utf8_lossy(&text).into_owned(),
        Value::VerbatimString { text, .. } => text,
        _ => return (None, String::new()),
    };
    let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let of = match (line("master_host"), line("master_port"), line("master_link_status")) {
        (Some(host), Some(port), Some("up")) => format!(" of {host}:{port}"),
        (Some(host), Some(port), _) => format!(" of {host}:{port} that has lost it"),
        _ => String::new(),
    };
    (line("role").map(str::to_owned), of)
}

/// Returns one field of an answer that is a list of names and values, or a map.
pub(crate) fn field(value: Value, name: &str) -> Option<String> {
    let pairs: Vec<(Value, Value)> = match value {
        Value::Map(pairs) => pairs,
        Value::Array(items) => {
            let (names, values): (Vec<_>, Vec<_>) = items.into_iter().enumerate().partition(|(at, _)| at % 2 == 0);
            names.into_iter().map(|(_, name)| name).zip(values.into_iter().map(|(_, value)| value)).collect()
        }
        _ => return None,
    };
    let text = |value: Value| redis::from_redis_value::<String>(value).ok();
    pairs.into_iter().find(|(key, _)| text(key.clone()).as_deref() == Some(name)).and_then(|(_, value)| text(value))
}

/// The lease of a connection: how long its server counts as the primary.
#[derive(Default)]
pub(crate) struct PrimaryLease {
    /// Until when the server counts as the primary, on the monotonic clock in microseconds.
    primary_until: AtomicU64,
    /// Whether no new request may be sent over this connection.
    left: AtomicBool,
}

impl PrimaryLease {
    /// Whether the server counts as the primary now.
    pub(crate) fn holds(&self) -> bool {
        monotonic_micros() <= self.primary_until.load(Ordering::Acquire)
    }

    /// Records that the server said that it is the primary, when it was asked at this time of the monotonic clock.
    pub(crate) fn renew(&self, asked: u64) {
        let lease = u64::try_from(LEASE.as_micros()).unwrap_or_default();
        self.primary_until.fetch_max(asked + lease, Ordering::AcqRel);
    }

    /// Records that the server said that it is not the primary.
    pub(crate) fn refute(&self) {
        self.primary_until.store(0, Ordering::Release);
    }

    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    pub(crate) fn is_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }
}

/// Asks once, and records the answer.
pub(crate) async fn ask(
    calls: &mut MultiplexedConnection,
    query: RoleQuery,
    lease: &PrimaryLease,
) -> Result<(), RequestError> {
    let asked = monotonic_micros();
    let answer = calls.send_packed_command(&query.command()).await.map_err(|error| RequestError::of(&error, true))?;
    match query.check_answer(answer) {
        Ok(()) => {
            lease.renew(asked);
            Ok(())
        }
        Err(failure) => {
            lease.refute();
            Err(failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> Result<(), RequestError> {
        RoleQuery::Info.check_answer(Value::BulkString(text.as_bytes().to_vec()))
    }

    #[test]
    fn only_a_primary_is_believed() {
        assert_eq!(info("# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"), Ok(()));
        let replica = "# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:";
        for (status, told) in [("up", "replica of 10.0.0.1:6379, "), ("down", "10.0.0.1:6379 that has lost it, ")] {
            match info(&format!("{replica}{status}\r\n")) {
                Err(RequestError::WrongServer(failure)) => assert!(failure.message.contains(told), "{failure}"),
                other => panic!("{other:?}"),
            }
        }
        for other in ["role:replica\r\n", "role:sentinel\r\n", "role:active-replica\r\n"] {
            assert!(matches!(info(other), Err(RequestError::WrongServer(_))), "{other}");
        }
        assert!(matches!(info("# Server\r\n"), Err(RequestError::Refused(_))));
        assert!(matches!(RoleQuery::Info.check_answer(Value::Okay), Err(RequestError::Refused(_))));
    }

    #[test]
    fn hello_tells_the_role_in_both_protocols() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        for (role, is_primary) in [("master", true), ("replica", false)] {
            let list = Value::Array(vec![text("server"), text("redis"), text("role"), text(role)]);
            let map = Value::Map(vec![(text("server"), text("redis")), (text("role"), text(role))]);
            for answer in [list, map] {
                assert_eq!(RoleQuery::Hello.check_answer(answer).is_ok(), is_primary);
            }
        }
    }

    #[test]
    fn a_word_lapses_and_an_older_one_shortens_nothing() {
        let lease = PrimaryLease::default();
        assert!(!lease.holds(), "nobody said anything yet");
        let now = monotonic_micros();
        lease.renew(now);
        lease.renew(now - 400_000);
        assert!(lease.holds() || monotonic_micros() > now + 500_000);
        lease.refute();
        assert!(!lease.holds());
        lease.renew(now.saturating_sub(600_000));
        assert!(!lease.holds(), "what was said too long ago counts no more");
    }
}
