//! Closing a connection whose client is still sending.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep};

/// The most bytes that are read of what a client sends after its response.
const MAX_DISCARDED: usize = 64 << 20;
/// How long a client may go on sending after its response, and how long it may pause.
const MAX_DURATION: Duration = Duration::from_secs(30);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A connection that is closed for writing and still read. If it were closed at once while its client sends, the system
/// would reset it, and the client might never see its response (RFC 9112 section 9.6).
pub(super) struct LingeringClose {
    discarded: usize,
    until: Instant,
    pause: Pin<Box<Sleep>>,
}

impl LingeringClose {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { discarded: 0, until: now + MAX_DURATION, pause: Box::pin(tokio::time::sleep_until(now + MAX_PAUSE)) }
    }

    /// Ready once the client has stopped sending, or has sent too much.
    pub(super) fn poll<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        is_mid_request: bool,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let mut room = [0; 8192];
        while self.discarded < MAX_DISCARDED {
            let mut buf = ReadBuf::new(&mut room);
            match Pin::new(&mut *stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                    self.discarded += buf.filled().len();
                    self.pause.as_mut().reset(self.until.min(Instant::now() + MAX_PAUSE));
                }
                Poll::Ready(_) => break,
                // The client may have seen its response, and keep the connection for its next request.
                Poll::Pending if !is_mid_request && self.discarded == 0 => break,
                Poll::Pending => return self.pause.as_mut().poll(cx),
            }
        }
        Poll::Ready(())
    }
}
