//! Connecting to one server: the socket, TLS, signing in.

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

use crate::names::{Names, first};
use crate::overheard::{Overheard, Words};
use crate::role::{self, ASK_EVERY, Belief, LEASE, Question};
use crate::secrets::{Entry, Secrets};
use crate::target::Limits;
use crate::time::steady;
use crate::trouble::Trouble;
use crate::url::Address;

/// Requests that may wait for the socket.
const QUEUE: usize = 1024;

/// Where what the server says unasked goes: called between two answers, in the order in which the server sent them.
pub(crate) type Pushes = Arc<dyn AsyncPushSender>;

/// Who is expected at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A primary: a replica is refused, and left as soon as it is one.
    Primary,
    /// Any node of a cluster: a replica knows the map of the slots too. It is believed nothing else.
    Node,
    /// A sentinel, which is no server for data.
    Sentinel,
}

/// What it takes to get in, whichever server it is.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) secrets: Secrets,
    pub(crate) names: Names,
    /// What the server lists the connection as.
    pub(crate) name: String,
    pub(crate) limits: Limits,
}

/// A connection for any number of requests at once. The socket is closed when the last clone is dropped, whatever is
/// still under way then.
#[derive(Clone)]
pub(crate) struct Connection {
    calls: MultiplexedConnection,
    shared: Arc<Shared>,
}

struct Shared {
    belief: Arc<Belief>,
    question: Question,
    driver: Task,
    /// Asks the server for its role, and looks whether its name still leads to it.
    _watch: Task,
}

/// A task that ends with whoever keeps it.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Sends one command; no deadline but the caller's.
    pub(crate) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        self.calls.send_packed_command(command).await
    }

    /// Sends many in one go, each of which gets its own answer, if only an error of the server's.
    pub(crate) async fn send_all(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        self.calls.send_packed_commands(commands, 0, commands.len()).await
    }

    /// Listens to a channel; what is said there comes as pushes.
    pub(crate) async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        self.calls.subscribe(channel).await
    }

    /// Whether nothing new is to be sent over it: the other side is known to have closed it, is the primary no more, or
    /// its name leads elsewhere now.
    pub(crate) fn is_closed(&self) -> bool {
        self.shared.driver.0.is_finished() || self.shared.belief.is_left()
    }

    /// Whether the server said within the [`LEASE`] that it is the primary.
    pub(crate) fn is_of_primary(&self) -> bool {
        self.shared.belief.holds()
    }

    /// Asks the server whether it is the primary; no deadline but the caller's.
    pub(crate) async fn confirm_primary(&mut self) -> Result<(), Trouble> {
        role::ask(&mut self.calls, self.shared.question, &self.shared.belief).await
    }
}

impl Access {
    /// Connects and signs in by `deadline`, and within the time for connecting. With `pushes` it speaks RESP3, and
    /// what the server says unasked goes there.
    pub(crate) async fn dial(
        &self,
        address: &Address,
        peer: Peer,
        pushes: Option<Pushes>,
        deadline: Instant,
    ) -> Result<Connection, Trouble> {
        let until = deadline.min(Instant::now() + self.limits.connect);
        let running = if self.secrets.tls.is_some() {
            "no connection in time; is the server running, and does it speak TLS on this port?"
        } else {
            "no connection in time; is the server running?"
        };
        timeout_at(until, self.connect(address, peer, pushes))
            .await
            .unwrap_or_else(|_| Err(Trouble::Unsent(running.to_owned())))
    }

