//! Connecting to one server: the socket, TLS, and authentication.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::aio::{AsyncPushSender, MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, PushInfo, RedisError, RedisResult, Value};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use crate::client::config::ConnectConfig;
use crate::client::greeting_capture::{GreetingCapture, ServerGreeting};
use crate::client::request_error::{Failure, RequestError};
use crate::client::resolver::{Resolver, first};
use crate::client::role::{self, ASK_EVERY, LEASE, PrimaryLease, RoleQuery};
use crate::client::secrets::LoadedSecrets;
use crate::client::url::Address;
use crate::repository::clock::monotonic_micros;

/// The most requests that wait for the socket.
const QUEUE: usize = 1024;

/// A handler of the server's push messages. It is called between two answers, in the order in which the server sent
/// them.
pub(crate) type Pushes = Arc<dyn AsyncPushSender>;

/// The kind of server that is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A primary: a replica is refused, and left as soon as it is one.
    Primary,
    /// Any node of a cluster: a replica knows the map of the slots too. It is trusted for nothing else.
    Node,
    /// A sentinel, which is no server for data.
    Sentinel,
}

/// A connection for any number of concurrent requests. The socket is closed when the last clone is dropped, even if
/// requests are in progress.
#[derive(Clone)]
pub(crate) struct Connection {
    calls: MultiplexedConnection,
    shared: Arc<Shared>,
}

struct Shared {
    lease: Arc<PrimaryLease>,
    query: RoleQuery,
    driver: Task,
    /// The task that asks the server for its role, and checks that its name still resolves to its address.
    _watch: Task,
}

/// A task that is aborted when this is dropped.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Sends one command, without a deadline of its own.
    pub(crate) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.calls.send_packed_command(command).await
    }

    /// Sends many commands in one batch. Each gets its own answer, which may be an error of the server.
    pub(crate) async fn send_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        self.calls.send_packed_commands(commands, 0, commands.len()).await
    }

    /// Subscribes to a channel. Its messages come as push messages.
    pub(crate) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        self.calls.subscribe(channel).await
    }

    /// Whether no new request may be sent: the server has closed the connection, is no longer the primary, or its name
    /// now resolves to another address.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.driver.0.is_finished() || self.shared.lease.is_left()
    }

    /// Whether the server has said within the last [`LEASE`] that it is the primary.
    pub(crate) fn is_of_primary(&self) -> bool {
        self.shared.lease.holds()
    }

    /// Asks the server whether it is the primary, without a deadline of its own.
    pub(crate) async fn confirm_primary(&mut self) -> Result<(), RequestError> {
        role::ask(&mut self.calls, self.shared.query, &self.shared.lease).await
    }
}

impl ConnectConfig {
    /// Connects and authenticates by `deadline`, and within the time limit for connecting. With `pushes` the connection
    /// uses RESP3, and its push messages go there.
    pub(crate) async fn dial(
        &self,
        address: &Address,
        peer: Peer,
        pushes: Option<Pushes>,
        deadline: Instant,
    ) -> Result<Connection, RequestError> {
        let until = deadline.min(Instant::now() + self.limits.connect);
        let running = if self.secrets.tls.is_some() {
            "no connection in time; is the server running, and does it speak TLS on this port?"
        } else {
            "no connection in time; is the server running?"
        };
        timeout_at(until, self.connect(address, peer, pushes))
            .await
            .unwrap_or_else(|_| Err(RequestError::not_sent(running)))
    }

    async fn connect(&self, address: &Address, peer: Peer, pushes: Option<Pushes>) -> Result<Connection, RequestError> {
        let secrets = &self.secrets.read_again().await?;
        let (host, port) = match address {
            Address::Unix(path) => {
                let socket = UnixStream::connect(path).await.map_err(refused)?;
                return self.authenticate(Box::new(socket), secrets, peer, pushes, None).await;
            }
            Address::Tcp { host, port } => (host.as_str(), *port),
        };
        let addresses = self.resolver.look_up(host, port).await.map_err(|error| {
            let message = format!("the address of {host} could not be found: {error}; check the name, and DNS");
            RequestError::not_sent(Failure::new(message, error))
        })?;
        // Push messages of a connection that was not chosen are dropped.
        let chosen = Arc::new(AtomicBool::new(false));
        let pushes = pushes.map(|pushes| gated(pushes, Arc::clone(&chosen)));
        let open_stream = |at| self.open_stream((host, at), secrets, peer, pushes.clone());
        let connection = first(addresses, self.limits.connect, open_stream).await?;
        chosen.store(true, Ordering::Release);
        Ok(connection)
    }

