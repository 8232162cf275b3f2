//! A WebSocket before its token was verified. The client's first message is held back, and from the upstream only its
//! challenge passes.

use std::future::{Future as _, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite as _};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::connect;
use super::{EarlyClose, POLICY, PROTOCOL_ERROR, TOO_LARGE, TRY_AGAIN};
use crate::proxy::websocket::message::{Message, MessageError, MessageReader, text_frame};
use crate::proxy::websocket::tunnel::Tunnel;

/// The most bytes of the first message, with everything that comes before it and with it.
pub(super) const MAX_FIRST_MESSAGE: usize = 64 * 1024;
/// How long a client may take to send its first message.
const FIRST_MESSAGE_TIMEOUT: Duration = Duration::from_secs(15);
/// The most bytes that are kept of what the upstream sends before the token. The rest waits in its connection.
const MAX_WITHHELD: usize = 64 * 1024;
/// The most bytes of a challenge.
const MAX_CHALLENGE: usize = 4 * 1024;
const READ_SIZE: usize = 4 * 1024;

/// What both sides have sent by the time the client's first message is complete.
pub(super) struct FirstMessage {
    /// The client's bytes: the message, and perhaps a little more.
    pub(super) client: Bytes,
    /// The upstream's bytes without the challenge, for the client once its token was verified.
    pub(super) upstream: Bytes,
    /// The message.
    pub(super) message: Zeroizing<Vec<u8>>,
}

/// Waits for the client's first message. Meanwhile the upstream's challenge passes, once, and nothing else does.
pub(super) async fn first_message(tunnel: &mut Tunnel) -> Result<FirstMessage, EarlyClose> {
    let deadline = Instant::now() + FIRST_MESSAGE_TIMEOUT;
    let mut messages = MessageReader::of_client(MAX_FIRST_MESSAGE);
    let mut withheld = WithheldBytes::new();
    let mut held = Vec::new();
    loop {
        let before = held.len();
        let read = timeout_at(deadline, read_more(tunnel, &mut held, &mut withheld)).await;
        read.unwrap_or(Err(EarlyClose::Close(POLICY, "no connect message came in time")))?;
        let mut fresh = &held[before..];
        let next = messages.next(&mut fresh).map_err(|error| match error {
            MessageError::Frame(_) | MessageError::Mask | MessageError::OutOfPlace => {
                EarlyClose::Close(PROTOCOL_ERROR, "the first message cannot be read")
            }
        })?;
        match next {
            Some(Message::Text(message)) => {
                return Ok(FirstMessage { client: Bytes::from(held), upstream: Bytes::from(withheld.bytes), message });
            }
            Some(Message::Binary) => {
                return Err(EarlyClose::Close(POLICY, "the first message is not a connect request"));
            }
            Some(Message::Close) => return Err(EarlyClose::Gone),
            None if held.len() >= MAX_FIRST_MESSAGE => {
                return Err(EarlyClose::Close(TOO_LARGE, "the first message is too large"));
            }
            None => {}
        }
    }
}

/// Reads more from the client, while the upstream's challenge passes.
async fn read_more(tunnel: &mut Tunnel, held: &mut Vec<u8>, withheld: &mut WithheldBytes) -> Result<(), EarlyClose> {
    let room = MAX_FIRST_MESSAGE - held.len();
    poll_fn(|cx| {
        if let Poll::Ready(refuse) = withheld.poll(cx, tunnel) {
            return Poll::Ready(Err(refuse));
        }
        let read = ready!(poll_more(cx, &mut tunnel.client, held, room));
        Poll::Ready(if read { Ok(()) } else { Err(EarlyClose::Gone) })
    })
    .await
}

/// Reads what is available, up to a number of bytes. Returns false at the end.
fn poll_more<R: AsyncRead + Unpin>(cx: &mut Context<'_>, from: &mut R, into: &mut Vec<u8>, room: usize) -> Poll<bool> {
    let before = into.len();
    let mut limited = from.take(room.min(READ_SIZE) as u64);
    let read = ready!(pin!(limited.read_buf(into)).poll(cx));
    Poll::Ready(read.is_ok() && into.len() > before)
}

/// The state of the upstream's side before the token was verified.
struct WithheldBytes {
    messages: MessageReader,
    bytes: Vec<u8>,
    /// Whether a message has come. Everything after it waits for the token.
    has_message: bool,
}

impl WithheldBytes {
    fn new() -> Self {
        Self { messages: MessageReader::of_server(MAX_CHALLENGE), bytes: Vec::new(), has_message: false }
    }

    /// Reads from the upstream, and passes its challenge on. Ready if the connection cannot go on.
    fn poll(&mut self, cx: &mut Context<'_>, tunnel: &mut Tunnel) -> Poll<EarlyClose> {
        while self.bytes.len() < MAX_WITHHELD {
            let before = self.bytes.len();
            match poll_more(cx, &mut tunnel.upstream, &mut self.bytes, MAX_WITHHELD - before) {
                Poll::Pending => break,
                Poll::Ready(false) => return Poll::Ready(EarlyClose::Gone),
                Poll::Ready(true) => {}
            }
            match self.scan(before) {
                Ok(Some(challenge)) => tunnel.down.pending = challenge,
                Ok(None) => {}
                Err(refuse) => return Poll::Ready(refuse),
            }
        }
        pass(cx, tunnel)
    }

    /// Reads the bytes from this position on. Returns the challenge, in a frame that the gateway makes, if it is the
    /// first message.
    fn scan(&mut self, from: usize) -> Result<Option<Bytes>, EarlyClose> {
        let mut challenge = None;
        let mut end = 0;
        let mut fresh = &self.bytes[from..];
        loop {
            match self.messages.next(&mut fresh) {
                Ok(Some(Message::Text(message))) if !self.has_message => {
                    self.has_message = true;
                    if let Some(text) = connect::challenge(&message) {
                        challenge = Some(Bytes::from(text_frame(text)));
                        end = self.bytes.len() - fresh.len();
                    }
                }
                Ok(Some(Message::Text(_) | Message::Binary)) => self.has_message = true,
                // Its reason may be about the session that is not verified yet.
                Ok(Some(Message::Close)) => {
                    return Err(EarlyClose::Close(TRY_AGAIN, "the upstream closed the connection"));
                }
                Ok(None) => break,
                Err(_) => return Err(EarlyClose::Close(TRY_AGAIN, "the upstream's frames are invalid")),
            }
        }
        // What came before it is dropped: pings, which the upstream will send again.
        self.bytes.drain(..end);
        Ok(challenge)
    }
}

/// Writes the challenge to the client. Ready if the client is gone.
fn pass(cx: &mut Context<'_>, tunnel: &mut Tunnel) -> Poll<EarlyClose> {
    let Tunnel { client, down, .. } = tunnel;
    while down.pending.has_remaining() {
        match ready!(Pin::new(&mut *client).poll_write(cx, &down.pending)) {
            Ok(n) if n > 0 => {
                let written = down.pending.split_to(n);
                down.record_written(&written, |_| ());
            }
            _ => return Poll::Ready(EarlyClose::Gone),
        }
    }
    match ready!(Pin::new(client).poll_flush(cx)) {
        Ok(()) => Poll::Pending,
        Err(_) => Poll::Ready(EarlyClose::Gone),
    }
}
