//! Connecting to one server: the socket, TLS, signing in.

use std::io;
use std::sync::Arc;

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisError, RedisResult, Value,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use crate::target::Limits;
use crate::trouble::Trouble;
use crate::url::Address;

/// Requests that may wait for the socket.
const QUEUE: usize = 1024;

/// Where what the server says unasked goes: called between two answers, in the order in which the server sent them.
pub(crate) type Pushes = Arc<dyn AsyncPushSender>;

/// What it takes to get in, whichever server it is.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) sign_in: RedisConnectionInfo,
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// What the server lists the connection as.
    pub(crate) name: String,
    pub(crate) limits: Limits,
}

/// A connection for any number of requests at once. The socket is closed when the last clone is dropped, whatever is
/// still under way then.
#[derive(Clone)]
pub(crate) struct Connection {
    calls: MultiplexedConnection,
    driver: Arc<Driver>,
}

struct Driver(JoinHandle<()>);

impl Drop for Driver {
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

    /// Whether the other side is known to have closed it: what is sent now certainly does not arrive.
    pub(crate) fn is_closed(&self) -> bool {
        self.driver.0.is_finished()
    }
}

impl Access {
    /// Connects and signs in by `deadline`, and within the time for connecting. With `pushes` it speaks RESP3, and
    /// what the server says unasked goes there.
    pub(crate) async fn dial(
        &self,
        address: &Address,
        pushes: Option<Pushes>,
        deadline: Instant,
    ) -> Result<Connection, Trouble> {
        let until = deadline.min(Instant::now() + self.limits.connect);
        let running = if self.tls.is_some() {
            "no connection in time; is the server running, and does it speak TLS on this port?"
        } else {
            "no connection in time; is the server running?"
        };
        timeout_at(until, self.connect(address, pushes))
            .await
            .unwrap_or_else(|_| Err(Trouble::Unsent(running.to_owned())))
    }

    async fn connect(&self, address: &Address, pushes: Option<Pushes>) -> Result<Connection, Trouble> {
        let mut sign_in = self.sign_in.clone();
        let mut config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        if let Some(pushes) = pushes {
            sign_in = sign_in.set_protocol(ProtocolVersion::RESP3);
            config = config.set_push_sender(pushes);
        }
        let made = MultiplexedConnection::new_with_config(&sign_in, self.stream(address).await?, config).await;
        let (calls, driver) = made.map_err(|error| self.turned_away(&error))?;
        let mut connection = Connection { calls, driver: Arc::new(Driver(tokio::spawn(driver))) };
        let mut name = redis::cmd("CLIENT");
        name.arg("SETNAME").arg(&self.name);
        // A name is a convenience; a user who may not set one connects without.
        match connection.send(&name).await {
            Ok(Value::ServerError(error)) if error.code() == "NOAUTH" => Err(Trouble::of_server(&error)),
            Ok(_) => Ok(connection),
            Err(error) => Err(self.turned_away(&error)),
        }
    }

    /// A server that ends the connection before the first answer often could not make sense of it.
    fn turned_away(&self, error: &RedisError) -> Trouble {
        match (&self.tls, Trouble::of(error, false)) {
            (Some(_), Trouble::Unsent(problem)) if problem.contains("alert") => {
                Trouble::Refused(format!("{problem}; check redis.tls_cert and redis.tls_key"))
            }
            (None, Trouble::Unsent(_)) if error.is_connection_dropped() => Trouble::Unsent(
                "the server ended the connection at once; if it speaks TLS on this port, write rediss://".to_owned(),
            ),
            (_, trouble) => trouble,
        }
    }

    async fn stream(&self, address: &Address) -> Result<Box<dyn Stream>, Trouble> {
        let (host, port) = match address {
            Address::Unix(path) => {
                return Ok(Box::new(UnixStream::connect(path).await.map_err(|error| refused(&error))?));
            }
            Address::Tcp { host, port } => (host.as_str(), *port),
        };
        let socket = TcpStream::connect((host, port)).await.map_err(|error| refused(&error))?;
        socket.set_nodelay(true).map_err(|error| refused(&error))?;
        let Some(tls) = &self.tls else {
            return Ok(Box::new(socket));
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Trouble::Refused(format!("{host} is no name that a certificate can have")))?;
        match TlsConnector::from(Arc::clone(tls)).connect(name, socket).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(distrust(&error)),
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
