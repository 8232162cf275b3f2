//! Captures the first bytes from a server, in case it closes the connection: a server that refuses a connection says
//! why, and the client library does not pass that on.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use redis::Value;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::client::request_error::RequestError;

/// The most bytes that are kept.
const KEPT: usize = 1_024;

/// The first bytes from a server, and the error of reading from it.
#[derive(Clone, Default)]
pub(crate) struct ServerGreeting(Arc<Mutex<CapturedBytes>>);

#[derive(Default)]
struct CapturedBytes {
    text: Vec<u8>,
    failure: Option<String>,
}

impl ServerGreeting {
    /// The alert with which a server ended a connection over TLS.
    pub(crate) fn alert(&self) -> Option<String> {
        self.0.lock().failure.clone().filter(|failure| failure.contains("alert"))
    }

    /// Returns the first refusal among the bytes.
    pub(crate) fn refusal(&self) -> Option<RequestError> {
        let heard = self.0.lock();
        let line = heard.text.split(|byte| *byte == b'\n').find(|line| line.starts_with(b"-"))?;
        let line = [line.strip_suffix(b"\r").unwrap_or(line), b"\r\n"].concat();
        match redis::parse_redis_value(&line) {
            Ok(Value::ServerError(error)) => Some(RequestError::of_server(&error)),
            _ => None,
        }
    }
}

/// A stream whose first bytes are kept.
pub(crate) struct GreetingCapture<S> {
    stream: S,
    greeting: ServerGreeting,
    room: usize,
}

impl<S> GreetingCapture<S> {
    pub(crate) fn new(stream: S) -> (Self, ServerGreeting) {
        let greeting = ServerGreeting::default();
        (Self { stream, greeting: greeting.clone(), room: KEPT }, greeting)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for GreetingCapture<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut this.stream).poll_read(context, buffer);
        if let Poll::Ready(Err(error)) = &outcome {
            this.greeting.0.lock().failure = Some(error.to_string());
        }
        if this.room > 0 {
            let new = buffer.filled().get(before..).unwrap_or_default();
            let kept = new.get(..this.room).unwrap_or(new);
            this.greeting.0.lock().text.extend_from_slice(kept);
            this.room -= kept.len();
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for GreetingCapture<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