    async fn connect(&self, address: &Address, peer: Peer, pushes: Option<Pushes>) -> Result<Connection, Trouble> {
        let entry = &self.secrets.read_again().await?;
        let (host, port) = match address {
            Address::Unix(path) => {
                let socket = UnixStream::connect(path).await.map_err(|error| refused(&error))?;
                return self.sign_in(Box::new(socket), entry, peer, pushes, None).await;
            }
            Address::Tcp { host, port } => (host.as_str(), *port),
        };
        let addresses = self.names.look_up(host, port).await.map_err(|error| {
            Trouble::Unsent(format!("the address of {host} could not be found: {error}; check the name, and DNS"))
        })?;
        // What a connection that comes too late says unasked is meant for nobody.
        let chosen = Arc::new(AtomicBool::new(false));
        let pushes = pushes.map(|pushes| gated(pushes, Arc::clone(&chosen)));
        let reach = |at| self.reach((host, at), entry, peer, pushes.clone());
        let connection = first(addresses, self.limits.connect, reach).await?;
        chosen.store(true, Ordering::Release);
        Ok(connection)
    }

    async fn reach(
        &self,
        at: (&str, SocketAddr),
        entry: &Entry,
        peer: Peer,
        pushes: Option<Pushes>,
    ) -> Result<Connection, Trouble> {
        let stream = stream(at, entry).await?;
        self.sign_in(stream, entry, peer, pushes, Some(at)).await
    }

    async fn sign_in(
        &self,
        stream: Box<dyn Stream>,
        entry: &Entry,
        peer: Peer,
        pushes: Option<Pushes>,
        reached: Option<(&str, SocketAddr)>,
    ) -> Result<Connection, Trouble> {
        let (stream, words) = Overheard::new(stream);
        let mut sign_in = entry.sign_in.clone();
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        if let Some(pushes) = pushes {
            sign_in = sign_in.set_protocol(ProtocolVersion::RESP3);
            config = config.set_push_sender(pushes);
        }
        let made = MultiplexedConnection::new_with_config(&sign_in, stream, config).await;
        let (mut calls, driver) = made.map_err(|error| self.turned_away(&error, &words))?;
        let driver = Task(tokio::spawn(driver));
        let (question, belief) = self.introduce(&mut calls, peer, &words).await?;
        let moved = match reached {
            Some((host, at)) if host.parse::<std::net::IpAddr>().is_err() => {
                Some((self.names.clone(), host.to_owned(), at))
            }
            _ => None,
        };
        let watch = watch(calls.clone(), peer, question, Arc::clone(&belief), moved);
        let watch = Task(tokio::spawn(watch));
        Ok(Connection { calls, shared: Arc::new(Shared { belief, question, driver, _watch: watch }) })
    }

    /// Tells who calls, and asks who answers.
    async fn introduce(
        &self,
        calls: &mut MultiplexedConnection,
        peer: Peer,
        words: &Words,
    ) -> Result<(Question, Arc<Belief>), Trouble> {
        let belief = Arc::new(Belief::default());
        let mut greeting = Pipeline::with_capacity(2);
        greeting.cmd("CLIENT").arg("SETNAME").arg(&self.name);
        if peer != Peer::Sentinel {
            greeting.add_command(Question::Info.command());
        }
        let asked = steady();
        let answers = calls.send_packed_commands(&greeting, 0, greeting.len()).await;
        let mut answers = answers.map_err(|error| self.turned_away(&error, words))?.into_iter();
        // A name is a convenience; a user who may not set one connects without.
        if let Some(Value::ServerError(error)) = answers.next()
            && role::is_about_the_connection(&error)
        {
            return Err(Trouble::of_server(&error));
        }
        let Some(answer) = answers.next() else {
            return Ok((Question::Info, belief));
        };
        let settled = Question::settle(answer, calls).await;
        let (question, answer) = settled.map_err(|error| self.turned_away(&error, words))?;
        match question.judge(answer) {
            Ok(()) => belief.renew(asked),
            Err(Trouble::Elsewhere(_)) if peer == Peer::Node => {}
            Err(trouble) => return Err(trouble),
        }
        Ok((question, belief))
    }

