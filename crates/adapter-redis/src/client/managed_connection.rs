//! A managed connection to one server. It is made when needed, shared by all calls, and dropped at the first doubt.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use redis::{Cmd, Pipeline, Value};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::cache::client_cache::ClientCache;
use crate::client::config::ConnectConfig;
use crate::client::config::Limits;
use crate::client::connector::{Connection, Peer, Pushes};
use crate::client::request_error::{NO_ANSWER, RequestError};
use crate::client::sentinel::Sentinels;
use crate::client::url::Address;

/// The first and the longest pause after a failed attempt. A server that is back is found within the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(300);

/// The way to find the server.
pub(crate) enum Route {
    /// The server is at a fixed address. `node` says that it is one of a cluster, so that messages have to name it.
    Fixed { config: Arc<ConnectConfig>, address: Address, node: bool },
    /// Sentinels name the server.
    Sentinel(Arc<Sentinels>),
}

impl Route {
    /// Makes a new connection to the primary, by `deadline`, with push messages if there is a handler. Without one, a
    /// replica of a cluster is accepted too: it knows the map of the slots, and redirects other requests.
    pub(crate) async fn dial(
        &self,
        pushes: Option<Pushes>,
        deadline: Instant,
    ) -> Result<(Connection, Address), RequestError> {
        match self {
            Self::Fixed { config, address, node } => {
                let peer = if *node && pushes.is_none() { Peer::Node } else { Peer::Primary };
                match config.dial(address, peer, pushes, deadline).await {
                    Ok(connection) => Ok((connection, address.clone())),
                    Err(failure) => Err(if *node { failure.at(address) } else { failure }),
                }
            }
            Self::Sentinel(sentinels) => sentinels.dial(pushes, deadline).await,
        }
    }

    /// Whether the server at this address is still the current one, as far as is known.
    pub(crate) fn is_current_primary(&self, address: &Address) -> bool {
        match self {
            Self::Fixed { .. } => true,
            Self::Sentinel(sentinels) => sentinels.is_primary(address),
        }
    }
}

#[derive(Clone)]
struct ActiveConnection {
    connection: Connection,
    number: u64,
    address: Arc<Address>,
}

/// The state of the last attempts.
#[derive(Default)]
struct Attempts {
    failed: u32,
    last: Option<(Instant, RequestError)>,
}

pub(crate) struct ManagedConnection {
    route: Route,
    limits: Limits,
    live: RwLock<Option<ActiveConnection>>,
    made: AtomicU64,
    // There is one attempt at a time. All calls that wait for it share its result.
    attempts: tokio::sync::Mutex<Attempts>,
    /// The cache of this server's sessions.
    cache: OnceLock<Arc<ClientCache>>,
}

impl ManagedConnection {
    pub(crate) fn new(route: Route, limits: Limits) -> Self {
        Self {
            route,
            limits,
            live: RwLock::new(None),
            made: AtomicU64::new(0),
            attempts: tokio::sync::Mutex::default(),
            cache: OnceLock::new(),
        }
    }

    /// The number of connections that were made.
    pub(crate) fn connections_made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Returns the cache of this server's sessions, if it is switched on.
    pub(crate) fn cache(&self) -> Option<&Arc<ClientCache>> {
        self.cache.get()
    }

    pub(crate) fn set_cache(&self, cache: Arc<ClientCache>) {
        self.cache.get_or_init(|| cache);
    }

    pub(crate) const fn route(&self) -> &Route {
        &self.route
    }

    /// Sends one command and waits for its answer, which is accepted only from a primary.
    pub(crate) async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Value, RequestError> {
        let mut live = self.live(deadline).await?;
        let until = deadline.min(Instant::now() + self.limits.response);
        let answer = match timeout_at(until, live.connection.send(command)).await {
            Ok(Ok(Value::ServerError(error))) => Err(RequestError::of_server(&error)),
            Ok(Ok(value)) if live.connection.is_of_primary() => return Ok(value),
            Ok(Ok(value)) => self.confirm_primary_after(&mut live, deadline).await.map(|()| value),
            Ok(Err(error)) => Err(RequestError::of(&error, true)),
            Err(_) => Err(RequestError::outcome_unknown(NO_ANSWER)),
        };
        self.close_if_broken(&live, answer.as_ref().err());
        answer.map_err(|failure| self.named(&live, failure))
    }

