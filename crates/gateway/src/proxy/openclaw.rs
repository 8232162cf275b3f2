//! The OpenClaw profile: clients send their token not in a header but in the first WebSocket frame.
//!
//! The upgrade is let through without a token, because the upstream then sends its challenge. Until the client's first
//! message has presented a valid token, nothing from the client passes, and from the upstream only a bare 101 and the
//! challenge. The first message is passed on unchanged, because the client has signed it. So this upstream sees the
//! token, and must be reachable only through the gateway.

pub(crate) mod connect;
mod first_message;

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

use super::websocket::handshake::{HandshakeOutcome, PendingSwitch, handshake};
use super::websocket::message::{Message, MessageReader, text_frame};
use super::websocket::tunnel::{ResponseListener, Tunnel};
use super::websocket::{self, OpenWebSocket, close};
use crate::gateway::Gateway;
use tenure_tower::lockout::LockoutScope;
use tenure_tower::request::peer::Peer;
use tenure_tower::{Enforcer, Outcome, Problem, TokenRejection};

use connect::Connect;
use first_message::{FirstMessage, first_message};

/// The most connections without a verified token at once. Clients of further ones are told to try again.
const MAX_WAITING: usize = 1024;
/// The most bytes of the upstream's answer that are read: what matters is at its beginning.
const RESPONSE_PREFIX: usize = 8 * 1024;

/// The connections that have not presented a token yet.
static WAITING: Semaphore = Semaphore::const_new(MAX_WAITING);

/// Close codes of RFC 6455 section 7.4.1.
const PROTOCOL_ERROR: u16 = 1002;
const POLICY: u16 = 1008;
const TOO_LARGE: u16 = 1009;
const TRY_AGAIN: u16 = 1013;

/// Returns the subject that is assumed for connections which present their token later: the upstream takes the user
/// from the upgrade.
fn assumed_subject() -> Subject {
    Subject::default()
}

/// The header fields of the upstream's 101 that pass before there is a token: those that the handshake needs.
const HANDSHAKE_FIELDS: [HeaderName; 2] = [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL];

/// Opens a WebSocket whose client has yet to present its token, and returns the response that lets the client switch.
/// `request` is as for [`super::websocket::open`], without a user.
///
/// # Errors
/// [`Problem`] if there are too many such connections, or if the upstream does not answer, does not switch, or answers
/// invalidly.
pub(crate) async fn open<I>(
    gateway: &Arc<Gateway>,
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
    // A compressed frame could not be read.
    headers.remove(SEC_WEBSOCKET_EXTENSIONS);
    if let Ok(user) = HeaderValue::try_from(assumed_subject().as_str()) {
        headers.insert(gateway.enforcer().config().user_header.clone(), user);
    }
    let (switching, mut response) = match handshake(request, io).await? {
        HandshakeOutcome::Declined(answer) => {
            // The response is for the assumed user, and the client has not authenticated yet.
            tracing::warn!(
                status = answer.status().as_u16(),
                "the upstream did not open a WebSocket: its response is not passed on"
            );
            return Err(Problem::BadGateway("the upstream opened no WebSocket".to_owned()));
        }
        HandshakeOutcome::Switching(switching, response) => (switching, response),
    };
    if response.headers().contains_key(SEC_WEBSOCKET_EXTENSIONS) {
        return Err(Problem::BadGateway("the upstream uses an extension that was not requested".to_owned()));
    }
    keep_handshake_fields(response.headers_mut());
    let (shared, peer) = (Arc::clone(gateway), peer.clone());
    gateway.enforcer().tasks().spawn(async move {
        let enforcer = shared.enforcer();
        let admitted = tokio::select! {
            () = shared.closing().cancelled() => None,
            // Boxed, so that its memory is freed once the token was verified.
            admitted = Box::pin(await_token(enforcer, &peer, seen, switching)) => admitted,
        };
        drop(waiting);
        if let Some((tunnel, verified)) = admitted {
            let guard = enforcer.connections().register(&verified.session);
            let _open = OpenWebSocket::new(&shared);
            websocket::run(tunnel, &guard).await;
        }
    });
    Ok(response)
}

/// Removes all header fields of a 101 but those that the handshake needs.
fn keep_handshake_fields(headers: &mut HeaderMap) {
    let mut all = std::mem::take(headers);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    for name in HANDSHAKE_FIELDS {
        if let Some(value) = all.remove(&name) {
            headers.insert(name, value);
        }
    }
}

/// Returns what the gateway itself sees of a client.
fn seen(peer: &Peer, headers: &HeaderMap) -> ClientInfo {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let info = connect::with(ClientInfo::default(), ClientField::Address, &peer.address.to_string());
    connect::with(info, ClientField::UserAgent, agent)
}

