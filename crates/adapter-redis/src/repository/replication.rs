//! Commits that are acknowledged once a replica has them.
//!
//! `WAIT` covers the writes of its own connection and blocks that connection. So commits have a connection of their
//! own. Commits that arrive during one round share the next round: first their scripts, then one `WAIT`.

use futures_util::future::join_all;
use redis::{Cmd, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::client::config::Limits;
use crate::client::request_error::{Failure, NO_ANSWER, RequestError};
use crate::client::{Client, Invocation};

/// The largest number of commits in one round.
const ROUND: usize = 64;
/// The largest number of commits that wait for their round.
const QUEUE: usize = 1_024;

/// The outcome of a script and of its replication.
pub(crate) struct Replicated {
    pub(crate) answer: Result<Value, RequestError>,
    /// Whether a replica has this write and all earlier ones.
    pub(crate) durable: Result<bool, RequestError>,
}

struct Job {
    call: Invocation,
    done: oneshot::Sender<Replicated>,
}

/// A queue that sends commits to a server and waits for its replicas.
pub(crate) struct Replicator {
    queue: mpsc::Sender<Job>,
    limits: Limits,
}

impl Replicator {
    pub(crate) fn new(client: Client) -> Self {
        let limits = client.limits;
        let (queue, jobs) = mpsc::channel(QUEUE);
        tokio::spawn(run(client, jobs));
        Self { queue, limits }
    }

    /// Runs a script once, and waits for a replica.
    pub(crate) async fn write(&self, call: Invocation) -> Replicated {
        let none = |message: &str, failure: fn(Failure) -> RequestError| Replicated {
            answer: Err(failure(message.into())),
            durable: Ok(false),
        };
        let (done, answer) = oneshot::channel();
        let sent = timeout(self.limits.operation, self.queue.send(Job { call, done })).await;
        if !matches!(sent, Ok(Ok(()))) {
            return none("too many changes are waiting for the replicas", RequestError::NotSent);
        }
        match timeout(self.limits.operation, answer).await {
            Ok(Ok(replicated)) => replicated,
            _ => none(NO_ANSWER, RequestError::OutcomeUnknown),
        }
    }
}

async fn run(client: Client, mut queue: mpsc::Receiver<Job>) {
    let mut wait = redis::cmd("WAIT");
    // `WAIT` ends before the response timeout, which leaves time for its answer to arrive.
    wait.arg(1).arg(u64::try_from(client.limits.response.mul_f64(0.8).as_millis()).unwrap_or(1).max(1));
    let mut jobs = Vec::with_capacity(ROUND);
    while queue.recv_many(&mut jobs, ROUND).await > 0 {
        let (calls, waiting): (Vec<_>, Vec<_>) = jobs.drain(..).map(|job| (job.call, job.done)).unzip();
        for (replicated, done) in round(&client, calls, &wait).await.into_iter().zip(waiting) {
            // The caller may have given up waiting.
            let _ = done.send(replicated);
        }
    }
}

async fn round(client: &Client, calls: Vec<Invocation>, wait: &Cmd) -> Vec<Replicated> {
    let shared = if calls.len() > 1 { client.send_all_once_then(&calls, wait).await } else { None };
    let mut answers = match shared {
        None => return join_all(calls.into_iter().map(|call| one(client, call, wait))).await,
        Some(Err(failure)) => calls.iter().map(|_| Err(failure.clone())).chain([Ok(Value::Nil)]).collect(),
        Some(Ok(answers)) => answers,
    };
    let durable = answers.pop().unwrap_or(Ok(Value::Nil)).map(|value| has_replica(&value));
    let outcomes = calls.into_iter().zip(answers).map(|(call, answer)| {
        let durable = durable.clone();
        async move {
            match answer {
                // The script was certainly not run. Sent alone, it can follow redirects and bring its code along.
                Err(
                    RequestError::NoScript
                    | RequestError::NotSent(_)
                    | RequestError::WrongServer(_)
                    | RequestError::RetryLater(_),
                ) => one(client, call, wait).await,
                answer => Replicated { answer, durable },
            }
        }
    });
    join_all(outcomes).await
}

async fn one(client: &Client, call: Invocation, wait: &Cmd) -> Replicated {
    match client.send_once_then(call, wait).await {
        Ok((value, waited)) => Replicated { answer: Ok(value), durable: waited.map(|value| has_replica(&value)) },
        Err(failure) => Replicated { answer: Err(failure), durable: Ok(false) },
    }
}

const fn has_replica(value: &Value) -> bool {
    matches!(value, Value::Int(1..))
}
