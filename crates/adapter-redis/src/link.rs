//! One connection to one server: made when needed, shared by all calls, given up at the first doubt.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::RwLock;
use redis::{Cmd, Pipeline, Value};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::dial::{Access, Connection, Peer, Pushes};
use crate::near::Near;
use crate::sentinel::Sentinels;
use crate::target::Limits;
use crate::trouble::{NO_ANSWER, Trouble};
use crate::url::Address;

/// The first pause after a failed attempt, and the longest: a server that came back is found within it.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(300);

/// How the server is found.
pub(crate) enum Route {
    /// It is always there; `node` where it is one of a cluster, so that messages must say which.
    Fixed { access: Arc<Access>, address: Address, node: bool },
    /// Sentinels say where it is.
    Sentinel(Arc<Sentinels>),
}

impl Route {
    /// A new connection to the primary, by `deadline`; with `pushes` one on which the server may speak unasked. Without
    /// them a replica of a cluster will do: it knows where the slots are, and sends on whoever asks it for more.
    pub(crate) async fn dial(
        &self,
        pushes: Option<Pushes>,
        deadline: Instant,
    ) -> Result<(Connection, Address), Trouble> {
        match self {
            Self::Fixed { access, address, node } => {
                let peer = if *node && pushes.is_none() { Peer::Node } else { Peer::Primary };
                match access.dial(address, peer, pushes, deadline).await {
                    Ok(connection) => Ok((connection, address.clone())),
                    Err(trouble) => Err(if *node { trouble.at(address) } else { trouble }),
                }
            }
            Self::Sentinel(sentinels) => sentinels.dial(pushes, deadline).await,
        }
    }

    /// Whether the server at this address is still the one to ask, as far as is known.
    pub(crate) fn leads_right(&self, address: &Address) -> bool {
        match self {
            Self::Fixed { .. } => true,
            Self::Sentinel(sentinels) => sentinels.is_primary(address),
        }
    }
}

#[derive(Clone)]
struct Live {
    connection: Connection,
    number: u64,
    address: Arc<Address>,
}

/// What the last attempts came to.
#[derive(Default)]
struct Attempts {
    failed: u32,
    last: Option<(Instant, Trouble)>,
}

pub(crate) struct Link {
    route: Route,
    limits: Limits,
    live: RwLock<Option<Live>>,
    made: AtomicU64,
    // One attempt at a time; whoever waited for it shares what came of it.
    attempts: tokio::sync::Mutex<Attempts>,
    /// What is kept in memory by this server's news.
    near: OnceLock<Arc<Near>>,
}

impl Link {
    pub(crate) fn new(route: Route, limits: Limits) -> Self {
        Self {
            route,
            limits,
            live: RwLock::new(None),
            made: AtomicU64::new(0),
            attempts: tokio::sync::Mutex::default(),
            near: OnceLock::new(),
        }
    }

