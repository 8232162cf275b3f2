//! Finding the primary that the sentinels agree on.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use parking_lot::Mutex;
use redis::{Pipeline, Value};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client::config::ConnectConfig;
use crate::client::connector::{Connection, Peer, Pushes};
use crate::client::request_error::{Failure, NO_ANSWER, RequestError};
use crate::client::role::{field, is_of_replica};
use crate::client::secrets::Secrets;
use crate::client::url::Address;

/// How long the other sentinels have after the first has answered: one of them may know of a later failover.
const GRACE: Duration = Duration::from_millis(50);

/// The setting of the sentinels' own password.
const SETTING: &str = "redis.sentinel_password_file";

/// The sentinels of one service, and the configuration of connections to its servers.
pub(crate) struct Sentinels {
    addresses: Vec<Address>,
    service: String,
    servers: Arc<ConnectConfig>,
    /// The file with the sentinels' own password, and the setting that names it.
    password: Option<(&'static str, PathBuf)>,
    open: Mutex<HashMap<Address, Connection>>,
    /// The primary by the latest answers.
    primary: Mutex<Option<Address>>,
}

/// The answer of one sentinel. A newer one is greater, because a failover increases the epoch.
struct TopologyReply {
    epoch: u64,
    primary: Address,
}

impl Sentinels {
    pub(crate) fn new(
        addresses: Vec<Address>,
        service: String,
        servers: Arc<ConnectConfig>,
        password: Option<(&'static str, PathBuf)>,
    ) -> Self {
        Self { addresses, service, servers, password, open: Mutex::default(), primary: Mutex::default() }
    }

    /// Asks the sentinels again which server is the primary.
    pub(crate) async fn refresh(&self) -> Result<(), RequestError> {
        self.resolve(Instant::now() + self.servers.limits.operation).await.map(drop)
    }

    /// Connects to the primary, and makes sure that it is one.
    pub(crate) async fn dial(
        &self,
        pushes: Option<Pushes>,
        deadline: Instant,
    ) -> Result<(Connection, Address), RequestError> {
        let address = self.resolve(deadline).await?;
        let dialed = self.servers.dial(&address, Peer::Primary, pushes, deadline).await;
        let connection = dialed.map_err(|failure| match failure {
            failure if is_of_replica(&failure) => RequestError::WrongServer(
                "the sentinels name it as primary, but it is a replica; try again shortly, or see SENTINEL MASTERS"
                    .into(),
            ),
            failure => failure,
        });
        match connection {
            Ok(connection) => Ok((connection, address)),
            Err(failure) => Err(failure.at(&address)),
        }
    }

    /// Whether this is the primary's address by the latest answers.
    pub(crate) fn is_primary(&self, address: &Address) -> bool {
        self.primary.lock().as_ref().is_none_or(|primary| primary == address)
    }

    /// Asks all sentinels at once, and uses the answer with the latest failover.
    async fn resolve(&self, deadline: Instant) -> Result<Address, RequestError> {
        let mut asked: FuturesUnordered<_> =
            self.addresses.iter().map(|sentinel| self.ask(sentinel, deadline)).collect();
        let mut best: Option<TopologyReply> = None;
        let mut last = RequestError::not_sent("no sentinel answers in time; are they running?");
        let mut until = deadline;
        loop {
            tokio::select! {
                reply = asked.next() => match reply {
                    Some(Ok(reply)) => {
                        until = until.min(Instant::now() + GRACE);
                        if best.as_ref().is_none_or(|best| best.epoch < reply.epoch) {
                            best = Some(reply);
                        }
                    }
                    Some(Err(failure)) => last = failure,
                    None => break,
                },
                () = sleep_until(until) => break,
            }
        }
        let Some(best) = best else {
            return Err(last);
        };
        *self.primary.lock() = Some(best.primary.clone());
        Ok(best.primary)
    }

    async fn ask(&self, sentinel: &Address, deadline: Instant) -> Result<TopologyReply, RequestError> {
        let at = |failure: RequestError| failure.at(&format_args!("sentinel at {sentinel}"));
        let open = self.open.lock().get(sentinel).filter(|open| !open.is_closed()).cloned();
        let mut connection = match open {
            Some(open) => open,
            None => self.connect(sentinel, deadline).await.map_err(at)?,
        };
        let mut questions = Pipeline::new();
        questions.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
        questions.cmd("SENTINEL").arg("MASTER").arg(&self.service);
        let until = deadline.min(Instant::now() + self.servers.limits.response);
        let reply = match timeout_at(until, connection.send_all(&questions)).await {
            Ok(Ok(answers)) => self.understand(answers),
            Ok(Err(error)) => Err(RequestError::of(&error, false)),
            Err(_) => Err(RequestError::not_sent(NO_ANSWER)),
        };
        if reply.is_err() {
            self.open.lock().remove(sentinel);
        } else {
            self.open.lock().insert(sentinel.clone(), connection);
        }
        reply.map_err(at)
    }

    /// Sentinels often have no password though the servers have one. If they need one and none is set for them, the
    /// servers' password is tried.
    async fn connect(&self, sentinel: &Address, deadline: Instant) -> Result<Connection, RequestError> {
        let servers = &self.servers;
        let tls = servers.secrets.tls.clone();
        let secrets = Secrets { password_file: self.password.clone(), tls, ..Secrets::default() };
        let open = ConnectConfig { secrets, ..(**servers).clone() };
        let outcome = match open.dial(sentinel, Peer::Sentinel, None, deadline).await {
            Err(RequestError::Refused(_)) if self.password.is_none() && servers.secrets.have_password() => {
                let secrets = Secrets { database: 0, ..servers.secrets.clone() };
                ConnectConfig { secrets, ..open }.dial(sentinel, Peer::Sentinel, None, deadline).await
            }
            outcome => outcome,
        };
        outcome.map_err(|failure| match failure {
            RequestError::Refused(failure) => {
                let message = failure.message.replace("the user in redis.url, and redis.password_file", SETTING);
                let message = message.replace("redis.password_file", SETTING);
                RequestError::Refused(Failure { message, ..failure })
            }
            failure => failure,
        })
    }

    fn understand(&self, answers: Vec<Value>) -> Result<TopologyReply, RequestError> {
        let unknown = || RequestError::refused(format!("it knows no service {}; check redis.url", self.service));
        let [address, details] = <[Value; 2]>::try_from(answers).map_err(|_| unknown())?;
        let (host, port): (String, u16) = match address {
            Value::ServerError(error) => return Err(RequestError::of_server(&error)),
            address => redis::from_redis_value(address).map_err(|_| unknown())?,
        };
        let epoch = field(details, "config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        Ok(TopologyReply { epoch, primary: Address::tcp(&host, port) })
    }
}
