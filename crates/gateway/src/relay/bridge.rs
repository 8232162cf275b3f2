//! Bytes from one side to the other, with back-pressure and without buffers while nothing moves.

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
use tokio_util::sync::CancellationToken;

use super::ending;
use crate::frames::{CLOSE, Frames, Head};
use crate::live::{Cut, Guard};

/// So many bytes are read at once, on the stack.
const CHUNK: usize = 16 * 1024;
/// How long one side may go on after the other has closed its half.
const HALF_OPEN: Duration = Duration::from_secs(10);

/// One side of a WebSocket.
pub(crate) type Wire = TokioIo<Upgraded>;

/// Both sides and what is under way between them.
pub(crate) struct Bridge {
    pub(crate) client: Wire,
    pub(crate) upstream: Wire,
    /// From the client to the upstream.
    pub(crate) up: Flow,
    /// From the upstream to the client.
    pub(crate) down: Flow,
    pub(crate) listener: Option<Listener>,
}

/// Why a bridge must be looked after.
pub(crate) enum Event {
    /// Something is to pass, and the clock may have ended the session.
    Ask,
    /// One side has closed its half, and the other was told.
    HalfClosed,
    /// The connection broke, or both halves are closed.
    Gone,
    /// The end of a frame cannot be told.
    Broken,
}

/// How a bridge came to its end.
enum End {
    /// The session, the store or the gateway ended it.
    Cut(Cut),
    /// A frame made no sense.
    Broken,
    /// The sides ended it themselves.
    Gone,
}

impl Bridge {
    pub(crate) const fn new(client: Wire, upstream: Wire) -> Self {
        Self { client, upstream, up: Flow::new(), down: Flow::new(), listener: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>, guard: Option<&Guard>) -> Poll<Event> {
        // Once for all frames that go through together: to note it takes a look at the clock.
        let mut data = false;
        let note = |told: Told<'_>| match (told, guard) {
            (Told::Head(head), _) => data |= head.is_data(),
            (Told::Bytes(_), Some(guard)) if std::mem::take(&mut data) => guard.note_activity(),
            (Told::Bytes(_), _) => {}
        };
        let open = || guard.is_none_or(Guard::is_open);
        let (client, upstream) = (Pin::new(&mut self.client), Pin::new(&mut self.upstream));
        if let Poll::Ready(event) = self.up.poll(cx, client, upstream, open, note) {
            return Poll::Ready(event);
        }
        let (client, upstream) = (Pin::new(&mut self.client), Pin::new(&mut self.upstream));
        let listener = &mut self.listener;
        let hear = |told: Told<'_>| match told {
            Told::Bytes(bytes) if listener.as_mut().is_some_and(|hear| hear(bytes)) => *listener = None,
            Told::Head(_) | Told::Bytes(_) => {}
        };
        if let Poll::Ready(event) = self.down.poll(cx, upstream, client, open, hear) {
            return Poll::Ready(event);
        }
        if self.up.shut && self.down.shut { Poll::Ready(Event::Gone) } else { Poll::Pending }
    }

    /// Relays until there is nothing more to relay, or it must not go on.
    async fn relay(&mut self, guard: Option<&Guard>, ended: impl Future<Output = Cut>) -> End {
        let mut ended = pin!(ended);
        let mut half_open: Option<Pin<Box<Sleep>>> = None;
        loop {
            let turn = poll_fn(|cx| {
                if let Poll::Ready(cut) = ended.as_mut().poll(cx) {
                    return Poll::Ready(Err(cut));
                }
                if half_open.as_mut().is_some_and(|limit| limit.as_mut().poll(cx).is_ready()) {
                    return Poll::Ready(Ok(Event::Gone));
                }
                self.poll(cx, guard).map(Ok)
            });
            match turn.await {
                Err(cut) => return End::Cut(cut),
                Ok(Event::Ask) => {
                    if let Some(guard) = guard
                        && let Err(cut) = guard.pass().await
                    {
                        return End::Cut(cut);
                    }
                }
                Ok(Event::HalfClosed) => half_open = Some(Box::pin(sleep(HALF_OPEN))),
                Ok(Event::Broken) => return End::Broken,
                Ok(Event::Gone) => return End::Gone,
            }
        }
    }
}

