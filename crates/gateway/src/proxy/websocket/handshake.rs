//! The handshake of a WebSocket with the upstream.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::tunnel::UpgradedStream;
use crate::proxy::upstream::MAX_RESPONSE_FIELDS;
use tenure_tower::Problem;
use tenure_tower::request::list::{list_contains, split};

/// The gateway's own subprotocol. Browsers require that one of theirs is accepted, and may have none but the one that
/// carries the token. It is not passed to the upstream.
const OWN_PROTOCOL: &str = "tenure";
/// How long the upstream may take to answer a handshake.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long either side may take to switch after the response.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(10);

/// What the upstream answered.
pub(crate) enum HandshakeOutcome {
    Switching(PendingSwitch, Response<Body>),
    Declined(Response<Incoming>),
}

/// A connection whose two sides are about to switch to WebSocket frames.
pub(crate) struct PendingSwitch {
    client: OnUpgrade,
    upstream: OnUpgrade,
}

impl PendingSwitch {
    /// Waits for both sides to switch. The client's side switches once it has got its response.
    pub(crate) async fn finish(self) -> Result<(UpgradedStream, UpgradedStream), Problem> {
        let late = |_| Problem::GatewayTimeout("the connection did not switch to WebSocket in time".to_owned());
        let both = async { tokio::try_join!(self.client, self.upstream) };
        let (client, upstream) = timeout(SWITCH_TIMEOUT, both).await.map_err(late)?.map_err(handshake_failed)?;
        Ok((TokioIo::new(client), TokioIo::new(upstream)))
    }
}

fn handshake_failed(error: hyper::Error) -> Problem {
    tracing::warn!(%error, "the upstream's WebSocket handshake failed");
    Problem::BadGateway("the upstream's WebSocket handshake failed".to_owned())
}

/// Sends the handshake to the upstream and checks its answer.
pub(crate) async fn handshake<I>(mut request: Request<Body>, io: I) -> Result<HandshakeOutcome, Problem>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let client = hyper::upgrade::on(&mut request);
    let mut builder = hyper::client::conn::http1::Builder::new();
    let handshake = builder.max_headers(MAX_RESPONSE_FIELDS).handshake(TokioIo::new(io));
    let (mut sender, connection) = handshake.await.map_err(handshake_failed)?;
    tokio::spawn(async move {
        // An error reaches the caller by the response that it waits for.
        let _ = connection.with_upgrades().await;
    });
    let (head, own_protocol) = upstream_request(request);
    let late = |_| Problem::GatewayTimeout("the upstream did not answer the WebSocket handshake in time".to_owned());
    let answer = timeout(ANSWER_TIMEOUT, sender.send_request(head)).await.map_err(late)?;
    let mut answer = answer.map_err(handshake_failed)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(HandshakeOutcome::Declined(answer));
    }
    if !list_contains(answer.headers(), &UPGRADE, "websocket") || !answer.headers().contains_key(SEC_WEBSOCKET_ACCEPT) {
        tracing::warn!("the upstream switched to a protocol other than WebSocket");
        return Err(Problem::BadGateway("the upstream switched to a protocol other than WebSocket".to_owned()));
    }
    let upstream = hyper::upgrade::on(&mut answer);
    let mut headers = std::mem::take(answer.headers_mut());
    if own_protocol && !headers.contains_key(SEC_WEBSOCKET_PROTOCOL) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(OWN_PROTOCOL));
    }
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = headers;
    Ok(HandshakeOutcome::Switching(PendingSwitch { client, upstream }, response))
}

/// Prepares the handshake for the upstream. Also returns whether the client offered the gateway's own subprotocol.
fn upstream_request(request: Request<Body>) -> (Request<Empty<Bytes>>, bool) {
    let (mut head, _) = request.into_parts();
    let own = remove_own_protocol(&mut head.headers);
    head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    head.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    // A body would be read as the first frames.
    head.headers.remove(http::header::CONTENT_LENGTH);
    head.headers.remove(http::header::TRANSFER_ENCODING);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let mut upstream = Request::new(Empty::new());
    *upstream.headers_mut() = head.headers;
    // A request to the upstream has its path only.
    *upstream.uri_mut() = path.parse().unwrap_or_default();
    (upstream, own)
}

fn remove_own_protocol(headers: &mut HeaderMap) -> bool {
    if !list_contains(headers, &SEC_WEBSOCKET_PROTOCOL, OWN_PROTOCOL) {
        return false;
    }
    let left: Vec<&[u8]> = headers
        .get_all(SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .flat_map(|value| split(value.as_bytes(), b','))
        .map(<[u8]>::trim_ascii)
        .filter(|name| !name.eq_ignore_ascii_case(OWN_PROTOCOL.as_bytes()))
        .collect();
    match HeaderValue::from_bytes(&left.join(&b", "[..])) {
        Ok(left) if !left.is_empty() => headers.insert(SEC_WEBSOCKET_PROTOCOL, left),
        _ => headers.remove(SEC_WEBSOCKET_PROTOCOL),
    };
    true
}

#[cfg(test)]
mod tests;
