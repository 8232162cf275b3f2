//! The executor of requests. It sends one or many requests to their servers, and sends them again if that is harmless
//! and may help, until each has an answer or the time is over.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use redis::{Cmd, Pipeline, Value};
use tokio::time::{Instant, sleep_until};

use crate::client::Request;
use crate::client::managed_connection::{ManagedConnection, with_jitter};
use crate::client::request_error::{Redirect, RequestError};
use crate::client::topology::Topology;

/// How often a request is sent whose answer gets lost.
const LOST_TRIES: u32 = 3;
/// How often a request is redirected, or its script sent with its text, before there is a pause between two attempts.
const TURNS: u32 = 4;
/// The first and the longest pause before a request is sent again.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(60);

/// A command that is sent right after a script, over the same connection.
pub(crate) struct FollowUp<'a> {
    command: &'a Cmd,
    answer: Mutex<Option<Result<Value, RequestError>>>,
}

impl<'a> FollowUp<'a> {
    pub(crate) fn new(command: &'a Cmd) -> Self {
        Self { command, answer: Mutex::default() }
    }

    pub(crate) fn answer(&self) -> Result<Value, RequestError> {
        self.answer.lock().take().unwrap_or_else(|| Err(missing_reply()))
    }
}

/// Requests, and whether they may be repeated.
pub(crate) struct RequestExecutor<'a> {
    topology: &'a Topology,
    requests: &'a [Request],
    deadline: Instant,
    repeatable: bool,
    follow_up: Option<&'a FollowUp<'a>>,
}

/// A request that has no answer yet.
#[derive(Default)]
struct Pending {
    at: usize,
    /// Whether a script is sent with its text.
    whole: bool,
    /// The node to ask this time instead of the slot's own.
    instead: Option<Arc<ManagedConnection>>,
    lost: u32,
    turns: u32,
}

/// The result of sending requests once.
#[derive(Default)]
struct Round {
    /// Requests to send again.
    left: Vec<Pending>,
    /// Requests to send key by key, because their keys are on two nodes.
    split: Vec<usize>,
    /// Whether a pause may help.
    rest: bool,
    /// Whether the map of the cluster may be out of date.
    doubt: bool,
    last: Option<RequestError>,
}

impl Round {
    fn again(&mut self, pending: Pending, why: RequestError) {
        self.left.push(pending);
        self.last = Some(why);
    }
}

fn missing_reply() -> RequestError {
    RequestError::outcome_unknown("the server sent too few answers")
}

impl<'a> RequestExecutor<'a> {
    pub(crate) fn new(topology: &'a Topology, requests: &'a [Request], deadline: Instant) -> Self {
        Self { topology, requests, deadline, repeatable: false, follow_up: None }
    }

    /// Sets that requests may be repeated even if they may have taken effect.
    pub(crate) fn repeatable(self) -> Self {
        Self { repeatable: true, ..self }
    }

    /// Only for a single request.
    pub(crate) fn followed_by(self, follow_up: &'a FollowUp<'a>) -> Self {
        Self { follow_up: Some(follow_up), ..self }
    }

    /// Returns the answer to the first request.
    pub(crate) async fn run_one(&self) -> Result<Value, RequestError> {
        let pending = Pending::default();
        let asked = self.topology.connection(self.requests[0].slot(), self.deadline).await;
        let outcome = match &asked {
            Ok(connection) => self.send_one(connection, &pending).await,
            Err(failure) => Err(failure.clone()),
        };
        if outcome.is_ok() {
            return outcome;
        }
        let (mut round, mut values) = (Round::default(), vec![None]);
        self.take(&mut round, &mut values, pending, outcome, asked.as_deref().ok())?;
        self.go_on(round, &mut values).await?;
        values.pop().flatten().ok_or_else(missing_reply)
    }

    /// Returns the answers to all requests.
    pub(crate) async fn run(&self) -> Result<Vec<Value>, RequestError> {
        let mut values = vec![None; self.requests.len()];
        let all = (0..self.requests.len()).map(|at| Pending { at, ..Pending::default() }).collect();
        let round = self.send(all, &mut values).await?;
        self.go_on(round, &mut values).await?;
        values.into_iter().collect::<Option<_>>().ok_or_else(missing_reply)
    }

