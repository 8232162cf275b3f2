//! Requests: plain commands and scripts, one or many, sent again where that is harmless.

use std::borrow::Cow;

use redis::{Cmd, Pipeline, Value};
use tenure_ports::StoreError;
use tokio::time::Instant;

use crate::link::Link;
use crate::scripts::Script;
use crate::trouble::Trouble;

/// How often a read is sent.
const READ_TRIES: usize = 3;
/// Commands in one go; more would make others on the connection wait.
const BATCH: usize = 256;

/// What is asked of the server.
pub(crate) enum Request {
    /// A command.
    Plain(Cmd),
    /// A script with its keys and arguments.
    Script(Invocation),
}

/// A call of a script.
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
    fn command(&self, whole: bool) -> Cow<'_, Cmd> {
        match self {
            Self::Plain(command) => Cow::Borrowed(command),
            Self::Script(invocation) => Cow::Owned(invocation.command(whole)),
        }
    }
}

/// The way to the server.
pub(crate) struct Wire {
    link: Link,
    pub(crate) place: String,
}

impl Wire {
    pub(crate) fn new(link: Link, place: String) -> Self {
        Self { link, place }
    }

    /// Sends what changes nothing, or changes the same however often it is sent.
    pub(crate) async fn read(&self, request: &Request) -> Result<Value, Trouble> {
        let deadline = self.link.deadline();
        let mut whole = false;
        let mut last = None;
        for _ in 0..READ_TRIES {
            match self.link.send(&request.command(whole), deadline).await {
                Err(Trouble::NoScript) => {
                    whole = true;
                    last = Some(Trouble::NoScript);
                }
                Err(trouble @ Trouble::Lost(_)) => last = Some(trouble),
                answer => return answer,
            }
        }
        Err(last.unwrap_or(Trouble::NoScript))
    }

    /// Sends what must not be done twice: once, but for a script that the server did not know.
    pub(crate) async fn write(&self, invocation: &Invocation) -> Result<Value, Trouble> {
        let deadline = self.link.deadline();
        match self.link.send(&invocation.command(false), deadline).await {
            Err(Trouble::NoScript) => self.link.send(&invocation.command(true), deadline).await,
            answer => answer,
        }
    }

    /// Sends many requests, each of which may be sent again.
    pub(crate) async fn read_all(&self, requests: &[Request]) -> Result<Vec<Value>, Trouble> {
        let mut values = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            // Each batch has the time of a whole operation: a walk is as long as what it walks through.
            let deadline = self.link.deadline();
            let mut answers = self.batch(batch, deadline).await;
            if matches!(answers, Err(Trouble::Lost(_))) {
                answers = self.batch(batch, deadline).await;
            }
            for (request, answer) in batch.iter().zip(answers?) {
                values.push(match answer {
                    Err(Trouble::NoScript) => self.link.send(&request.command(true), deadline).await?,
                    answer => answer?,
                });
            }
        }
        Ok(values)
    }

    async fn batch(&self, requests: &[Request], deadline: Instant) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        let mut pipeline = Pipeline::with_capacity(requests.len());
        for request in requests {
            pipeline.add_command(request.command(false).into_owned());
        }
        self.link.send_all(&pipeline, deadline).await
    }

    /// A failed request as the port's error.
    pub(crate) fn fail(&self, trouble: Trouble, key: impl FnOnce() -> String) -> StoreError {
        trouble.into_store_error(&self.place, key)
    }
}