/// Relays, and closes as the end asks for.
pub(crate) async fn run(mut bridge: Bridge, guard: &Guard) {
    let end = bridge.relay(Some(guard), guard.ended()).await;
    finish(bridge, end).await;
}

/// The same where there is no session that could end, only the gateway.
pub(crate) async fn run_unguarded(mut bridge: Bridge, closing: &CancellationToken) {
    let stops = async {
        closing.cancelled().await;
        Cut::Shutdown
    };
    let end = bridge.relay(None, stops).await;
    finish(bridge, end).await;
}

async fn finish(bridge: Bridge, end: End) {
    // Apart, so that a connection that only idles does not carry the room that its end takes.
    match end {
        End::Cut(cut) => Box::pin(ending::close(bridge, None, cut.close_code(), cut.reason())).await,
        End::Broken => Box::pin(ending::close(bridge, None, 1002, "a frame of impossible length")).await,
        End::Gone => {}
    }
}

/// What has gone through.
#[derive(Clone, Copy)]
pub(crate) enum Told<'a> {
    /// The header of a frame.
    Head(Head),
    /// Some bytes.
    Bytes(&'a [u8]),
}

/// Hears what goes to the client, until it answers that it has heard enough.
pub(crate) type Listener = Box<dyn FnMut(&[u8]) -> bool + Send>;

/// One direction.
pub(crate) struct Flow {
    /// Where the receiver's end stands: by what was written to it, not by what was read.
    pub(crate) frames: Frames,
    /// Read, and not written yet.
    pub(crate) pending: Bytes,
    /// A close frame has gone through, and is the last there may be.
    pub(crate) closing: bool,
    /// The sender is at its end.
    over: bool,
    /// The receiver was told so.
    shut: bool,
    /// Written, and perhaps not sent.
    unsent: bool,
}

impl Flow {
    pub(crate) const fn new() -> Self {
        let pending = Bytes::new();
        Self { frames: Frames::new(), pending, closing: false, over: false, shut: false, unsent: false }
    }

    /// Takes in that these bytes were written; false where the frames make no sense.
    pub(crate) fn wrote(&mut self, bytes: &[u8], mut tell: impl FnMut(Told<'_>)) -> bool {
        let closing = &mut self.closing;
        self.unsent = true;
        let told = self.frames.advance(bytes, |head| {
            *closing |= head.opcode == CLOSE;
            tell(Told::Head(head));
        });
        tell(Told::Bytes(bytes));
        told.is_ok()
    }

    pub(crate) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
        open: impl Fn() -> bool,
        mut tell: impl FnMut(Told<'_>),
    ) -> Poll<Event>
    where
        R: AsyncRead,
        W: AsyncWrite,
    {
        while !self.shut {
            if !self.pending.is_empty() {
                if !open() {
                    return Poll::Ready(Event::Ask);
                }
                let Ok(n) = ready!(to.as_mut().poll_write(cx, &self.pending)) else { return Poll::Ready(Event::Gone) };
                let written = self.pending.split_to(n);
                if n == 0 || !self.wrote(&written, &mut tell) {
                    return Poll::Ready(if n == 0 { Event::Gone } else { Event::Broken });
                }
                continue;
            }
            if self.over {
                let _ = ready!(to.as_mut().poll_shutdown(cx));
                self.shut = true;
                return Poll::Ready(Event::HalfClosed);
            }
            let mut space = [const { MaybeUninit::<u8>::uninit() }; CHUNK];
            let mut buffer = ReadBuf::uninit(&mut space);
            match from.as_mut().poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Event::Gone),
                Poll::Pending => {
                    if self.unsent {
                        let Ok(()) = ready!(to.as_mut().poll_flush(cx)) else { return Poll::Ready(Event::Gone) };
                        self.unsent = false;
                    }
                    return Poll::Pending;
                }
            }
            let mut bytes = buffer.filled();
            self.over = bytes.is_empty();
            if !bytes.is_empty() && open() {
                // Straight through, as nearly always.
                match to.as_mut().poll_write(cx, bytes) {
                    Poll::Ready(Ok(n)) => {
                        if !self.wrote(&bytes[..n], &mut tell) {
                            return Poll::Ready(Event::Broken);
                        }
                        bytes.advance(n);
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(Event::Gone),
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
