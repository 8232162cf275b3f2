//! One connection to one server: made when needed, shared by all calls, given up at the first doubt.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, Value};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::options::Options;
use crate::target::Target;
use crate::trouble::Trouble;

/// The first pause after a failed attempt, and the longest: a server that came back is found within it.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(300);
/// Requests that may wait for the socket.
const QUEUE: usize = 1024;

/// The longest waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) response: Duration,
    pub(crate) connect: Duration,
    pub(crate) operation: Duration,
}

impl Limits {
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            response: options.response_timeout.into(),
            connect: options.connect_timeout.into(),
            operation: options.operation_timeout.into(),
        }
    }
}

#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    number: u64,
}

/// What the last attempts came to.
#[derive(Default)]
struct Attempts {
    failed: u32,
    last: Option<(Instant, Trouble)>,
}

pub(crate) struct Link {
    target: Target,
    name: String,
    limits: Limits,
    live: RwLock<Option<Live>>,
    made: AtomicU64,
    // One attempt at a time; whoever waited for it shares what came of it.
    attempts: tokio::sync::Mutex<Attempts>,
}

impl Link {
    pub(crate) fn new(target: Target, options: &Options) -> Self {
        Self {
            target,
            name: options.client_name.clone(),
            limits: Limits::of(options),
            live: RwLock::new(None),
            made: AtomicU64::new(0),
            attempts: tokio::sync::Mutex::default(),
        }
    }

    /// When a call that begins now must have ended.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.limits.operation
    }

    /// Sends one command and waits for its answer.
    pub(crate) async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Value, Trouble> {
        let mut live = self.live(deadline).await?;
        let until = deadline.min(Instant::now() + self.limits.response);
        let answer = match timeout_at(until, live.connection.send_packed_command(command)).await {
            Ok(Ok(Value::ServerError(error))) => Err(Trouble::of_server(&error)),
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Trouble::of(&error, true)),
            Err(_) => Err(Trouble::Lost("no answer in time".to_owned())),
        };
        self.judge(&live, answer.as_ref().err());
        answer
    }

    /// Sends many commands in one go; each has an answer of its own.
    pub(crate) async fn send_all(
        &self,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        let mut live = self.live(deadline).await?;
        let until = deadline.min(Instant::now() + self.limits.operation);
        let sent = live.connection.send_packed_commands(commands, 0, commands.len());
        let answers = match timeout_at(until, sent).await {
            Ok(Ok(values)) if values.len() == commands.len() => Ok(values),
            Ok(Ok(_)) => Err(Trouble::Lost("the server sent too few answers".to_owned())),
            Ok(Err(error)) => Err(Trouble::of(&error, true)),
            Err(_) => Err(Trouble::Lost("no answer in time".to_owned())),
        };
        self.judge(&live, answers.as_ref().err());
        let single = |value| match value {
            Value::ServerError(error) => Err(Trouble::of_server(&error)),
            value => Ok(value),
        };
        Ok(answers?.into_iter().map(single).collect())
    }

    /// Gives a connection up where it failed; calls under way on it go on.
    fn judge(&self, used: &Live, trouble: Option<&Trouble>) {
        if trouble.is_some_and(Trouble::ends_connection) {
            let mut live = self.live.write();
            if live.as_ref().is_some_and(|live| live.number == used.number) {
                *live = None;
            }
        }
    }

    async fn live(&self, deadline: Instant) -> Result<Live, Trouble> {
        if let Some(live) = self.live.read().clone() {
            return Ok(live);
        }
        let began = Instant::now();
        let late = |_| Trouble::Unsent("no connection in time; is the server running?".to_owned());
        let mut attempts = timeout_at(deadline, self.attempts.lock()).await.map_err(late)?;
        if let Some(live) = self.live.read().clone() {
            return Ok(live);
        }
        if let Some((at, trouble)) = &attempts.last
            && *at >= began
        {
            return Err(trouble.clone());
        }
        if let Some((at, _)) = &attempts.last {
            sleep_until(deadline.min(*at + self.pause(attempts.failed))).await;
        }
        let until = deadline.min(Instant::now() + self.limits.connect);
        match timeout_at(until, self.connect()).await {
            Ok(Ok(connection)) => {
                *attempts = Attempts::default();
                let live = Live { connection, number: self.made.fetch_add(1, Ordering::Relaxed) };
                *self.live.write() = Some(live.clone());
                Ok(live)
            }
            outcome => {
                let trouble = match outcome {
                    Ok(Err(trouble)) => trouble,
                    _ => Trouble::Unsent("no connection in time; is the server running?".to_owned()),
                };
                attempts.failed += 1;
                attempts.last = Some((Instant::now(), trouble.clone()));
                Err(trouble)
            }
        }
    }

    /// The pause before the next attempt: longer each time, and different for each process of a fleet.
    fn pause(&self, failed: u32) -> Duration {
        let longest = FIRST_PAUSE.saturating_mul(1 << failed.min(8)).min(LONGEST_PAUSE);
        let dice =
            u64::from(std::process::id()).wrapping_mul(0x9e37_79b9).wrapping_add(u64::from(failed) * 0x85eb_ca6b);
        longest.mul_f64(0.5 + (dice % 1_000) as f64 / 2_000.0)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Trouble> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        let client = Client::open(self.target.info.clone()).map_err(|error| Trouble::of(&error, false))?;
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connected.map_err(|error| Trouble::of(&error, false))?;
        let mut name = redis::cmd("CLIENT");
        name.arg("SETNAME").arg(&self.name);
        // A name is a convenience; a user who may not set one connects without.
        match connection.send_packed_command(&name).await {
            Ok(Value::ServerError(error)) if error.code() == "NOAUTH" => Err(Trouble::of_server(&error)),
            Ok(_) => Ok(connection),
            Err(error) => Err(Trouble::of(&error, false)),
        }
    }
}
