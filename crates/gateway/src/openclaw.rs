//! The OpenClaw profile: clients send their token not in a header but in the first WebSocket frame.
//!
//! The upgrade is let through without a token, since the upstream has to send its challenge then. Until the client's
//! first message has shown a token that holds, nothing of the client's passes, and of the upstream's nothing but a bare
//! 101 and that challenge. The first message goes on unchanged, since the client has signed over it: so this upstream
//! sees the token, and must be reachable through the gateway only.

pub(crate) mod connect;
mod hold;

use std::sync::Arc;

use axum::body::Body;
use http::header::{
    CONNECTION, HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL, UPGRADE, USER_AGENT,
};
use http::{HeaderName, HeaderValue, Request, Response};
use tenure_domain::{ClientField, ClientInfo, Refusal, Subject, Token};
use tenure_service::{ActivityMode, Verified};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::credential::Credential;
use crate::enforce::Gate;
use crate::messages::{Got, Messages, text_frame};
use crate::metrics::Outcome;
use crate::options::Options;
use crate::peer::Peer;
use crate::problem::{Problem, Refused};
use crate::relay::bridge::{self, Bridge, Listener};
use crate::relay::{Open, Shaken, Switching, ending, is_upgrade, lists, shake_hands};

use connect::Connect;
use hold::{Held, first_message};

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

/// What passes of the headers of the upstream's 101 before there is a token: what the handshake cannot do without.
const OF_THE_HANDSHAKE: [HeaderName; 2] = [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL];

/// Whether a request is for a WebSocket whose client shows its token only later: one without any, under the profile.
pub(crate) fn shows_later<B>(request: &Request<B>, options: &Options, secure: bool) -> bool {
    options.profile.is_some()
        && is_upgrade(request)
        && matches!(Credential::of(request.headers(), &options.cookie_name, secure), Ok(None))
}

/// Whether a request may be public at all. Under the profile a WebSocket is not, whatever its path: the upstream takes
/// them on every path, and its own tokens would get in without a session.
pub(crate) fn may_be_public(headers: &HeaderMap, options: &Options) -> bool {
    options.profile.is_none() || !lists(headers, &UPGRADE, "websocket")
}

/// Opens a WebSocket whose client has yet to show its token, and answers with what lets the client switch. `request` is
/// as for [`crate::relay::open`], without a user.
///
/// # Errors
/// [`Problem`]: too many such connections, or the upstream does not answer, does not switch or talks nonsense.
pub(crate) async fn open<I>(
    gate: &Arc<Gate>,
    peer: &Peer,
    mut request: Request<Body>,
    io: I,
) -> Result<Response<Body>, Problem>
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
    let (switching, mut response) = match shake_hands(request, io).await? {
        Shaken::Declined(answer) => {
            // It was given to the presumed user, and nobody has shown to be that yet.
            tracing::warn!(
                status = answer.status().as_u16(),
                "the upstream did not open a WebSocket: its response is not passed on"
            );
            return Err(Problem::BadGateway("the upstream opened no WebSocket".to_owned()));
        }
        Shaken::Switching(switching, response) => (switching, response),
    };
    if response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(Problem::BadGateway("the upstream uses an extension that nobody asked for".to_owned()));
    }
    bare(response.headers_mut());
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
    Ok(response)
}

/// Leaves of the headers of a 101 what the handshake needs.
fn bare(headers: &mut HeaderMap) {
    let mut all = std::mem::take(headers);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    for name in OF_THE_HANDSHAKE {
        if let Some(value) = all.remove(&name) {
            headers.insert(name, value);
        }
    }
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
        let Held { client, upstream, message } = first_message(&mut bridge).await?;
        let connect =
            Connect::parse(&message).ok_or(Refuse::Close(POLICY, "the first message is not a connect request"))?;
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
        Ok((client, upstream, verified, connect.id.to_string(), known))
    };
    match judged.await {
        Ok((client, upstream, verified, id, known)) => {
            bridge.up.pending = client;
            // Behind what is left of the challenge.
            bridge.down.pending = [&*bridge.down.pending, &*upstream].concat().into();
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

/// Judges the token of a connect message.
async fn judge(gate: &Arc<Gate>, connect: &Connect<'_>) -> Result<Verified, Problem> {
    let text = connect.token().ok_or(Problem::Unauthorized(Refused::Missing))?;
    let token = Token::parse(text).map_err(|_| Problem::from(Refusal::Malformed))?;
    let verified = gate.sessions().verify(&token, ActivityMode::Record).await?;
    if verified.session.subject != presumed() {
        // The upstream was told another user when the connection began, and cannot be told otherwise.
        return Err(Problem::Forbidden(format!(
            "the session belongs to {}, but clients that send their token in the first message connect as {}: send it \
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
                if let Err(error) = describing.sessions().update_client(session, &known).await {
                    tracing::warn!(%session, %error, "the client's description of itself was not recorded");
                }
            });
        }
        true
    })
}

#[cfg(test)]
mod tests;