    /// How many connections it has made.
    pub(crate) fn connections(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// What is kept in memory by this server's news, where the settings ask for it.
    pub(crate) fn near(&self) -> Option<&Arc<Near>> {
        self.near.get()
    }

    pub(crate) fn keep_near(&self, near: Arc<Near>) {
        self.near.get_or_init(|| near);
    }

    pub(crate) const fn route(&self) -> &Route {
        &self.route
    }

    /// Sends one command and waits for its answer, which counts only where it is that of a primary.
    pub(crate) async fn send(&self, command: &Cmd, deadline: Instant) -> Result<Value, Trouble> {
        let mut live = self.live(deadline).await?;
        let until = deadline.min(Instant::now() + self.limits.response);
        let answer = match timeout_at(until, live.connection.send(command)).await {
            Ok(Ok(Value::ServerError(error))) => Err(Trouble::of_server(&error)),
            Ok(Ok(value)) if live.connection.is_of_primary() => return Ok(value),
            Ok(Ok(value)) => self.vouch(&mut live, deadline).await.map(|()| value),
            Ok(Err(error)) => Err(Trouble::of(&error, true)),
            Err(_) => Err(Trouble::Lost(NO_ANSWER.to_owned())),
        };
        self.judge(&live, answer.as_ref().err());
        answer.map_err(|trouble| self.named(&live, trouble))
    }

    /// Sends many commands in one go; each has an answer of its own. They count only where they are those of a primary.
    pub(crate) async fn send_all(
        &self,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        let mut live = self.live(deadline).await?;
        let answers = self.exchange(&mut live, commands, deadline).await?;
        if answers.iter().any(Result::is_ok)
            && !live.connection.is_of_primary()
            && let Err(trouble) = self.vouch(&mut live, deadline).await
        {
            self.judge(&live, Some(&trouble));
            return Err(self.named(&live, trouble));
        }
        Ok(answers)
    }

    /// Asks many things that a replica of a cluster knows too.
    pub(crate) async fn ask_all(
        &self,
        questions: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        let mut live = self.live(deadline).await?;
        self.exchange(&mut live, questions, deadline).await
    }

    async fn exchange(
        &self,
        live: &mut Live,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Result<Value, Trouble>>, Trouble> {
        let until = deadline.min(Instant::now() + self.limits.operation);
        let answers = match timeout_at(until, live.connection.send_all(commands)).await {
            Ok(Ok(values)) if values.len() == commands.len() => Ok(values),
            Ok(Ok(_)) => Err(Trouble::Lost("the server sent too few answers".to_owned())),
            Ok(Err(error)) => Err(Trouble::of(&error, true)),
            Err(_) => Err(Trouble::Lost(NO_ANSWER.to_owned())),
        };
        self.judge(live, answers.as_ref().err());
        let single = |value| match value {
            Value::ServerError(error) => {
                let trouble = Trouble::of_server(&error);
                self.judge(live, Some(&trouble));
                Err(self.named(live, trouble))
            }
            value => Ok(value),
        };
        let answers = answers.map_err(|trouble| self.named(live, trouble))?;
        Ok(answers.into_iter().map(single).collect())
    }

    /// Makes sure that what was just answered was answered by a primary: it says behind it that it is one.
    async fn vouch(&self, live: &mut Live, deadline: Instant) -> Result<(), Trouble> {
        let until = deadline.min(Instant::now() + self.limits.response);
        match timeout_at(until, live.connection.confirm_primary()).await {
            Ok(Ok(())) => Ok(()),
            // What was written to a replica is lost with the next word of its primary.
            Ok(Err(Trouble::Elsewhere(message) | Trouble::Refused(message))) => Err(Trouble::Lost(message)),
            Ok(Err(trouble)) => Err(trouble),
            Err(_) => Err(Trouble::Lost(NO_ANSWER.to_owned())),
        }
    }

    /// Whether it is connected, as far as is known.
    pub(crate) fn is_live(&self) -> bool {
        self.live.read().as_ref().is_some_and(|live| !live.connection.is_closed())
    }

    /// Where the present connection leads.
    pub(crate) fn address(&self) -> Option<Arc<Address>> {
        self.live.read().as_ref().map(|live| Arc::clone(&live.address))
    }

    /// Gives the connection up if it does not lead where it should.
    pub(crate) fn leave_unless(&self, right: impl FnOnce(&Address) -> bool) {
        let mut live = self.live.write();
        if live.as_ref().is_some_and(|live| !right(&live.address)) {
            *live = None;
        }
    }

    fn named(&self, used: &Live, trouble: Trouble) -> Trouble {
        match self.route {
            Route::Fixed { node: false, .. } => trouble,
            _ => trouble.at(&used.address),
        }
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

    /// The connection, unless it is known to be closed: then nothing could have been done over it.
    fn present(&self) -> Option<Live> {
        self.live.read().as_ref().filter(|live| !live.connection.is_closed()).cloned()
    }

    async fn live(&self, deadline: Instant) -> Result<Live, Trouble> {
        if let Some(live) = self.present() {
            return Ok(live);
        }
        let began = Instant::now();
        let late = |_| Trouble::Unsent("no connection in time; is the server running?".to_owned());
        let mut attempts = timeout_at(deadline, self.attempts.lock()).await.map_err(late)?;
        if let Some(live) = self.present() {
            return Ok(live);
        }
        if let Some((at, trouble)) = &attempts.last
            && *at >= began
        {
            return Err(trouble.clone());
        }
        if let Some((at, _)) = &attempts.last {
            sleep_until(deadline.min(*at + pause(attempts.failed))).await;
        }
        match self.route.dial(None, deadline).await {
            Ok((connection, address)) => {
                *attempts = Attempts::default();
                let number = self.made.fetch_add(1, Ordering::Relaxed);
                let live = Live { connection, number, address: Arc::new(address) };
                *self.live.write() = Some(live.clone());
                Ok(live)
            }
            Err(trouble) => {
                attempts.failed += 1;
                attempts.last = Some((Instant::now(), trouble.clone()));
                Err(trouble)
            }
        }
    }
}

/// The pause before the next attempt: longer each time.
fn pause(failed: u32) -> Duration {
    jittered(FIRST_PAUSE.saturating_mul(1 << failed.min(8)).min(LONGEST_PAUSE))
}

/// Between half of a pause and all of it, different for each caller of each process of a fleet.
pub(crate) fn jittered(pause: Duration) -> Duration {
    static TURN: AtomicU64 = AtomicU64::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed) << 32 | u64::from(std::process::id());
    let dice = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
    pause.mul_f64(0.5 + (dice % 1_000) as f64 / 2_000.0)
}
