//! The errors of requests to a server, and what to do about each of them.

use std::error::Error;
use std::fmt;

use redis::{ErrorKind, RedisError, ServerError};
use tenure_ports::{ErrorSource, StoreError};

/// The message about a server that does not answer.
pub(crate) const NO_ANSWER: &str =
    "no answer in time; see whether the server hangs or is busy (SLOWLOG GET), or raise redis.response_timeout";

/// Part of the message of a server that accepts no more connections.
pub(crate) const MAX_CLIENTS: &str = "max number of clients reached";

/// The words before the arguments of a command, in a server's answer to a command that it does not know. The arguments
/// can be a password.
const BEFORE_ARGUMENTS: &str = ", with args beginning with";

/// The reason why a request has no answer. The text never contains a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestError {
    /// The request was not sent, so it had no effect.
    NotSent(Failure),
    /// The request was sent and its answer was lost. It may have taken effect, or may still do so.
    OutcomeUnknown(Failure),
    /// The server refused the request, without effect.
    Refused(Failure),
    /// The server does not serve requests, or not yet; another one may. The request had no effect.
    WrongServer(Failure),
    /// The server refuses the request now and will accept it later. The request had no effect.
    RetryLater(Failure),
    /// Another node of the cluster serves this slot. The request had no effect.
    Moved(Redirect),
    /// The slot is being moved to another node, which is to be asked for this request only. The request had no effect.
    Ask(Redirect),
    /// The slot is being moved to another node, and the keys are on both. The request had no effect.
    TryAgain,
    /// The server is out of memory.
    Full(Failure),
    /// A key holds another type of value than was written.
    WrongType,
    /// The server does not know the script.
    NoScript,
}

/// What happened, in words, and the library's error beneath where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) source: ErrorSource,
}

impl Failure {
    /// Makes a failure with this error beneath it.
    pub(crate) fn new(message: impl Into<String>, beneath: impl Error + Send + Sync + 'static) -> Self {
        Self { message: message.into(), source: ErrorSource::new(beneath) }
    }
}

impl<T: Into<String>> From<T> for Failure {
    fn from(message: T) -> Self {
        Self { message: message.into(), source: ErrorSource::default() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A redirection to another node of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) slot: u16,
    /// The host; empty if it is the host that was asked.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Redirect {
    /// Parses `3999 127.0.0.1:6381`.
    fn of(text: &str) -> Option<Self> {
        let (slot, location) = text.split_once(' ')?;
        let (host, port) = location.rsplit_once(':')?;
        Some(Self { slot: slot.parse().ok()?, host: host.to_owned(), port: port.parse().ok()? })
    }
}

impl RequestError {
    /// Makes the error of a request that was not sent.
    pub(crate) fn not_sent(failure: impl Into<Failure>) -> Self {
        Self::NotSent(failure.into())
    }

    /// Makes the error of a request whose answer was lost.
    pub(crate) fn outcome_unknown(failure: impl Into<Failure>) -> Self {
        Self::OutcomeUnknown(failure.into())
    }

    /// Makes the error of a request that the server refused.
    pub(crate) fn refused(failure: impl Into<Failure>) -> Self {
        Self::Refused(failure.into())
    }

    /// Converts an error of the server, and keeps it as the source.
    pub(crate) fn of_server(error: &ServerError) -> Self {
        Self::described(error).with_source(error.clone().into())
    }

    /// Says in words what an error of the server means, and what to do about it.
    fn described(error: &ServerError) -> Self {
        let detail = error.details().unwrap_or_default();
        let detail = detail.split_once(BEFORE_ARGUMENTS).map_or(detail, |(first, _)| first);
        // A server in protected mode adds a page of advice.
        let detail = detail.split_once(". ").map_or(detail, |(first, _)| first).trim_end_matches('.');
        let told = |advice: &str| Failure::from(format!("the server answers {} {detail}; {advice}", error.code()));
        match error.code() {
            "NOSCRIPT" => Self::NoScript,
            "WRONGTYPE" => Self::WrongType,
            "OOM" => Self::Full(
                "the server is out of memory; raise its maxmemory, or remove sessions with `tenure sessions cleanup`"
                    .into(),
            ),
            "LOADING" => Self::WrongServer("the server is loading its data; try again shortly".into()),
            "READONLY" => Self::WrongServer(
                "the server is a replica and takes no writes; name the primary, or use redis+sentinel://".into(),
            ),
            "MASTERDOWN" => Self::WrongServer(
                "the server is a replica that lost its primary; name the primary in redis.url, or use redis+sentinel://"
                    .into(),
            ),
            "CLUSTERDOWN" => Self::RetryLater("the cluster does not serve all its slots; see CLUSTER INFO".into()),
            "TRYAGAIN" => Self::TryAgain,
            "MOVED" | "ASK" => match (Redirect::of(detail), error.code()) {
                (Some(redirect), "MOVED") => Self::Moved(redirect),
                (Some(redirect), _) => Self::Ask(redirect),
                (None, _) => Self::RetryLater(told("the cluster moves its slots; try again shortly")),
            },
            "CROSSSLOT" => Self::Refused("the server is part of a cluster; use redis+cluster://".into()),
            "BUSY" => Self::RetryLater("the server is busy with a script; try again shortly".into()),
            "MISCONF" => Self::Refused(
                "the server takes no writes because it cannot save to disk; see its log and its free disk space"
                    .into(),
            ),
            "NOREPLICAS" => Self::Refused(
                "the server takes no writes because it has too few replicas; see min-replicas-to-write".into(),
            ),
            "NOAUTH" => Self::Refused(told("it wants a password; set redis.password_file")),
            "WRONGPASS" => Self::Refused(told("check the user in redis.url, and redis.password_file")),
            "NOPERM" => Self::Refused(told("give the user the rights that the documentation lists")),
            "DENIED" => Self::Refused(told(
                "set a password on the server (requirepass, or ACL SETUSER) and name it in redis.password_file",
            )),
            _ if detail.contains(MAX_CLIENTS) => Self::WrongServer(told(
                "raise its maxclients, or find out with CLIENT LIST who holds so many connections",
            )),
            _ if detail.contains("without any password configured") => Self::Refused(told(
                "take the password out of redis.url and redis.password_file, or set one on the server",
            )),
            _ if detail.contains("DB index is out of range") => {
                Self::Refused(told("name a database that the server has, or raise its databases"))
            }
            _ => Self::Refused(told("see the server's log")),
        }
    }

