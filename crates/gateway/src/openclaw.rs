//! The OpenClaw profile: clients send their token not in a header but in the first WebSocket frame.
//!
//! The upgrade is let through without a token, and so is what the upstream sends then (its challenge); but nothing of
//! the client's, until its first message has shown a token that holds. That message goes on unchanged, since the client
//! has signed over it: so this upstream sees the token, and must be reachable through the gateway only.

mod connect;

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::header::{HeaderMap, SEC_WEBSOCKET_EXTENSIONS, USER_AGENT};
use http::{HeaderValue, Request};
use tenure_domain::{ClientField, ClientInfo, Refusal, Subject, Token};
use tenure_service::{Usage, Verified};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::credential::Credential;
use crate::enforce::Gate;
use crate::messages::{Got, Messages, NoMessage, text_frame};
use crate::metrics::Outcome;
use crate::options::{Options, Profile};
use crate::peer::Peer;
use crate::problem::{Problem, Refused};
use crate::relay::bridge::{self, Bridge, Event, Listener};
use crate::relay::{Open, Opened, Shaken, Switching, ending, is_upgrade, shake_hands};

use connect::Connect;

/// The largest first message, with everything that comes before and along with it.
const HELD_MAX: usize = 64 * 1024;
/// How long a client may take to send it.
const HOLD_LIMIT: Duration = Duration::from_secs(15);
/// So many connections without a verified token at once; more are told to come again.
const WAITING_MAX: usize = 1024;
/// So much of the upstream's answer is looked at: what is looked for stands at its beginning.
const ANSWER_ROOM: usize = 8 * 1024;

/// Connections that have not shown a token yet.
static WAITING: Semaphore = Semaphore::const_new(WAITING_MAX);

/// Close codes of RFC 6455 section 7.4.1.
const PROTOCOL_ERROR: u16 = 1002;
const POLICY: u16 = 1008;
const TOO_LARGE: u16 = 1009;
const TRY_AGAIN: u16 = 1013;

/// Whose the connections are that show their token only later: the upstream takes the user from the upgrade.
fn presumed() -> Subject {
    Subject::default()
}

/// Whether a request is for a WebSocket whose client shows its token only later: one without any, under the profile.
pub(crate) fn shows_later<B>(request: &Request<B>, options: &Options) -> bool {
    matches!(options.profile, Some(Profile::OpenClaw { .. }))
        && is_upgrade(request.method(), request.headers())
        && matches!(Credential::of(request.headers()), Ok(None))
}

/// Opens a WebSocket whose client has yet to show its token. `request` is as for [`crate::relay::open`], without a
/// user.
///
/// # Errors
/// [`Problem`]: too many such connections, or the upstream does not answer or talks nonsense.
pub(crate) async fn open<I>(gate: &Arc<Gate>, peer: &Peer, mut request: Request<Body>, io: I) -> Result<Opened, Problem>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Ok(waiting) = WAITING.try_acquire() else {
        return Err(Problem::TooMany(1));
    };
    let seen = seen(peer, request.headers());
    let headers = request.headers_mut();
    // A frame that is compressed could not be read.
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
    if let Ok(user) = HeaderValue::try_from(presumed().as_str()) {
        headers.insert(gate.options().user_header.clone(), user);
    }
    let (switching, response) = match shake_hands(request, io).await? {
        Shaken::Declined(response) => return Ok(Opened::Declined(response, None)),
        Shaken::Switching(switching, response) => (switching, response),
    };
    if response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(Problem::BadGateway("the upstream uses an extension that nobody asked for".to_owned()));
    }
    let (held, peer) = (Arc::clone(gate), peer.clone());
    gate.tasks().spawn(async move {
        let admitted = tokio::select! {
            () = held.closing().cancelled() => None,
            // Apart, so that the room for what is held goes once it has passed.
            admitted = Box::pin(hold(&held, &peer, seen, switching)) => admitted,
        };
        drop(waiting);
        if let Some((bridge, verified)) = admitted {
            let guard = held.live().register(&verified.session);
            let _open = Open::new(&held);
            bridge::run(bridge, &guard).await;
        }
    });
    Ok(Opened::Switched(response))
}

/// What the gateway itself sees of a client.
fn seen(peer: &Peer, headers: &HeaderMap) -> ClientInfo {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let info = connect::with(ClientInfo::default(), ClientField::Address, &peer.address.to_string());
    connect::with(info, ClientField::UserAgent, agent)
}

