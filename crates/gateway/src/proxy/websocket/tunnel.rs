//! The relay of a WebSocket: bytes from one side to the other, with back-pressure, and without buffers while nothing
//! moves.

use std::future::{Future, poll_fn};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::frame::{CLOSE, FrameHeader, FrameParser};
use tenure_tower::{CloseReason, ConnectionGuard};

/// The number of bytes that are read at once, into a buffer on the stack.
const READ_SIZE: usize = 16 * 1024;
/// How long one side may go on after the other has closed its half.
const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// One side of a WebSocket.
pub(crate) type UpgradedStream = TokioIo<Upgraded>;

/// Both sides of a WebSocket, and the bytes in progress between them.
pub(crate) struct Tunnel {
    pub(crate) client: UpgradedStream,
    pub(crate) upstream: UpgradedStream,
    /// From the client to the upstream.
    pub(crate) up: Direction,
    /// From the upstream to the client.
    pub(crate) down: Direction,
    pub(crate) listener: Option<ResponseListener>,
}

/// The reason why the relay stopped for a moment.
pub(crate) enum TunnelEvent {
    /// Data is to pass, and the clock may have ended the session.
    CheckNeeded,
    /// One side has closed its half, and the other was told.
    HalfClosed,
    /// The connection broke, or both halves are closed.
    Finished,
    /// A frame has an invalid length.
    InvalidFrame,
}

/// The way in which a relay ended.
pub(super) enum TunnelEnd {
    /// The session, the store or the gateway ended it.
    Closed(CloseReason),
    /// A frame was invalid.
    InvalidFrame,
    /// The sides ended it themselves.
    Finished,
}

impl Tunnel {
    pub(crate) const fn new(client: UpgradedStream, upstream: UpgradedStream) -> Self {
        Self { client, upstream, up: Direction::new(), down: Direction::new(), listener: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>, guard: Option<&ConnectionGuard>) -> Poll<TunnelEvent> {
        // Once for all frames that pass together, because it reads the clock.
        let mut data = false;
        let note = |event: RelayEvent<'_>| match (event, guard) {
            (RelayEvent::FrameHeader(head), _) => data |= head.is_data(),
            (RelayEvent::Bytes(_), Some(guard)) if std::mem::take(&mut data) => guard.note_activity(),
            (RelayEvent::Bytes(_), _) => {}
        };
        let open = || guard.is_none_or(ConnectionGuard::is_open);
        let (client, upstream) = (Pin::new(&mut self.client), Pin::new(&mut self.upstream));
        if let Poll::Ready(event) = self.up.poll(cx, client, upstream, open, note) {
            return Poll::Ready(event);
        }
        let (client, upstream) = (Pin::new(&mut self.client), Pin::new(&mut self.upstream));
        let listener = &mut self.listener;
        let listen = |event: RelayEvent<'_>| match event {
            RelayEvent::Bytes(bytes) if listener.as_mut().is_some_and(|listen| listen(bytes)) => *listener = None,
            RelayEvent::FrameHeader(_) | RelayEvent::Bytes(_) => {}
        };
        if let Poll::Ready(event) = self.down.poll(cx, upstream, client, open, listen) {
            return Poll::Ready(event);
        }
        if self.up.target_closed && self.down.target_closed {
            Poll::Ready(TunnelEvent::Finished)
        } else {
            Poll::Pending
        }
    }

    /// Relays until both sides have ended, or until nothing more may pass.
    pub(super) async fn relay(
        &mut self,
        guard: Option<&ConnectionGuard>,
        closed: impl Future<Output = CloseReason>,
    ) -> TunnelEnd {
        let mut closed = pin!(closed);
        let mut half_open: Option<Pin<Box<Sleep>>> = None;
        loop {
            let turn = poll_fn(|cx| {
                if let Poll::Ready(reason) = closed.as_mut().poll(cx) {
                    return Poll::Ready(Err(reason));
                }
                if half_open.as_mut().is_some_and(|limit| limit.as_mut().poll(cx).is_ready()) {
                    return Poll::Ready(Ok(TunnelEvent::Finished));
                }
                self.poll(cx, guard).map(Ok)
            });
            match turn.await {
                Err(reason) => return TunnelEnd::Closed(reason),
                Ok(TunnelEvent::CheckNeeded) => {
                    if let Some(guard) = guard
                        && let Err(reason) = guard.check_open().await
                    {
                        return TunnelEnd::Closed(reason);
                    }
                }
                Ok(TunnelEvent::HalfClosed) => half_open = Some(Box::pin(sleep(HALF_OPEN_TIMEOUT))),
                Ok(TunnelEvent::InvalidFrame) => return TunnelEnd::InvalidFrame,
                Ok(TunnelEvent::Finished) => return TunnelEnd::Finished,
            }
        }
    }
}

