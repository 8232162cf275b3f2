//! WebSockets: the handshake with the upstream, then unchanged bytes both ways, as long as the session is active.

pub(crate) mod close;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod message;
pub(crate) mod tunnel;

use std::sync::Arc;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use tenure_tower::{CloseReason, ConnectionGuard, Problem};

use crate::gateway::Gateway;
use crate::metrics::Metrics;

use handshake::{HandshakeOutcome, handshake};
use tunnel::{Tunnel, TunnelEnd};

/// The result of a handshake.
pub(crate) enum WebSocketOutcome {
    /// The response that lets the client switch. What follows is relayed.
    Switched(Response<Body>),
    /// The upstream's own response, for the client. It is held to the session by the guard.
    Declined(Response<Incoming>, Option<ConnectionGuard>),
}

/// Opens the WebSocket that `request` asks for on `io`, a connection to the upstream. It is relayed until either side
/// is gone or the guard's session ends. The request has the header fields for the upstream; those that belong to one
/// connection are set again.
///
/// # Errors
/// [`Problem`] if the upstream does not answer or answers invalidly, or if the session ended meanwhile.
pub(crate) async fn open<I>(
    gateway: &Gateway,
    request: Request<Body>,
    io: I,
    guard: ConnectionGuard,
) -> Result<WebSocketOutcome, Problem>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let outcome = tokio::select! {
        biased;
        reason = guard.closed() => return Err(close_problem(reason)),
        outcome = handshake(request, io) => outcome?,
    };
    let (switching, response) = match outcome {
        HandshakeOutcome::Declined(response) => return Ok(WebSocketOutcome::Declined(response, Some(guard))),
        HandshakeOutcome::Switching(switching, response) => (switching, response),
    };
    let open = OpenWebSocket::new(gateway);
    gateway.enforcer().tasks().spawn(async move {
        let _open = open;
        match switching.finish().await {
            Ok((client, upstream)) => run(Tunnel::new(client, upstream), &guard).await,
            Err(problem) => tracing::debug!(?problem, "a WebSocket was given up before it began"),
        }
    });
    Ok(WebSocketOutcome::Switched(response))
}

/// Returns the problem for a client whose connection must end before it began.
fn close_problem(reason: CloseReason) -> Problem {
    match reason {
        CloseReason::Ended(refusal) => refusal.into(),
        CloseReason::StoreLost | CloseReason::Shutdown => Problem::Store(reason.reason().to_owned()),
    }
}

/// Counts a WebSocket while it is open.
pub(crate) struct OpenWebSocket(Arc<Metrics>);

impl OpenWebSocket {
    pub(crate) fn new(gateway: &Gateway) -> Self {
        gateway.metrics().websocket_opened();
        Self(Arc::clone(gateway.metrics()))
    }
}

impl Drop for OpenWebSocket {
    fn drop(&mut self) {
        self.0.websocket_closed();
    }
}

/// Relays a WebSocket, and closes it in the way that its end requires.
pub(crate) async fn run(mut tunnel: Tunnel, guard: &ConnectionGuard) {
    let end = tunnel.relay(Some(guard), guard.closed()).await;
    finish(tunnel, end).await;
}

/// Relays a WebSocket without a session, until the gateway stops.
pub(crate) async fn run_unguarded(mut tunnel: Tunnel, closing: &CancellationToken) {
    let stops = async {
        closing.cancelled().await;
        CloseReason::Shutdown
    };
    let end = tunnel.relay(None, stops).await;
    finish(tunnel, end).await;
}

async fn finish(tunnel: Tunnel, end: TunnelEnd) {
    // Boxed, so that an idle connection does not hold the memory that closing needs.
    match end {
        TunnelEnd::Closed(reason) => Box::pin(close::close(tunnel, None, reason.close_code(), reason.reason())).await,
        TunnelEnd::InvalidFrame => Box::pin(close::close(tunnel, None, 1002, "a frame of impossible length")).await,
        TunnelEnd::Finished => {}
    }
}

#[cfg(test)]
pub(crate) mod tests;