/// Why a connection ends before its first message has passed.
enum Refuse {
    /// With a close code and reason.
    Close(u16, &'static str),
    /// With an answer to the message with this id first.
    Answer(String, Problem),
    /// One side is gone.
    Gone,
}

/// Waits for the first message and judges it. `None` where the connection has ended.
async fn hold(gate: &Arc<Gate>, peer: &Peer, seen: ClientInfo, switching: Switching) -> Option<(Bridge, Verified)> {
    let (client, upstream) = switching.finish().await.ok()?;
    let mut bridge = Bridge::new(client, upstream);
    let judged = async {
        let (held, message) = first_message(&mut bridge).await?;
        let connect = Connect::parse(&message).ok_or(Refuse::Close(POLICY, "the first message is no connect"))?;
        let judged = judge(gate, &connect).await;
        match &judged {
            Ok(_) => gate.metrics().passed(Outcome::Admitted),
            Err(problem) => gate.metrics().answered(problem),
        }
        let verified = judged.map_err(|problem| {
            let problem = match problem {
                Problem::Unauthorized(Refused::Token(refusal)) => {
                    gate.refused(&gate.lockouts().tokens, peer, refusal, None)
                }
                other => other,
            };
            Refuse::Answer(connect.id.to_string(), problem)
        })?;
        let known = connect.client_info(seen);
        Ok((held, verified, connect.id.to_string(), known))
    };
    match judged.await {
        Ok((held, verified, id, known)) => {
            bridge.up.pending = held;
            bridge.listener = Some(listener(gate, verified.session.id, id, known));
            Some((bridge, verified))
        }
        Err(refuse) => {
            part(bridge, refuse).await;
            None
        }
    }
}

/// Closes both sides, after an answer where there is one to give.
async fn part(bridge: Bridge, refuse: Refuse) {
    match refuse {
        Refuse::Close(code, reason) => ending::close(bridge, None, code, reason).await,
        Refuse::Answer(id, problem) => {
            let (code, reason) = match &problem {
                Problem::Store(_) => (TRY_AGAIN, "the sessions cannot be read at the moment"),
                _ => (POLICY, problem.code()),
            };
            let answer = text_frame(&connect::refusal(&id, &problem));
            ending::close(bridge, Some(answer), code, reason).await;
        }
        Refuse::Gone => {}
    }
}

/// Everything that the client has sent up to its first message, and a little more perhaps, and that message. What the
/// upstream sends meanwhile passes.
async fn first_message(bridge: &mut Bridge) -> Result<(Bytes, zeroize::Zeroizing<Vec<u8>>), Refuse> {
    let deadline = Instant::now() + HOLD_LIMIT;
    let mut messages = Messages::of_client(HELD_MAX);
    let mut held = Vec::new();
    loop {
        let before = held.len();
        match timeout_at(deadline, read_on(bridge, &mut held)).await {
            Err(_) => return Err(Refuse::Close(POLICY, "no connect message came in time")),
            Ok(false) => return Err(Refuse::Gone),
            Ok(true) => {}
        }
        let mut fresh = &held[before..];
        let next = messages.next(&mut fresh).map_err(|error| match error {
            NoMessage::Broken(_) | NoMessage::Mask | NoMessage::Place => {
                Refuse::Close(PROTOCOL_ERROR, "the first message makes no sense")
            }
        })?;
        match next {
            Some(Got::Text(message)) => return Ok((Bytes::from(held), message)),
            Some(Got::Binary) => return Err(Refuse::Close(POLICY, "the first message is no connect")),
            Some(Got::Close) => return Err(Refuse::Gone),
            None if held.len() >= HELD_MAX => return Err(Refuse::Close(TOO_LARGE, "the first message is too large")),
            None => {}
        }
    }
}

/// Reads more of the client's, while the upstream's passes. False once either side is gone.
async fn read_on(bridge: &mut Bridge, held: &mut Vec<u8>) -> bool {
    let room = (HELD_MAX - held.len()).min(4 * 1024);
    let Bridge { client, upstream, down, .. } = bridge;
    poll_fn(|cx| {
        let passed = down.poll(cx, Pin::new(&mut *upstream), Pin::new(&mut *client), || true, |_| ());
        if let Poll::Ready(Event::Gone | Event::HalfClosed | Event::Broken) = passed {
            return Poll::Ready(false);
        }
        let before = held.len();
        let mut limited = (&mut *client).take(room as u64);
        let read = std::pin::pin!(limited.read_buf(held));
        let read = ready!(read.poll(cx));
        Poll::Ready(read.is_ok() && held.len() > before)
    })
    .await
}

/// Judges the token of a connect message.
async fn judge(gate: &Arc<Gate>, connect: &Connect<'_>) -> Result<Verified, Problem> {
    let text = connect.token().ok_or(Problem::Unauthorized(Refused::Missing))?;
    let token = Token::parse(text).map_err(|_| Problem::from(Refusal::Malformed))?;
    let verified = gate.sessions().verify(&token, Usage::Counts).await?;
    if verified.session.subject != presumed() {
        // The upstream was told another user when the connection began, and cannot be told otherwise.
        return Err(Problem::Forbidden(format!(
            "the session belongs to {}, and clients that show their token in the first message connect as {}: send it \
             as Authorization: Bearer",
            verified.session.subject,
            presumed()
        )));
    }
    Ok(verified)
}

/// Waits for the upstream to accept the message with this id, and then records what is known of the client.
fn listener(gate: &Arc<Gate>, session: tenure_domain::SessionId, id: String, known: ClientInfo) -> Listener {
    let gate = Arc::clone(gate);
    let mut messages = Messages::of_server(ANSWER_ROOM);
    Box::new(move |mut bytes| {
        let accepted = loop {
            match messages.next(&mut bytes) {
                Ok(Some(Got::Text(message))) => {
                    if let Some(accepted) = connect::accepts(&message, &id) {
                        break accepted;
                    }
                }
                Ok(Some(Got::Binary)) => {}
                Ok(Some(Got::Close)) | Err(_) => break false,
                Ok(None) => match messages.partial().and_then(|message| connect::accepts(message, &id)) {
                    Some(accepted) => break accepted,
                    None => return false,
                },
            }
        };
        if accepted {
            let (describing, known) = (Arc::clone(&gate), known.clone());
            gate.tasks().spawn(async move {
                if let Err(error) = describing.sessions().describe(session, &known).await {
                    tracing::warn!(%session, %error, "what the client says of itself was not recorded");
                }
            });
        }
        true
    })
}

#[cfg(test)]
mod tests;