/// A part of the stream that has passed.
#[derive(Clone, Copy)]
pub(crate) enum RelayEvent<'a> {
    /// The header of a frame.
    FrameHeader(FrameHeader),
    /// Some bytes.
    Bytes(&'a [u8]),
}

/// A listener that receives what passes to the client, until it returns that it has seen enough.
pub(crate) type ResponseListener = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// One direction.
pub(crate) struct Direction {
    /// The receiver's position in the stream: by what was written to it, not by what was read.
    pub(crate) frames: FrameParser,
    /// Bytes that were read and not written yet.
    pub(crate) pending: Bytes,
    /// Whether a close frame has passed. No frame may follow it.
    pub(crate) closing: bool,
    /// Whether the sender has closed its half.
    source_ended: bool,
    /// Whether the receiver was told so.
    target_closed: bool,
    /// Whether bytes were written that may not be flushed yet.
    unflushed: bool,
}

impl Direction {
    pub(crate) const fn new() -> Self {
        let pending = Bytes::new();
        Self {
            frames: FrameParser::new(),
            pending,
            closing: false,
            source_ended: false,
            target_closed: false,
            unflushed: false,
        }
    }

    /// Advances the receiver's position by written bytes. Returns false if a frame is invalid.
    pub(crate) fn record_written(&mut self, bytes: &[u8], mut notify: impl FnMut(RelayEvent<'_>)) -> bool {
        let closing = &mut self.closing;
        self.unflushed = true;
        let result = self.frames.advance(bytes, |head| {
            *closing |= head.opcode == CLOSE;
            notify(RelayEvent::FrameHeader(head));
        });
        notify(RelayEvent::Bytes(bytes));
        result.is_ok()
    }

    pub(crate) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
        open: impl Fn() -> bool,
        mut notify: impl FnMut(RelayEvent<'_>),
    ) -> Poll<TunnelEvent>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        while !self.target_closed {
            if !self.pending.is_empty() {
                if !open() {
                    return Poll::Ready(TunnelEvent::CheckNeeded);
                }
                let Ok(n) = ready!(to.as_mut().poll_write(cx, &self.pending)) else {
                    return Poll::Ready(TunnelEvent::Finished);
                };
                let written = self.pending.split_to(n);
                if n == 0 || !self.record_written(&written, &mut notify) {
                    return Poll::Ready(if n == 0 { TunnelEvent::Finished } else { TunnelEvent::InvalidFrame });
                }
                continue;
            }
            if self.source_ended {
                let _ = ready!(to.as_mut().poll_shutdown(cx));
                self.target_closed = true;
                return Poll::Ready(TunnelEvent::HalfClosed);
            }
            let mut space = [const { MaybeUninit::<u8>::uninit() }; READ_SIZE];
            let mut buffer = ReadBuf::uninit(&mut space);
            match from.as_mut().poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(TunnelEvent::Finished),
                Poll::Pending => {
                    if self.unflushed {
                        let Ok(()) = ready!(to.as_mut().poll_flush(cx)) else {
                            return Poll::Ready(TunnelEvent::Finished);
                        };
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
            let mut bytes = buffer.filled();
            self.source_ended = bytes.is_empty();
            if !bytes.is_empty() && open() {
                // The common case: the bytes are written at once.
                match to.as_mut().poll_write(cx, bytes) {
                    Poll::Ready(Ok(n)) => {
                        if !self.record_written(&bytes[..n], &mut notify) {
                            return Poll::Ready(TunnelEvent::InvalidFrame);
                        }
                        bytes.advance(n);
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(TunnelEvent::Finished),
                    Poll::Pending => {}
                }
            }
            if !bytes.is_empty() {
                self.pending = Bytes::copy_from_slice(bytes);
            }
        }
        Poll::Pending
    }
}
