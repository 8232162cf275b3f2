//! A WebSocket before its token: the client's first message is held, and of the upstream's nothing passes but its
//! challenge.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite as _};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::connect;
use super::{POLICY, PROTOCOL_ERROR, Refuse, TOO_LARGE, TRY_AGAIN};
use crate::messages::{Got, Messages, NoMessage, text_frame};
use crate::relay::bridge::Bridge;

/// The largest first message, with everything that comes before and along with it.
pub(super) const HELD_MAX: usize = 64 * 1024;
/// How long a client may take to send it.
const HOLD_LIMIT: Duration = Duration::from_secs(15);
/// So much of what the upstream sends before the token is kept; the rest waits in its connection.
const WITHHELD_MAX: usize = 64 * 1024;
/// The largest challenge.
const CHALLENGE_MAX: usize = 4 * 1024;
const READ_AT_ONCE: usize = 4 * 1024;

/// What both sides have sent by the time that the client's first message is whole.
pub(super) struct Held {
    /// Of the client: everything, and perhaps a little more than the message.
    pub(super) client: Bytes,
    /// Of the upstream: everything but the challenge, for the client once its token was found to hold.
    pub(super) upstream: Bytes,
    /// The message.
    pub(super) message: Zeroizing<Vec<u8>>,
}

/// Waits for the client's first message. Meanwhile the upstream's challenge passes, once, and nothing else does.
pub(super) async fn first_message(bridge: &mut Bridge) -> Result<Held, Refuse> {
    let deadline = Instant::now() + HOLD_LIMIT;
    let mut messages = Messages::of_client(HELD_MAX);
    let mut withheld = Withheld::new();
    let mut held = Vec::new();
    loop {
        let before = held.len();
        let read = timeout_at(deadline, read_on(bridge, &mut held, &mut withheld)).await;
        read.unwrap_or(Err(Refuse::Close(POLICY, "no connect message came in time")))?;
        let mut fresh = &held[before..];
        let next = messages.next(&mut fresh).map_err(|error| match error {
            NoMessage::Broken(_) | NoMessage::Mask | NoMessage::Place => {
                Refuse::Close(PROTOCOL_ERROR, "the first message cannot be read")
            }
        })?;
        match next {
            Some(Got::Text(message)) => {
                return Ok(Held { client: Bytes::from(held), upstream: Bytes::from(withheld.bytes), message });
            }
            Some(Got::Binary) => return Err(Refuse::Close(POLICY, "the first message is not a connect request")),
            Some(Got::Close) => return Err(Refuse::Gone),
            None if held.len() >= HELD_MAX => return Err(Refuse::Close(TOO_LARGE, "the first message is too large")),
            None => {}
        }
    }
}

/// Reads more of the client's, while the upstream's challenge passes.
async fn read_on(bridge: &mut Bridge, held: &mut Vec<u8>, withheld: &mut Withheld) -> Result<(), Refuse> {
    let room = HELD_MAX - held.len();
    poll_fn(|cx| {
        if let Poll::Ready(refuse) = withheld.poll(cx, bridge) {
            return Poll::Ready(Err(refuse));
        }
        let read = ready!(poll_more(cx, &mut bridge.client, held, room));
        Poll::Ready(if read { Ok(()) } else { Err(Refuse::Gone) })
    })
    .await
}

/// Reads what is there, up to so many bytes; false at the end.
fn poll_more<R: AsyncRead + Unpin>(cx: &mut Context<'_>, from: &mut R, into: &mut Vec<u8>, room: usize) -> Poll<bool> {
    let before = into.len();
    let mut limited = from.take(room.min(READ_AT_ONCE) as u64);
    let read = ready!(pin!(limited.read_buf(into)).poll(cx));
    Poll::Ready(read.is_ok() && into.len() > before)
}

/// What the upstream sends before the token.
struct Withheld {
    messages: Messages,
    bytes: Vec<u8>,
    /// A message has come: whatever follows waits for the token.
    spoken: bool,
}

impl Withheld {
    fn new() -> Self {
        Self { messages: Messages::of_server(CHALLENGE_MAX), bytes: Vec::new(), spoken: false }
    }

    /// Reads the upstream's, and passes its challenge on. Ready where the connection cannot go on.
    fn poll(&mut self, cx: &mut Context<'_>, bridge: &mut Bridge) -> Poll<Refuse> {
        while self.bytes.len() < WITHHELD_MAX {
            let before = self.bytes.len();
            match poll_more(cx, &mut bridge.upstream, &mut self.bytes, WITHHELD_MAX - before) {
                Poll::Pending => break,
                Poll::Ready(false) => return Poll::Ready(Refuse::Gone),
                Poll::Ready(true) => {}
            }
            match self.look(before) {
                Ok(Some(challenge)) => bridge.down.pending = challenge,
                Ok(None) => {}
                Err(refuse) => return Poll::Ready(refuse),
            }
        }
        pass(cx, bridge)
    }

    /// Looks at the bytes from there on: the challenge, in a frame of the gateway's own, where it is the first message.
    fn look(&mut self, from: usize) -> Result<Option<Bytes>, Refuse> {
        let mut challenge = None;
        let mut end = 0;
        let mut fresh = &self.bytes[from..];
        loop {
            match self.messages.next(&mut fresh) {
                Ok(Some(Got::Text(message))) if !self.spoken => {
                    self.spoken = true;
                    if let Some(text) = connect::challenge(&message) {
                        challenge = Some(Bytes::from(text_frame(text)));
                        end = self.bytes.len() - fresh.len();
                    }
                }
                Ok(Some(Got::Text(_) | Got::Binary)) => self.spoken = true,
                // Its words may be of the session that is not there yet.
                Ok(Some(Got::Close)) => return Err(Refuse::Close(TRY_AGAIN, "the upstream closed the connection")),
                Ok(None) => break,
                Err(_) => return Err(Refuse::Close(TRY_AGAIN, "the upstream makes no sense")),
            }
        }
        // With it goes what stood before it: pings, which the upstream will send again.
        self.bytes.drain(..end);
        Ok(challenge)
    }
}

/// Writes the challenge to the client. Ready where the client is gone.
fn pass(cx: &mut Context<'_>, bridge: &mut Bridge) -> Poll<Refuse> {
    let Bridge { client, down, .. } = bridge;
    while down.pending.has_remaining() {
        match ready!(Pin::new(&mut *client).poll_write(cx, &down.pending)) {
            Ok(n) if n > 0 => {
                let written = down.pending.split_to(n);
                down.wrote(&written, |_| ());
            }
            _ => return Poll::Ready(Refuse::Gone),
        }
    }
    match ready!(Pin::new(client).poll_flush(cx)) {
        Ok(()) => Poll::Pending,
        Err(_) => Poll::Ready(Refuse::Gone),
    }
}