    async fn open_stream(
        &self,
        at: (&str, SocketAddr),
        secrets: &LoadedSecrets,
        peer: Peer,
        pushes: Option<Pushes>,
    ) -> Result<Connection, RequestError> {
        let stream = stream(at, secrets).await?;
        self.authenticate(stream, secrets, peer, pushes, Some(at)).await
    }

    async fn authenticate(
        &self,
        stream: Box<dyn Stream>,
        secrets: &LoadedSecrets,
        peer: Peer,
        pushes: Option<Pushes>,
        reached: Option<(&str, SocketAddr)>,
    ) -> Result<Connection, RequestError> {
        let (stream, greeting) = GreetingCapture::new(stream);
        let mut connection_info = secrets.connection_info.clone();
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        if let Some(pushes) = pushes {
            connection_info = connection_info.set_protocol(ProtocolVersion::RESP3);
            config = config.set_push_sender(pushes);
        }
        let made = MultiplexedConnection::new_with_config(&connection_info, stream, config).await;
        let (mut calls, driver) = made.map_err(|error| self.rejection(&error, &greeting))?;
        let driver = Task(tokio::spawn(driver));
        let (query, lease) = self.handshake(&mut calls, peer, &greeting).await?;
        let moved = match reached {
            Some((host, at)) if host.parse::<std::net::IpAddr>().is_err() => {
                Some((self.resolver.clone(), host.to_owned(), at))
            }
            _ => None,
        };
        let watch = watch(calls.clone(), peer, query, Arc::clone(&lease), moved);
        let watch = Task(tokio::spawn(watch));
        Ok(Connection { calls, shared: Arc::new(Shared { lease, query, driver, _watch: watch }) })
    }

    /// Names the connection, and asks for the server's role.
    async fn handshake(
        &self,
        calls: &mut MultiplexedConnection,
        peer: Peer,
        greeting: &ServerGreeting,
    ) -> Result<(RoleQuery, Arc<PrimaryLease>), RequestError> {
        let lease = Arc::new(PrimaryLease::default());
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("CLIENT").arg("SETNAME").arg(&self.name);
        if peer != Peer::Sentinel {
            commands.add_command(RoleQuery::Info.command());
        }
        let asked = monotonic_micros();
        let answers = calls.send_packed_commands(&commands, 0, commands.len()).await;
        let mut answers = answers.map_err(|error| self.rejection(&error, greeting))?.into_iter();
        // The name is a convenience. A user without the right to set it connects without a name.
        if let Some(Value::ServerError(error)) = answers.next()
            && role::is_about_the_connection(&error)
        {
            return Err(RequestError::of_server(&error));
        }
        let Some(answer) = answers.next() else {
            return Ok((RoleQuery::Info, lease));
        };
        let settled = RoleQuery::settle(answer, calls).await;
        let (query, answer) = settled.map_err(|error| self.rejection(&error, greeting))?;
        match query.check_answer(answer) {
            Ok(()) => lease.renew(asked),
            Err(RequestError::WrongServer(_)) if peer == Peer::Node => {}
            Err(failure) => return Err(failure),
        }
        Ok((query, lease))
    }