/// The reason why a connection ends before its first message has passed.
enum EarlyClose {
    /// With a close code and reason.
    Close(u16, &'static str),
    /// With an answer to the message with this id first.
    Answer(String, Problem),
    /// One side is gone.
    Gone,
}

/// Waits for the first message and verifies its token. Returns `None` if the connection has ended.
async fn await_token(
    enforcer: &Arc<Enforcer>,
    peer: &Peer,
    seen: ClientInfo,
    switching: PendingSwitch,
) -> Option<(Tunnel, Verified)> {
    let (client, upstream) = switching.finish().await.ok()?;
    let mut tunnel = Tunnel::new(client, upstream);
    let outcome = async {
        let FirstMessage { client, upstream, message } = first_message(&mut tunnel).await?;
        let connect =
            Connect::parse(&message).ok_or(EarlyClose::Close(POLICY, "the first message is not a connect request"))?;
        let outcome = verify_connect(enforcer, &connect).await;
        match &outcome {
            Ok(_) => enforcer.record_outcome(Outcome::Admitted),
            Err(problem) => enforcer.record_problem(problem),
        }
        let verified = outcome.map_err(|problem| {
            let problem = match problem {
                Problem::Unauthorized(TokenRejection::Token(refusal)) => {
                    enforcer.count_refusal(LockoutScope::Tokens, peer, refusal, None)
                }
                other => other,
            };
            EarlyClose::Answer(connect.id.to_string(), problem)
        })?;
        let known = connect.client_info(seen);
        Ok((client, upstream, verified, connect.id.to_string(), known))
    };
    match outcome.await {
        Ok((client, upstream, verified, id, known)) => {
            tunnel.up.pending = client;
            // Behind what is left of the challenge.
            tunnel.down.pending = [&*tunnel.down.pending, &*upstream].concat().into();
            tunnel.listener = Some(record_on_accept(enforcer, verified.session.id, id, known));
            Some((tunnel, verified))
        }
        Err(refuse) => {
            close_early(tunnel, refuse).await;
            None
        }
    }
}

/// Closes both sides, after sending an answer if there is one.
async fn close_early(tunnel: Tunnel, refuse: EarlyClose) {
    match refuse {
        EarlyClose::Close(code, reason) => close::close(tunnel, None, code, reason).await,
        EarlyClose::Answer(id, problem) => {
            let (code, reason) = match &problem {
                Problem::Store(_) => (TRY_AGAIN, "the sessions cannot be read at the moment"),
                _ => (POLICY, problem.code()),
            };
            let answer = text_frame(&connect::refusal(&id, &problem));
            close::close(tunnel, Some(answer), code, reason).await;
        }
        EarlyClose::Gone => {}
    }
}

/// Verifies the token of a connect message.
async fn verify_connect(enforcer: &Enforcer, connect: &Connect<'_>) -> Result<Verified, Problem> {
    let text = connect.token().ok_or(Problem::Unauthorized(TokenRejection::Missing))?;
    let token = Token::parse(text).map_err(|_| Problem::from(Refusal::Malformed))?;
    let verified = enforcer.sessions().verify(&token, ActivityMode::Record).await?;
    if verified.session.subject != assumed_subject() {
        // The upstream was told another user when the connection began, and cannot be told otherwise.
        return Err(Problem::Forbidden(format!(
            "the session belongs to {}, but clients that send their token in the first message connect as {}: send it \
             as Authorization: Bearer",
            verified.session.subject,
            assumed_subject()
        )));
    }
    Ok(verified)
}

/// Waits for the upstream to accept the message with this id, and then records what is known of the client.
fn record_on_accept(
    enforcer: &Enforcer,
    session: tenure_domain::SessionId,
    id: String,
    known: ClientInfo,
) -> ResponseListener {
    let (sessions, tasks) = (Arc::clone(enforcer.sessions()), enforcer.tasks().clone());
    let mut messages = MessageReader::of_server(RESPONSE_PREFIX);
    Box::new(move |mut bytes| {
        let accepted = loop {
            match messages.next(&mut bytes) {
                Ok(Some(Message::Text(message))) => {
                    if let Some(accepted) = connect::accepts(&message, &id) {
                        break accepted;
                    }
                }
                Ok(Some(Message::Binary)) => {}
                Ok(Some(Message::Close)) | Err(_) => break false,
                Ok(None) => match messages.partial().and_then(|message| connect::accepts(message, &id)) {
                    Some(accepted) => break accepted,
                    None => return false,
                },
            }
        };
        if accepted {
            let (sessions, known) = (Arc::clone(&sessions), known.clone());
            tasks.spawn(async move {
                if let Err(error) = sessions.update_client(session, &known).await {
                    tracing::warn!(%session, %error, "the client's description of itself was not recorded");
                }
            });
        }
        true
    })
}

#[cfg(test)]
mod tests;
