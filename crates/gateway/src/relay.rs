//! WebSockets: the handshake with the upstream, then bytes as they are, both ways, for as long as the session holds.

pub(crate) mod bridge;
pub(crate) mod ending;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use crate::credential::split;
use crate::enforce::Gate;
use crate::live::{Cut, Guard};
use crate::problem::Problem;
use crate::upstream::FIELDS;

use bridge::{Bridge, Wire};

/// A subprotocol for clients that must be answered with one (browsers) and have none but their token's: it is the
/// gateway's own, and goes no further.
const OWN_PROTOCOL: &str = "tenure";
/// How long the upstream may take to answer a handshake.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How long either side may take to switch once the answer is given.
const SWITCH_LIMIT: Duration = Duration::from_secs(10);

/// What came of a handshake.
pub(crate) enum Opened {
    /// The answer that lets the client switch; what comes after is relayed.
    Switched(Response<Body>),
    /// The upstream answers something else, for the client to see, for as long as the guard holds.
    Declined(Response<Incoming>, Option<Guard>),
}

/// Whether a request asks for a WebSocket. HTTP/1.0 cannot (RFC 9110 section 7.8), and HTTP/2 in this way neither.
pub(crate) fn is_upgrade<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && lists(headers, &CONNECTION, "upgrade")
        && lists(headers, &UPGRADE, "websocket")
        && headers.contains_key(SEC_WEBSOCKET_KEY)
        && headers.contains_key(SEC_WEBSOCKET_VERSION)
}

/// Whether a header lists this word, whatever else stands there.
pub(crate) fn lists(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let items = headers.get_all(name).iter().flat_map(|value| split(value.as_bytes(), b','));
    items.map(<[u8]>::trim_ascii).any(|item| item.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// Opens the WebSocket that `request` asks for on `io`, a connection to the upstream, and relays it until either side
/// is gone or the guard's session no longer holds. The request's headers are those that the upstream is to see; what
/// a proxy removes as belonging to one connection is set again.
///
/// # Errors
/// [`Problem`]: the upstream does not answer or talks nonsense, or the session ended meanwhile.
pub(crate) async fn open<I>(gate: &Arc<Gate>, request: Request<Body>, io: I, guard: Guard) -> Result<Opened, Problem>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let shaken = tokio::select! {
        biased;
        cut = guard.ended() => return Err(problem(cut)),
        shaken = shake_hands(request, io) => shaken?,
    };
    let (switching, response) = match shaken {
        Shaken::Declined(response) => return Ok(Opened::Declined(response, Some(guard))),
        Shaken::Switching(switching, response) => (switching, response),
    };
    let open = Open::new(gate);
    gate.tasks().spawn(async move {
        let _open = open;
        match switching.finish().await {
            Ok((client, upstream)) => bridge::run(Bridge::new(client, upstream), &guard).await,
            Err(problem) => tracing::debug!(?problem, "a WebSocket was given up before it began"),
        }
    });
    Ok(Opened::Switched(response))
}

/// What is told to a client whose connection must end before it began.
fn problem(cut: Cut) -> Problem {
    match cut {
        Cut::Ended(refusal) => refusal.into(),
        Cut::StoreLost | Cut::Shutdown => Problem::Store(cut.reason().to_owned()),
    }
}

/// Counts a WebSocket while it is open.
pub(crate) struct Open(Arc<Gate>);

impl Open {
    pub(crate) fn new(gate: &Arc<Gate>) -> Self {
        gate.metrics().opened();
        Self(Arc::clone(gate))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.metrics().closed();
    }
}

/// What the upstream answered.
pub(crate) enum Shaken {
    Switching(Switching, Response<Body>),
    Declined(Response<Incoming>),
}

/// A connection of which both sides are about to switch to WebSocket frames.
pub(crate) struct Switching {
    client: OnUpgrade,
    upstream: OnUpgrade,
}

impl Switching {
    /// Waits for both sides. The client's switches once it has got its answer.
    pub(crate) async fn finish(self) -> Result<(Wire, Wire), Problem> {
        let late = |_| Problem::GatewayTimeout("the connection did not switch to WebSocket in time".to_owned());
        let both = async { tokio::try_join!(self.client, self.upstream) };
        let (client, upstream) = timeout(SWITCH_LIMIT, both).await.map_err(late)?.map_err(nonsense)?;
        Ok((TokioIo::new(client), TokioIo::new(upstream)))
    }
}

fn nonsense(error: hyper::Error) -> Problem {
    tracing::warn!(%error, "the upstream's WebSocket handshake failed");
    Problem::BadGateway("the upstream's WebSocket handshake failed".to_owned())
}

/// Sends the handshake to the upstream and checks its answer.
pub(crate) async fn shake_hands<I>(mut request: Request<Body>, io: I) -> Result<Shaken, Problem>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let client = hyper::upgrade::on(&mut request);
    let mut builder = hyper::client::conn::http1::Builder::new();
    let handshake = builder.max_headers(FIELDS).handshake(TokioIo::new(io));
    let (mut sender, connection) = handshake.await.map_err(nonsense)?;
    tokio::spawn(async move {
        // What goes wrong is told to whoever waits for the answer.
        let _ = connection.with_upgrades().await;
    });
    let (head, own_protocol) = upstream_head(request);
    let late = |_| Problem::GatewayTimeout("the upstream did not answer the WebSocket handshake in time".to_owned());
    let answer = timeout(ANSWER_LIMIT, sender.send_request(head)).await.map_err(late)?;
    let mut answer = answer.map_err(nonsense)?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Shaken::Declined(answer));
    }
    if !lists(answer.headers(), &UPGRADE, "websocket") || !answer.headers().contains_key(SEC_WEBSOCKET_ACCEPT) {
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
    Ok(Shaken::Switching(Switching { client, upstream }, response))
}

/// The handshake as the upstream sees it, and whether the client offered the gateway's own subprotocol.
fn upstream_head(request: Request<Body>) -> (Request<Empty<Bytes>>, bool) {
    let (mut head, _) = request.into_parts();
    let own = take_own_protocol(&mut head.headers);
    head.headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    head.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    // A body would be the first frames of another request.
    head.headers.remove(http::header::CONTENT_LENGTH);
    head.headers.remove(http::header::TRANSFER_ENCODING);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let mut upstream = Request::new(Empty::new());
    *upstream.headers_mut() = head.headers;
    // What was the path of a request is one again.
    *upstream.uri_mut() = path.parse().unwrap_or_default();
    (upstream, own)
}

fn take_own_protocol(headers: &mut HeaderMap) -> bool {
    if !lists(headers, &SEC_WEBSOCKET_PROTOCOL, OWN_PROTOCOL) {
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
pub(crate) mod tests;
