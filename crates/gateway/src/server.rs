//! The listeners: connections accepted, bounded in number and time, and let end their work at shutdown.

mod closing;
mod descriptors;
pub(crate) mod heads;
mod room;
mod serve;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::enforce::Gate;
use crate::front::Front;
use crate::options::Limits;
use crate::peer::{Connection, is_trusted};
use crate::tls::{Certificate, TlsError};

use descriptors::Shares;
use room::{NoRoom, Place, Room};
use serve::Line;

pub use descriptors::raise_descriptor_limit;

/// Connections that wait in the kernel until they are accepted.
const BACKLOG: u32 = 4096;
/// How long a connection on which nothing is asked stays open at shutdown: what its client sends in this moment is answered.
const LINGER: Duration = Duration::from_millis(100);
/// How long to wait before accepting again where the process has no descriptors left.
const BREATHER: Duration = Duration::from_millis(100);

/// Why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// An address cannot be listened on.
    #[error("could not listen on {address} ({key}): {}", bind_advice(.source))]
    Bind {
        /// The setting that names the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

fn bind_advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "something else listens there: stop it, or choose another port".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied: ports below 1024 need root; use a higher one".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address: choose one of its own".to_owned(),
        _ => error.to_string(),
    }
}

/// A gateway that listens: connections are accepted by the system, and answered once [`Server::run`] is called.
pub struct Server {
    gate: Arc<Gate>,
    clients: TcpListener,
    operators: TcpListener,
    certificate: Option<Certificate>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("clients", &self.clients).field("operators", &self.operators).finish()
    }
}

impl Server {
    /// Listens on the addresses of the gate's options, and reads certificate and key where they name some. Port 0 is
    /// any free port: ask [`Server::client_addr`]. Later changes of these options have no effect.
    ///
    /// # Errors
    /// [`ServeError`] that names the setting and what to do.
    pub async fn bind(gate: Arc<Gate>) -> Result<Self, ServeError> {
        let options = gate.options();
        let certificate = options.tls.as_ref().map(Certificate::load).transpose()?;
        let clients = listen("gateway.listen", options.listen)?;
        let operators = listen("gateway.admin_listen", options.admin_listen)?;
        Ok(Self { gate, clients, operators, certificate })
    }

    /// Where clients connect.
    ///
    /// # Panics
    /// Where the system does not know the address of its own listening socket.
    #[must_use]
    pub fn client_addr(&self) -> SocketAddr {
        self.clients.local_addr().expect("a listening socket has an address")
    }

    /// Where operators connect.
    ///
    /// # Panics
    /// As [`Server::client_addr`].
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.operators.local_addr().expect("a listening socket has an address")
    }

    /// Answers until `shutdown` is ready. Then takes the connections that wait to be accepted and no more, lets requests
    /// under way end within [`Limits::drain`], closes connections on which nothing is asked and WebSockets (with 1001),
    /// and writes the activity noted so far.
    ///
    /// # Errors
    /// None at present: what befalls one connection does not end the server.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { gate, clients, operators, certificate } = self;
        let limits = gate.options().limits;
        let ends = Ends {
            soft: gate.closing().clone(),
            hard: CancellationToken::new(),
            tasks: gate.tasks().clone(),
            limits,
            half_heads: Arc::default(),
        };
        let shares = Shares::now(limits.connections, gate.options().upstream.is_some());
        let background = TaskTracker::new();
        let kept = ends.hard.clone();
        background.spawn({
            let gate = gate.clone();
            async move { gate.keep(kept.cancelled()).await }
        });
        if let Some(certificate) = &certificate {
            background.spawn(certificate.clone().follow(ends.hard.clone()));
        }
        let front = Front::new(gate.clone(), shares.upstream);
        let admin_tls = gate.options().admin_speaks_tls();
        let tls = certificate.map(|certificate| certificate.acceptor());
        let admin_tls = tls.clone().filter(|_| admin_tls);
        let room = Room::new(shares.clients, limits.per_address);
        let clients = Listener { listener: clients, room, tls, ends: ends.clone() };
        let clients = background.spawn(clients.accept(Site::Clients(front)));
        // One address must not have all.
        let room = Room::new(shares.operators, limits.per_address.min(shares.operators / 2));
        let operators = Listener { listener: operators, room, tls: admin_tls, ends: ends.clone() };
        let operators =
            background.spawn(operators.accept(Site::Operators(gate.clone(), crate::admin::router(gate.clone()))));

        shutdown.await;
        tracing::info!("shutting down: requests under way may end");
        ends.soft.cancel();
        gate.live().shut_down();
        // They add connections to the last.
        let _ = tokio::join!(clients, operators);
        ends.tasks.close();
        if tokio::time::timeout(limits.drain, ends.tasks.wait()).await.is_err() {
            tracing::warn!(connections = ends.tasks.len(), "cutting connections that did not end in time");
        }
        ends.hard.cancel();
        background.close();
        ends.tasks.wait().await;
        background.wait().await;
        Ok(())
    }
}

fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    let fail = |source| ServeError::Bind { key, address, source };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(fail)?;
    socket.set_reuseaddr(true).map_err(fail)?;
    // Connections inherit it: a peer that is gone without a word is noticed at last.
    socket.set_keepalive(true).map_err(fail)?;
    socket.bind(address).map_err(fail)?;
    socket.listen(BACKLOG).map_err(fail)
}

/// How connections are told to end.
#[derive(Clone)]
struct Ends {
    /// End after the request under way.
    soft: CancellationToken,
    /// End now.
    hard: CancellationToken,
    /// Every connection, also those that became WebSockets.
    tasks: TaskTracker,
    limits: Limits,
    /// Bytes of heads that have come in part, on all connections.
    half_heads: Arc<AtomicUsize>,
}

/// Whom a listener is for.
#[derive(Clone)]
enum Site {
    Clients(Arc<Front>),
    Operators(Arc<Gate>, Router),
}

impl Site {
    fn gate(&self) -> &Gate {
        match self {
            Self::Clients(front) => front.gate(),
            Self::Operators(gate, _) => gate,
        }
    }
}

struct Listener {
    listener: TcpListener,
    room: Arc<Room>,
    tls: Option<tokio_rustls::TlsAcceptor>,
    ends: Ends,
}

impl Listener {
    async fn accept(self, site: Site) {
        loop {
            let next = async {
                let (stream, remote) = self.listener.accept().await?;
                let line = self.line(remote, &site);
                Ok((stream, self.room.enter(&line, counts(&line, &site)).await, line))
            };
            let accepted = tokio::select! {
                biased;
                () = self.ends.soft.cancelled() => return self.accept_rest(&site),
                accepted = next => accepted,
            };
            match accepted {
                Ok((stream, Ok(place), line)) => self.spawn(stream, line, place, site.clone()),
                Ok((_, Err(_), line)) => too_many_of(&line),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections: trying again");
                    tokio::time::sleep(BREATHER).await;
                }
            }
        }
    }

    /// Takes what waits in the kernel: to its clients it is connected, and closing the listener would reset it.
    fn accept_rest(&self, site: &Site) {
        // tokio's own listener asks the system only once it has been told of a connection: this one always does.
        let Ok(listener) = self.listener.as_fd().try_clone_to_owned().map(std::net::TcpListener::from) else { return };
        for _ in 0..BACKLOG {
            match listener.accept() {
                Ok((stream, remote)) => {
                    let line = self.line(remote, site);
                    let place = match self.room.try_enter(&line, counts(&line, site)) {
                        Ok(place) => place,
                        Err(NoRoom::Address) => continue,
                        Err(NoRoom::Full) => return,
                    };
                    let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    if let Ok(stream) = stream {
                        self.spawn(stream, line, place, site.clone());
                    }
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn line(&self, remote: SocketAddr, site: &Site) -> Arc<Line> {
        Line::new(Connection::new(remote, self.tls.is_some()), matches!(site, Site::Operators(..)))
    }

    fn spawn(&self, stream: TcpStream, line: Arc<Line>, place: Place, site: Site) {
        let (tls, ends) = (self.tls.clone(), self.ends.clone());
        self.ends.tasks.spawn(async move {
            // Without it, small answers wait for the client's acknowledgements.
            let _ = stream.set_nodelay(true);
            match tls {
                None => serve::plain(stream, line, site, ends).await,
                Some(tls) => serve::tls(tls, stream, line, site, ends).await,
            }
            drop(place);
        });
    }
}

/// Whether the connections of a connection's address are counted: behind a trusted proxy are many, and whoever is on
/// this machine could use it up by other means.
fn counts(line: &Line, site: &Site) -> bool {
    let remote = line.remote();
    !remote.is_loopback() && !is_trusted(remote, &site.gate().options().trusted_proxies)
}

/// Says that an address has too many connections, now and then.
fn too_many_of(line: &Line) {
    static SAID: AtomicU64 = AtomicU64::new(0);
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let minute = BEGUN.get_or_init(Instant::now).elapsed().as_secs() / 60 + 1;
    if SAID.swap(minute, Ordering::Relaxed) != minute {
        tracing::warn!(
            address = %line.remote(),
            "refused a connection: its address has as many as gateway.max_connections_per_address allows; if it is a \
             proxy, add it to gateway.trusted_proxies"
        );
    }
}

/// Whether a failure to accept is about that connection only.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
