//! The server: its listeners accept connections, limit their number and time, and let requests finish at shutdown.

mod connection;
mod connection_limit;
mod connection_state;
mod cors;
mod descriptors;
mod lingering_close;
mod listener;
pub(crate) mod request_check;
mod role;
pub(crate) mod router;
pub(crate) mod smuggling_guard;
pub(crate) mod tls;
mod write_timeout;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::Gateway;

use connection_limit::ConnectionLimit;
use descriptors::DescriptorShares;
use listener::{BACKLOG, Listener};
use role::{Role, Shutdown};
use router::ClientRouter;
use tls::{Certificate, TlsError};

pub use descriptors::raise_descriptor_limit;

/// The reason why the gateway cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The gateway cannot listen on an address.
    #[error("could not listen on {address} ({key}): {}", bind_advice(.source))]
    Bind {
        /// The setting that names the address.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
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

/// A gateway that listens. The system accepts connections, and [`Server::run`] answers them.
pub struct Server {
    gateway: Arc<Gateway>,
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
    /// Listens on the addresses of the gateway's options, and reads the certificate and key that they name. Port 0 is
    /// any free port: see [`Server::client_addr`]. Later changes of these options have no effect.
    ///
    /// # Errors
    /// [`ServeError`] that names the setting and what to do.
    pub async fn bind(gateway: Arc<Gateway>) -> Result<Self, ServeError> {
        let options = gateway.options();
        let certificate = options.tls.as_ref().map(Certificate::load).transpose()?;
        let clients = listen("gateway.listen", options.listen)?;
        let operators = listen("gateway.admin_listen", options.admin_listen)?;
        Ok(Self { gateway, clients, operators, certificate })
    }

    /// The address at which clients connect.
    ///
    /// # Panics
    /// If the system does not know the address of its own listening socket.
    #[must_use]
    pub fn client_addr(&self) -> SocketAddr {
        self.clients.local_addr().expect("a listening socket has an address")
    }

    /// The address at which operators connect.
    ///
    /// # Panics
    /// As [`Server::client_addr`].
    #[must_use]
    pub fn admin_addr(&self) -> SocketAddr {
        self.operators.local_addr().expect("a listening socket has an address")
    }

    /// Answers requests until `stop` is ready. Then it accepts the connections that wait in the kernel and no more,
    /// lets requests in progress finish within [`Limits::drain`](crate::Limits::drain), closes idle connections and
    /// WebSockets (with 1001), and writes the recorded activity.
    ///
    /// # Errors
    /// None at present: an error of one connection does not end the server.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { gateway, clients, operators, certificate } = self;
        let limits = gateway.options().limits;
        let shutdown = Shutdown {
            graceful: gateway.closing().clone(),
            forced: CancellationToken::new(),
            tasks: gateway.enforcer().tasks().clone(),
            limits,
            partial_heads: Arc::default(),
        };
        let shares = DescriptorShares::now(limits.connections, gateway.options().upstream.is_some());
        let background = TaskTracker::new();
        let forced = shutdown.forced.clone();
        background.spawn({
            let enforcer = gateway.enforcer().clone();
            async move { enforcer.run_flush_loop(forced.cancelled()).await }
        });
        if let Some(certificate) = &certificate {
            background.spawn(certificate.clone().reload_on_change(shutdown.forced.clone()));
        }
        let router = ClientRouter::new(gateway.clone(), shares.upstream);
        let admin_tls = gateway.options().admin_speaks_tls();
        let tls = certificate.map(|certificate| certificate.acceptor());
        let admin_tls = tls.clone().filter(|_| admin_tls);
        let limit = ConnectionLimit::new(shares.clients, limits.per_address);
        let clients = Listener { listener: clients, limit, tls, shutdown: shutdown.clone() };
        let clients = background.spawn(clients.accept(Role::Clients(router)));
        // One address must not have all connections.
        let limit = ConnectionLimit::new(shares.operators, limits.per_address.min(shares.operators / 2));
        let operators = Listener { listener: operators, limit, tls: admin_tls, shutdown: shutdown.clone() };
        let operators =
            background.spawn(operators.accept(Role::Operators(gateway.clone(), crate::admin::router(gateway.clone()))));

        stop.await;
        tracing::info!("shutting down: requests in progress may finish");
        shutdown.graceful.cancel();
        gateway.enforcer().connections().shut_down();
        // The listeners add connections until they have ended.
        let _ = tokio::join!(clients, operators);
        shutdown.tasks.close();
        if tokio::time::timeout(limits.drain, shutdown.tasks.wait()).await.is_err() {
            tracing::warn!(connections = shutdown.tasks.len(), "cutting connections that did not end in time");
        }
        shutdown.forced.cancel();
        background.close();
        shutdown.tasks.wait().await;
        background.wait().await;
        Ok(())
    }
}

fn listen(key: &'static str, address: SocketAddr) -> Result<TcpListener, ServeError> {
    let fail = |source| ServeError::Bind { key, address, source };
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(fail)?;
    socket.set_reuseaddr(true).map_err(fail)?;
    // Connections inherit it, so that a peer that vanished is noticed in the end.
    socket.set_keepalive(true).map_err(fail)?;
    socket.bind(address).map_err(fail)?;
    socket.listen(BACKLOG).map_err(fail)
}