    /// Sends many commands in one batch. Each has its own answer. The answers are accepted only from a primary.
    pub(crate) async fn send_all(
        &self,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Result<Value, RequestError>>, RequestError> {
        let mut live = self.live(deadline).await?;
        let answers = self.exchange(&mut live, commands, deadline).await?;
        if answers.iter().any(Result::is_ok)
            && !live.connection.is_of_primary()
            && let Err(failure) = self.confirm_primary_after(&mut live, deadline).await
        {
            self.close_if_broken(&live, Some(&failure));
            return Err(self.named(&live, failure));
        }
        Ok(answers)
    }

    /// Sends many commands that a replica of a cluster may answer too.
    pub(crate) async fn ask_all(
        &self,
        questions: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Result<Value, RequestError>>, RequestError> {
        let mut live = self.live(deadline).await?;
        self.exchange(&mut live, questions, deadline).await
    }

    async fn exchange(
        &self,
        live: &mut ActiveConnection,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Result<Value, RequestError>>, RequestError> {
        let until = deadline.min(Instant::now() + self.limits.operation);
        let answers = match timeout_at(until, live.connection.send_all(commands)).await {
            Ok(Ok(values)) if values.len() == commands.len() => Ok(values),
            Ok(Ok(_)) => Err(RequestError::outcome_unknown("the server sent too few answers")),
            Ok(Err(error)) => Err(RequestError::of(&error, true)),
            Err(_) => Err(RequestError::outcome_unknown(NO_ANSWER)),
        };
        self.close_if_broken(live, answers.as_ref().err());
        let single = |value| match value {
            Value::ServerError(error) => {
                let failure = RequestError::of_server(&error);
                self.close_if_broken(live, Some(&failure));
                Err(self.named(live, failure))
            }
            value => Ok(value),
        };
        let answers = answers.map_err(|failure| self.named(live, failure))?;
        Ok(answers.into_iter().map(single).collect())
    }

    /// Makes sure that the last answer came from a primary, by asking for the role after it.
    async fn confirm_primary_after(&self, live: &mut ActiveConnection, deadline: Instant) -> Result<(), RequestError> {
        let until = deadline.min(Instant::now() + self.limits.response);
        match timeout_at(until, live.connection.confirm_primary()).await {
            Ok(Ok(())) => Ok(()),
            // A write to a replica is lost with the next update from its primary.
            Ok(Err(RequestError::WrongServer(failure) | RequestError::Refused(failure))) => {
                Err(RequestError::OutcomeUnknown(failure))
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(RequestError::outcome_unknown(NO_ANSWER)),
        }
    }

    /// Whether there is a connection, as far as is known.
    pub(crate) fn is_live(&self) -> bool {
        self.live.read().as_ref().is_some_and(|live| !live.connection.is_closed())
    }

    /// Returns the address of the current connection.
    pub(crate) fn address(&self) -> Option<Arc<Address>> {
        self.live.read().as_ref().map(|live| Arc::clone(&live.address))
    }

    /// Drops the connection if it is not to the current server.
    pub(crate) fn disconnect_unless(&self, right: impl FnOnce(&Address) -> bool) {
        let mut live = self.live.write();
        if live.as_ref().is_some_and(|live| !right(&live.address)) {
            *live = None;
        }
    }

    fn named(&self, used: &ActiveConnection, failure: RequestError) -> RequestError {
        match self.route {
            Route::Fixed { node: false, .. } => failure,
            _ => failure.at(&used.address),
        }
    }

    /// Drops a connection that failed. Calls in progress on it continue.
    fn close_if_broken(&self, used: &ActiveConnection, failure: Option<&RequestError>) {
        if failure.is_some_and(RequestError::ends_connection) {
            let mut live = self.live.write();
            if live.as_ref().is_some_and(|live| live.number == used.number) {
                *live = None;
            }
        }
    }

    /// Returns the connection, unless it is known to be closed, so that a request on it could have no effect.
    fn present(&self) -> Option<ActiveConnection> {
        self.live.read().as_ref().filter(|live| !live.connection.is_closed()).cloned()
    }

    async fn live(&self, deadline: Instant) -> Result<ActiveConnection, RequestError> {
        if let Some(live) = self.present() {
            return Ok(live);
        }
        let began = Instant::now();
        let late = |_| RequestError::not_sent("no connection in time; is the server running?");
        let mut attempts = timeout_at(deadline, self.attempts.lock()).await.map_err(late)?;
        if let Some(live) = self.present() {
            return Ok(live);
        }
        if let Some((at, failure)) = &attempts.last
            && *at >= began
        {
            return Err(failure.clone());
        }
        if let Some((at, _)) = &attempts.last {
            sleep_until(deadline.min(*at + pause(attempts.failed))).await;
        }
        match self.route.dial(None, deadline).await {
            Ok((connection, address)) => {
                *attempts = Attempts::default();
                let number = self.made.fetch_add(1, Ordering::Relaxed);
                let live = ActiveConnection { connection, number, address: Arc::new(address) };
                *self.live.write() = Some(live.clone());
                Ok(live)
            }
            Err(failure) => {
                attempts.failed += 1;
                attempts.last = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }
}

/// Returns the pause before the next attempt, which grows each time.
fn pause(failed: u32) -> Duration {
    with_jitter(FIRST_PAUSE.saturating_mul(1 << failed.min(8)).min(LONGEST_PAUSE))
}

/// Returns a random time between half of a pause and all of it, so that processes do not retry at the same moment.
pub(crate) fn with_jitter(pause: Duration) -> Duration {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed) << 32 | u64::from(std::process::id());
    let dice = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    pause.mul_f64(0.5 + (dice % 1_000) as f64 / 2_000.0)
}