    /// A server that ends the connection before the first answer either says why, or could not make sense of it.
    fn turned_away(&self, error: &RedisError, words: &Words) -> Trouble {
        if let Some(refusal) = words.refusal() {
            return refusal;
        }
        if let Some(alert) = words.alert() {
            return Trouble::Refused(format!("{alert}; check redis.tls_cert and redis.tls_key"));
        }
        match (&self.secrets.tls, Trouble::of(error, false)) {
            (None, Trouble::Unsent(_)) if error.is_connection_dropped() => Trouble::Unsent(
                "the server ended the connection at once; if it speaks TLS on this port, write rediss://".to_owned(),
            ),
            (_, trouble) => trouble,
        }
    }
}

async fn stream((host, at): (&str, SocketAddr), entry: &Entry) -> Result<Box<dyn Stream>, Trouble> {
    let socket = TcpStream::connect(at).await.map_err(|error| refused(&error))?;
    socket.set_nodelay(true).map_err(|error| refused(&error))?;
    let Some(tls) = &entry.tls else {
        return Ok(Box::new(socket));
    };
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Trouble::Refused(format!("{host} is no name that a certificate can have")))?;
    match TlsConnector::from(Arc::clone(tls)).connect(name, socket).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(distrust(&error)),
    }
}

/// Passes on what the server says unasked once the connection was chosen.
fn gated(pushes: Pushes, chosen: Arc<AtomicBool>) -> Pushes {
    Arc::new(move |push: PushInfo| -> Result<(), SendError> {
        if chosen.load(Ordering::Acquire) { pushes.send(push) } else { Ok(()) }
    })
}

/// Has nothing new sent over a connection once its server is no primary any more, or its name leads elsewhere.
async fn watch(
    calls: MultiplexedConnection,
    peer: Peer,
    question: Question,
    belief: Arc<Belief>,
    reached: Option<(Names, String, SocketAddr)>,
) {
    let demoted = async {
        match peer {
            Peer::Sentinel => std::future::pending().await,
            Peer::Primary | Peer::Node => watch_role(calls, peer, question, &belief).await,
        }
    };
    let moved = async {
        match &reached {
            None => std::future::pending().await,
            Some((names, host, at)) => names.moved_from(host, *at).await,
        }
    };
    tokio::select! {
        why = demoted => tracing::warn!(server = ?reached.as_ref().map(|(_, _, at)| at), ?why, "the server is left"),
        () = moved => tracing::warn!(server = ?reached.as_ref().map(|(_, _, at)| at), "the name leads elsewhere now; the server is left"),
    }
    belief.leave();
}

/// Ends, with what it said, when the server is found to be a replica; a node of a cluster may be one.
async fn watch_role(mut calls: MultiplexedConnection, peer: Peer, question: Question, belief: &Belief) -> Trouble {
    loop {
        sleep(ASK_EVERY).await;
        // Where no answer comes, whoever has a call under way finds out.
        if let Ok(Err(trouble @ Trouble::Elsewhere(_))) = timeout(LEASE, role::ask(&mut calls, question, belief)).await
            && peer == Peer::Primary
        {
            return trouble;
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

fn refused(error: &io::Error) -> Trouble {
    Trouble::Unsent(match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused; is the server running?".to_owned(),
        io::ErrorKind::NotFound => "there is no such socket; is the server running?".to_owned(),
        _ => error.to_string(),
    })
}

/// A failed handshake. Only what certificates are about is worth a person's time; the rest may pass by itself.
fn distrust(error: &io::Error) -> Trouble {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(error @ rustls::Error::InvalidCertificate(_)) => {
            Trouble::Refused(format!("the server's certificate is not trusted: {error}; check redis.tls_ca"))
        }
        Some(rustls::Error::AlertReceived(alert)) => Trouble::Refused(format!(
            "the server refuses the TLS connection ({alert:?}); check redis.tls_cert and redis.tls_key"
        )),
        Some(error) => Trouble::Unsent(format!("{error}; does the server speak TLS on this port?")),
        None => Trouble::Unsent(format!("{error}; does the server speak TLS on this port?")),
    }
}