    /// Converts an error of the client library. `sent` says that the request had reached the connection.
    pub(crate) fn of(error: &RedisError, sent: bool) -> Self {
        if error.kind() == ErrorKind::AuthenticationFailed {
            let message =
                "the server refuses the user name or password; check the user in redis.url, and redis.password_file";
            return Self::refused(message).with_source(error.clone());
        }
        if let Some((_, answer)) = error.clone().into_server_errors().as_deref().and_then(<[_]>::first) {
            return Self::described(answer).with_source(error.clone());
        }
        let message = match () {
            () if error.is_timeout() => NO_ANSWER.to_owned(),
            () if error.is_connection_refusal() => "connection refused; is the server running?".to_owned(),
            () if error.is_connection_dropped() => "the connection was lost; is the server still running?".to_owned(),
            () => error.to_string(),
        };
        let failure = Failure::new(message, error.clone());
        if sent { Self::OutcomeUnknown(failure) } else { Self::NotSent(failure) }
    }

    /// Whether the connection should be dropped.
    pub(crate) const fn ends_connection(&self) -> bool {
        matches!(self, Self::OutcomeUnknown(_) | Self::NotSent(_) | Self::WrongServer(_))
    }

    /// Adds which of several servers failed.
    pub(crate) fn at(mut self, server: &dyn fmt::Display) -> Self {
        if let Some(failure) = self.failure_mut() {
            failure.message = format!("{server}: {}", failure.message);
        }
        self
    }

    /// Keeps the library's error as the source, unless it repeats the arguments of a command.
    fn with_source(mut self, beneath: RedisError) -> Self {
        if let Some(failure) = self.failure_mut()
            && !beneath.to_string().contains(BEFORE_ARGUMENTS)
        {
            failure.source = ErrorSource::new(beneath);
        }
        self
    }

    const fn failure_mut(&mut self) -> Option<&mut Failure> {
        match self {
            Self::NotSent(failure)
            | Self::OutcomeUnknown(failure)
            | Self::Refused(failure)
            | Self::WrongServer(failure)
            | Self::RetryLater(failure)
            | Self::Full(failure) => Some(failure),
            Self::Moved(_) | Self::Ask(_) | Self::TryAgain | Self::WrongType | Self::NoScript => None,
        }
    }

    /// Converts into the port's error. `location` is the server, `key` the key of the request.
    pub(crate) fn into_store_error(self, location: &str, key: impl FnOnce() -> String) -> StoreError {
        let location = location.to_owned();
        match self {
            Self::NotSent(failure)
            | Self::OutcomeUnknown(failure)
            | Self::Refused(failure)
            | Self::WrongServer(failure)
            | Self::RetryLater(failure) => {
                StoreError::unavailable(location, failure.message).with_source(failure.source)
            }
            Self::Moved(_) | Self::Ask(_) => StoreError::unavailable(
                location,
                "the server is part of a cluster that keeps this elsewhere; use redis+cluster://",
            ),
            Self::TryAgain => {
                StoreError::unavailable(location, "the cluster is moving these keys to another node; try again shortly")
            }
            Self::NoScript => StoreError::unavailable(
                location,
                "the server forgets its scripts as fast as they are sent; find out what flushes them",
            ),
            Self::Full(failure) => StoreError::full(location, failure.message).with_source(failure.source),
            Self::WrongType => corrupt(&location, &key(), "it holds another type of value"),
        }
    }
}

/// Makes the error about a key that cannot hold what was written there.
pub(crate) fn corrupt(location: &str, key: &str, message: &str) -> StoreError {
    StoreError::corrupt(
        format!("{location}, key {key}"),
        format!("{message}; if nothing else uses the key, delete it: its session has to log in again"),
    )
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    #[test]
    fn an_answer_of_the_server_is_kept_as_the_source() {
        for (line, is_full) in [
            ("-OOM command not allowed when used memory > 'maxmemory'\r\n", true),
            ("-NOPERM this user has no permissions to run the 'info' command\r\n", false),
            ("-LOADING Redis is loading the dataset in memory\r\n", false),
            ("-CLUSTERDOWN The cluster is down\r\n", false),
        ] {
            let Ok(Value::ServerError(answer)) = redis::parse_redis_value(line.as_bytes()) else { panic!("{line}") };
            for failure in [RequestError::of_server(&answer), RequestError::of(&answer.clone().into(), true)] {
                let error = failure.at(&"10.0.0.1:6379").into_store_error("redis://10.0.0.1", String::new);
                assert_eq!(matches!(error, StoreError::Full { .. }), is_full, "{error:?}");
                assert!(error.to_string().starts_with("redis://10.0.0.1: 10.0.0.1:6379: "), "{error}");
                let beneath = error.source().and_then(|source| source.downcast_ref::<RedisError>());
                assert_eq!(beneath.and_then(RedisError::code), Some(answer.code()));
            }
        }
    }
}
