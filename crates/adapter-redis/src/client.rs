//! Requests: plain commands and scripts, one or many, to one or several servers.

pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod connector;
mod greeting_capture;
pub(crate) mod managed_connection;
pub(crate) mod request_error;
pub(crate) mod resolver;
pub(crate) mod retry;
pub(crate) mod role;
mod secrets;
mod sentinel;
pub(crate) mod slot;
mod tls;
pub(crate) mod topology;
pub(crate) mod url;

use std::borrow::Cow;
use std::sync::Arc;

use futures_util::future::join_all;
use redis::{Arg, Cmd, Pipeline, Value};
use tenure_ports::StoreError;
use tokio::time::Instant;

use crate::client::config::{Config, Limits};
use crate::client::request_error::RequestError;
use crate::client::retry::{FollowUp, RequestExecutor};
use crate::client::topology::Topology;
use crate::repository::scripts::Script;

/// The most commands in one batch. More would make others on the connection wait.
const BATCH: usize = 256;

/// A request to the server. It goes to the node that serves the slot of its first key.
pub(crate) enum Request {
    /// A command. The key, if it has one, is its first argument.
    Plain(Cmd),
    /// A script with its keys and arguments.
    Script(Invocation),
}

/// Makes a call of a script.
pub(crate) struct Invocation {
    pub(crate) script: &'static Script,
    pub(crate) keys: Vec<String>,
    pub(crate) arguments: Vec<Vec<u8>>,
}

impl Invocation {
    pub(crate) fn new(script: &'static Script, keys: Vec<String>) -> Self {
        Self { script, keys, arguments: Vec::new() }
    }

    pub(crate) fn arg(&mut self, argument: impl Into<Vec<u8>>) -> &mut Self {
        self.arguments.push(argument.into());
        self
    }

    fn command(&self, whole: bool) -> Cmd {
        let mut command = redis::cmd(if whole { "EVAL" } else { "EVALSHA" });
        command.arg(if whole { &self.script.code } else { &self.script.digest });
        command.arg(self.keys.len()).arg(&self.keys);
        for argument in &self.arguments {
            command.arg(&argument[..]);
        }
        command
    }
}

impl Request {
    /// Returns the command for the server. `whole` sends a script's text, for a server that may not know it.
    pub(crate) fn command(&self, whole: bool) -> Cow<'_, Cmd> {
        match self {
            Self::Plain(command) => Cow::Borrowed(command),
            Self::Script(invocation) => Cow::Owned(invocation.command(whole)),
        }
    }

    /// Returns the slot of the request's keys. `None` if any node can answer.
    pub(crate) fn slot(&self) -> Option<u16> {
        match self {
            Self::Script(invocation) => slot::of_tagged(invocation.keys.first()?.as_bytes()),
            Self::Plain(command) => match command.args_iter().nth(1) {
                Some(Arg::Simple(key)) => slot::of_tagged(key),
                _ => None,
            },
        }
    }

    /// Returns the request as commands of one key each, in the order of the keys, if that is equivalent.
    pub(crate) fn single(&self) -> Option<Vec<Self>> {
        let Self::Plain(command) = self else {
            return None;
        };
        let mut words = command.args_iter();
        if !matches!(words.next(), Some(Arg::Simple(b"MGET"))) {
            return None;
        }
        let get = |word| match word {
            Arg::Simple(key) => {
                let mut command = redis::cmd("GET");
                command.arg(key);
                Some(Self::Plain(command))
            }
            _ => None,
        };
        words.map(get).collect()
    }
}

/// A client of the servers.
pub(crate) struct Client {
    pub(crate) topology: Arc<Topology>,
    pub(crate) limits: Limits,
    pub(crate) location: String,
}

impl Client {
    /// Makes a client. It connects when there is something to send.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            topology: Arc::new(Topology::new(config)),
            limits: config.connect.limits,
            location: config.location.clone(),
        }
    }

    /// Returns when a call that begins now must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.limits.operation
    }

    /// Sends a request that may be repeated: it changes nothing, or its effect is the same however often it is sent.
    pub(crate) async fn send_repeatable(&self, request: &Request) -> Result<Value, RequestError> {
        let executor = RequestExecutor::new(&self.topology, std::slice::from_ref(request), self.deadline());
        executor.repeatable().run_one().await
    }

    /// Sends a request that must not take effect twice. It is sent again only if it certainly had no effect.
    pub(crate) async fn send_once(&self, invocation: Invocation) -> Result<Value, RequestError> {
        let request = Request::Script(invocation);
        RequestExecutor::new(&self.topology, std::slice::from_ref(&request), self.deadline()).run_one().await
    }

    /// Sends a request that must not take effect twice and, in one batch over the same connection, a command after it.
    /// The command's answer is the second one. A script that was refused has no second answer.
    pub(crate) async fn send_once_then(
        &self,
        invocation: Invocation,
        then: &Cmd,
    ) -> Result<(Value, Result<Value, RequestError>), RequestError> {
        let request = Request::Script(invocation);
        let follow_up = FollowUp::new(then);
        let executor = RequestExecutor::new(&self.topology, std::slice::from_ref(&request), self.deadline());
        let value = executor.followed_by(&follow_up).run_one().await?;
        Ok((value, follow_up.answer()))
    }

    /// Sends several requests and a command after them in one batch, if one server serves them all. Returns their
    /// answers and the command's. `None` if there are several servers.
    pub(crate) async fn send_all_once_then(
        &self,
        invocations: &[Invocation],
        then: &Cmd,
    ) -> Option<Result<Vec<Result<Value, RequestError>>, RequestError>> {
        let Topology::One(connection) = &*self.topology else {
            return None;
        };
        let mut pipeline = Pipeline::with_capacity(invocations.len() + 1);
        for invocation in invocations {
            pipeline.add_command(invocation.command(false));
        }
        pipeline.add_command(then.clone());
        Some(connection.send_all(&pipeline, self.deadline()).await)
    }

    /// Sends many requests, each of which may be repeated.
    pub(crate) async fn send_all_repeatable(&self, requests: &[Request]) -> Result<Vec<Value>, RequestError> {
        let mut values = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            // Each batch has the time limit of a whole operation, because the length of a walk depends on the number of
            // sessions.
            values.extend(RequestExecutor::new(&self.topology, batch, self.deadline()).repeatable().run().await?);
        }
        Ok(values)
    }

    /// Sends a command to every primary: the one server, or each primary of a cluster.
    pub(crate) async fn send_to_each_primary(
        &self,
        command: &Cmd,
    ) -> Result<Vec<Result<Value, RequestError>>, RequestError> {
        let deadline = self.deadline();
        let connections = self.topology.connections(deadline).await?;
        Ok(join_all(connections.iter().map(|connection| connection.send(command, deadline))).await)
    }

    /// Converts a failed request into the port's error.
    pub(crate) fn fail(&self, failure: RequestError, key: impl FnOnce() -> String) -> StoreError {
        failure.into_store_error(&self.location, key)
    }
}