    /// A server that closes the connection before the first answer either says why, or does not understand the
    /// protocol.
    fn rejection(&self, error: &RedisError, greeting: &ServerGreeting) -> RequestError {
        if let Some(refusal) = greeting.refusal() {
            return refusal;
        }
        if let Some(alert) = greeting.alert() {
            return RequestError::refused(Failure::new(
                format!("{alert}; check redis.tls_cert and redis.tls_key"),
                error.clone(),
            ));
        }
        match (&self.secrets.tls, RequestError::of(error, false)) {
            (None, RequestError::NotSent(_)) if error.is_connection_dropped() => RequestError::not_sent(
                "the server ended the connection at once; if it speaks TLS on this port, write rediss://".to_owned(),
            ),
            (_, failure) => failure,
        }
    }
}

async fn stream((host, at): (&str, SocketAddr), secrets: &LoadedSecrets) -> Result<Box<dyn Stream>, RequestError> {
    let socket = TcpStream::connect(at).await.map_err(refused)?;
    socket.set_nodelay(true).map_err(refused)?;
    let Some(tls) = &secrets.tls else {
        return Ok(Box::new(socket));
    };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| {
        RequestError::refused(Failure::new(format!("{host} is no name that a certificate can have"), error))
    })?;
    match TlsConnector::from(Arc::clone(tls)).connect(name, socket).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(distrust(error)),
    }
}

/// Passes push messages on once the connection was chosen.
fn gated(pushes: Pushes, chosen: Arc<AtomicBool>) -> Pushes {
    Arc::new(move |push: PushInfo| -> Result<(), SendError> {
        if chosen.load(Ordering::Acquire) { pushes.send(push) } else { Ok(()) }
    })
}

/// Stops new requests on a connection once its server is no longer the primary, or its name resolves to another
/// address.
async fn watch(
    calls: MultiplexedConnection,
    peer: Peer,
    query: RoleQuery,
    lease: Arc<PrimaryLease>,
    reached: Option<(Resolver, String, SocketAddr)>,
) {
    let demoted = async {
        match peer {
            Peer::Sentinel => std::future::pending().await,
            Peer::Primary | Peer::Node => watch_role(calls, peer, query, &lease).await,
        }
    };
    let moved = async {
        match &reached {
            None => std::future::pending().await,
            Some((resolver, host, at)) => resolver.moved_from(host, *at).await,
        }
    };
    tokio::select! {
        why = demoted => tracing::warn!(server = ?reached.as_ref().map(|(_, _, at)| at), ?why, "the server is left"),
        () = moved => tracing::warn!(server = ?reached.as_ref().map(|(_, _, at)| at), "the name leads elsewhere now; the server is left"),
    }
    lease.leave();
}

/// Ends when the server is found to be a replica, with its answer. A cluster node may be one.
async fn watch_role(
    mut calls: MultiplexedConnection,
    peer: Peer,
    query: RoleQuery,
    lease: &PrimaryLease,
) -> RequestError {
    loop {
        sleep(ASK_EVERY).await;
        // If no answer comes, the calls in progress find out.
        if let Ok(Err(failure @ RequestError::WrongServer(_))) =
            timeout(LEASE, role::ask(&mut calls, query, lease)).await
            && peer == Peer::Primary
        {
            return failure;
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

fn refused(error: io::Error) -> RequestError {
    let message = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused; is the server running?".to_owned(),
        io::ErrorKind::NotFound => "there is no such socket; is the server running?".to_owned(),
        _ => error.to_string(),
    };
    RequestError::not_sent(Failure::new(message, error))
}

/// Returns the error of a failed TLS handshake. Errors about certificates need a person; others may pass by themselves.
fn distrust(error: io::Error) -> RequestError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(beneath @ rustls::Error::InvalidCertificate(_)) => {
            let message = format!("the server's certificate is not trusted: {beneath}; check redis.tls_ca");
            RequestError::refused(Failure::new(message, error))
        }
        Some(rustls::Error::AlertReceived(alert)) => {
            let message =
                format!("the server refuses the TLS connection ({alert:?}); check redis.tls_cert and redis.tls_key");
            RequestError::refused(Failure::new(message, error))
        }
        _ => {
            let message = format!("{error}; does the server speak TLS on this port?");
            RequestError::not_sent(Failure::new(message, error))
        }
    }
}