    /// Sends the remaining requests until there are none.
    async fn go_on(&self, mut round: Round, values: &mut [Option<Value>]) -> Result<(), RequestError> {
        let mut pause = FIRST_PAUSE;
        let mut server_reply = None;
        loop {
            for at in std::mem::take(&mut round.split) {
                values[at] = Some(self.key_by_key(at).await?);
            }
            let Some(last) = round.last else {
                return Ok(());
            };
            if round.doubt {
                self.topology.reconsider(self.deadline).await;
            }
            if round.rest {
                sleep_until(self.deadline.min(Instant::now() + with_jitter(pause))).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            // An error of a server is more useful than the error that none answered in time.
            if !matches!(last, RequestError::NotSent(_)) {
                server_reply = Some(last.clone());
            }
            if Instant::now() >= self.deadline {
                return Err(server_reply.unwrap_or(last));
            }
            round = self.send(round.left, values).await?;
        }
    }

    /// Sends each request to its server, in one batch for each server.
    async fn send(&self, pending: Vec<Pending>, values: &mut [Option<Value>]) -> Result<Round, RequestError> {
        let mut round = Round::default();
        let mut groups: Vec<(Arc<ManagedConnection>, Vec<Pending>)> = Vec::new();
        for mut pending in pending {
            let connection = match pending.instead.clone() {
                Some(connection) => connection,
                None => match self.topology.connection(self.requests[pending.at].slot(), self.deadline).await {
                    Ok(connection) => connection,
                    Err(failure) => {
                        pending.instead = None;
                        self.take(&mut round, values, pending, Err(failure), None)?;
                        continue;
                    }
                },
            };
            match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &connection)) {
                Some((_, group)) => group.push(pending),
                None => groups.push((connection, vec![pending])),
            }
        }
        let sent = groups.iter().map(|(connection, group)| self.send_group(connection, group));
        let outcomes = join_all(sent).await;
        for ((connection, group), outcomes) in groups.into_iter().zip(outcomes) {
            for (pending, outcome) in group.into_iter().zip(outcomes) {
                self.take(&mut round, values, pending, outcome, Some(&connection))?;
            }
        }
        Ok(round)
    }

    async fn send_group(&self, connection: &ManagedConnection, group: &[Pending]) -> Vec<Result<Value, RequestError>> {
        if let [pending] = group {
            return vec![self.send_one(connection, pending).await];
        }
        let mut pipeline = Pipeline::with_capacity(group.len());
        for pending in group {
            if pending.instead.is_some() {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(self.requests[pending.at].command(pending.whole).into_owned());
        }
        match connection.send_all(&pipeline, self.deadline).await {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                let answer = |pending: &Pending| {
                    let answer = if pending.instead.is_some() { answers.nth(1) } else { answers.next() };
                    answer.unwrap_or_else(|| Err(missing_reply()))
                };
                group.iter().map(answer).collect()
            }
            Err(failure) => group.iter().map(|_| Err(failure.clone())).collect(),
        }
    }

    async fn send_one(&self, connection: &ManagedConnection, pending: &Pending) -> Result<Value, RequestError> {
        let command = self.requests[pending.at].command(pending.whole);
        if pending.instead.is_none() && self.follow_up.is_none() {
            return connection.send(&command, self.deadline).await;
        }
        let mut pipeline = Pipeline::with_capacity(3);
        if pending.instead.is_some() {
            pipeline.cmd("ASKING");
        }
        pipeline.add_command(command.into_owned());
        if let Some(follow_up) = self.follow_up {
            pipeline.add_command(follow_up.command.clone());
        }
        let mut answers = connection.send_all(&pipeline, self.deadline).await?.into_iter();
        let answer = if pending.instead.is_some() { answers.nth(1) } else { answers.next() };
        if let Some(follow_up) = self.follow_up {
            *follow_up.answer.lock() = answers.next();
        }
        answer.unwrap_or_else(|| Err(missing_reply()))
    }

    /// Decides what to do about an answer, or about a missing one.
    fn take(
        &self,
        round: &mut Round,
        values: &mut [Option<Value>],
        mut pending: Pending,
        outcome: Result<Value, RequestError>,
        asked: Option<&ManagedConnection>,
    ) -> Result<(), RequestError> {
        let failure = match outcome {
            Ok(value) => {
                values[pending.at] = Some(value);
                return Ok(());
            }
            Err(failure) => failure,
        };
        pending.instead = None;
        let (script, cluster) = match (&self.requests[pending.at], self.topology) {
            (request, Topology::Cluster(cluster)) => (matches!(request, Request::Script(_)), Some(cluster)),
            (request, Topology::One(_)) => (matches!(request, Request::Script(_)), None),
        };
        match &failure {
            RequestError::NoScript if !pending.whole => pending.whole = true,
            RequestError::Moved(redirect) => match (cluster, asked) {
                (Some(cluster), Some(asked)) => {
                    cluster.moved(redirect, asked);
                    round.rest |= self.turned(&mut pending);
                }
                _ => return Err(failure),
            },
            RequestError::Ask(_) | RequestError::TryAgain if self.requests[pending.at].single().is_some() => {
                round.split.push(pending.at);
                return Ok(());
            }
            RequestError::Ask(redirect) if !script => match (cluster, asked) {
                (Some(cluster), Some(asked)) => {
                    pending.instead = Some(cluster.redirect_target(redirect, asked));
                    round.rest |= self.turned(&mut pending);
                }
                _ => return Err(failure),
            },
            // A script reads keys that it does not declare. While they are on two nodes, neither node has them all.
            RequestError::Ask(Redirect { .. }) | RequestError::TryAgain if cluster.is_some() => round.rest = true,
            RequestError::RetryLater(_) => (round.rest, round.doubt) = (true, true),
            RequestError::NotSent(_) | RequestError::WrongServer(_) if self.topology.may_change() => {
                (round.rest, round.doubt) = (true, true);
            }
            RequestError::OutcomeUnknown(_) if self.repeatable && pending.lost + 1 < LOST_TRIES => {
                pending.lost += 1;
                round.doubt = true;
            }
            _ => return Err(failure),
        }
        round.again(pending, failure);
        Ok(())
    }

    /// Counts an attempt, and returns whether a pause is due.
    fn turned(&self, pending: &mut Pending) -> bool {
        pending.turns += 1;
        pending.turns > TURNS
    }

    /// Sends a request for each key separately, the last key first: activity before the record that it belongs to, so
    /// that the record is never older.
    async fn key_by_key(&self, at: usize) -> Result<Value, RequestError> {
        let mut requests = self.requests[at].single().ok_or(RequestError::TryAgain)?;
        requests.reverse();
        let executor = RequestExecutor::new(self.topology, &requests, self.deadline).repeatable();
        let mut values = Box::pin(executor.run()).await?;
        values.reverse();
        Ok(Value::Array(values))
    }
}
