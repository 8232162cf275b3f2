//! A listener. It accepts connections, within the limits, until the shutdown begins.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::connection;
use super::connection_limit::{ConnectionLimit, ConnectionSlot, LimitReached};
use super::connection_state::ConnectionState;
use super::role::{Role, Shutdown};
use tenure_tower::request::peer::{Connection, is_trusted};

/// The backlog: connections that wait in the kernel until they are accepted.
pub(super) const BACKLOG: u32 = 4096;
/// How long to wait before accepting again where the process has no descriptors left.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

pub(super) struct Listener {
    pub(super) listener: TcpListener,
    pub(super) limit: Arc<ConnectionLimit>,
    pub(super) tls: Option<tokio_rustls::TlsAcceptor>,
    pub(super) shutdown: Shutdown,
}

impl Listener {
    pub(super) async fn accept(self, role: Role) {
        loop {
            let next = async {
                let (stream, remote) = self.listener.accept().await?;
                let state = self.state(remote, &role);
                Ok((stream, self.limit.acquire(&state, counts_per_address(&state, &role)).await, state))
            };
            let accepted = tokio::select! {
                biased;
                () = self.shutdown.graceful.cancelled() => return self.accept_pending(&role),
                accepted = next => accepted,
            };
            match accepted {
                Ok((stream, Ok(slot), state)) => self.spawn(stream, state, slot, role.clone()),
                Ok((_, Err(_), state)) => warn_address_limit(&state),
                Err(error) if is_connection_error(&error) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections: trying again");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            }
        }
    }

    /// Accepts the connections that wait in the kernel. Their clients are already connected, and closing the listener
    /// would reset them.
    fn accept_pending(&self, role: &Role) {
        // tokio's listener asks the system only after it was notified of a connection; this one always does.
        let Ok(listener) = self.listener.as_fd().try_clone_to_owned().map(std::net::TcpListener::from) else { return };
        for _ in 0..BACKLOG {
            match listener.accept() {
                Ok((stream, remote)) => {
                    let state = self.state(remote, role);
                    let slot = match self.limit.try_acquire(&state, counts_per_address(&state, role)) {
                        Ok(slot) => slot,
                        Err(LimitReached::Address) => continue,
                        Err(LimitReached::Total) => return,
                    };
                    let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
                    if let Ok(stream) = stream {
                        self.spawn(stream, state, slot, role.clone());
                    }
                }
                Err(error) if is_connection_error(&error) => {}
                Err(_) => return,
            }
        }
    }

    fn state(&self, remote: SocketAddr, role: &Role) -> Arc<ConnectionState> {
        ConnectionState::new(Connection::new(remote, self.tls.is_some()), matches!(role, Role::Operators(..)))
    }

    fn spawn(&self, stream: TcpStream, state: Arc<ConnectionState>, slot: ConnectionSlot, role: Role) {
        let (tls, shutdown) = (self.tls.clone(), self.shutdown.clone());
        self.shutdown.tasks.spawn(async move {
            // Without it, small responses wait for the client's acknowledgements.
            let _ = stream.set_nodelay(true);
            match tls {
                None => connection::serve_plain(stream, state, role, shutdown).await,
                Some(tls) => connection::serve_tls(tls, stream, state, role, shutdown).await,
            }
            drop(slot);
        });
    }
}

/// Whether the limit of one address applies to a connection. It does not apply to trusted proxies, which serve many
/// clients, nor to clients on this machine, which could exhaust it by other means.
fn counts_per_address(state: &ConnectionState, role: &Role) -> bool {
    let remote = state.remote();
    !remote.is_loopback() && !is_trusted(remote, &role.gateway().enforcer().config().trusted_proxies)
}

/// Logs now and then that an address has too many connections.
fn warn_address_limit(state: &ConnectionState) {
    static WARNED: AtomicU64 = AtomicU64::new(0);
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let minute = START.get_or_init(Instant::now).elapsed().as_secs() / 60 + 1;
    if WARNED.swap(minute, Ordering::Relaxed) != minute {
        tracing::warn!(
            address = %state.remote(),
            "refused a connection: its address has as many as gateway.max_connections_per_address allows; if it is a \
             proxy, add it to gateway.trusted_proxies"
        );
    }
}

/// Whether a failure to accept concerns only one connection.
fn is_connection_error(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
