//! Bodies of requests and responses, held to a session. A body passes without a copy, and stops when its session ends.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Exchange, NoUpstream, PendingCheck, Release, Sever, Waiter};
use crate::BoxError;
use crate::connection_registry::CloseReason;
use crate::request::list::has_media_type;

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// The body of a request on its way to the service or upstream. It fails when its session ends. Trailers are dropped,
/// because nothing has checked what they claim.
pub struct GuardedUpload<B, U: Sever = NoUpstream> {
    body: B,
    exchange: Arc<Exchange<U>>,
    check: PendingCheck,
    /// Whether the reader has already been told that the session ended. It is told once.
    closed: bool,
}

impl<B: Body, U: Sever> GuardedUpload<B, U> {
    /// Guards the body of the request of this exchange.
    pub fn new(body: B, exchange: Arc<Exchange<U>>) -> Self {
        if body.is_end_stream() {
            exchange.record_complete();
        }
        Self { body, exchange, check: PendingCheck::default(), closed: false }
    }
}

impl<B, U: Sever> Drop for GuardedUpload<B, U> {
    fn drop(&mut self) {
        self.exchange.clear_upstream();
    }
}

impl<B, U: Sever> Body for GuardedUpload<B, U>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let Self { body, exchange, check, closed } = &mut *self;
        if *closed {
            return Poll::Ready(None);
        }
        let allowed = match exchange.poll_closed(Waiter::RequestBody, cx) {
            // Requests in progress may end.
            Poll::Pending | Poll::Ready(CloseReason::Shutdown) => ready!(exchange.poll_check(check, cx)),
            Poll::Ready(reason) => Err(reason),
        };
        if let Err(reason) = allowed {
            *closed = true;
            return Poll::Ready(Some(Err(BodyError::Closed(reason))));
        }
        let polled = ready!(Pin::new(body).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) if frame.is_data() => exchange.record_piece(),
            _ => exchange.record_complete(),
        }
        let polled = polled.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers));
        Poll::Ready(polled.map(|frame| frame.map_err(|error| BodyError::Client(error.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether a response has no end of its own: server-sent events.
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    has_media_type(headers, "text/event-stream")
}

/// The reason why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client closed the connection early.
    #[error("the client closed the connection early")]
    Client(#[source] BoxError),
    /// The upstream closed the connection early.
    #[error("the upstream closed the connection early")]
    Upstream(#[source] BoxError),
    /// The session ended.
    #[error("cut: {}", .0.reason())]
    Closed(CloseReason),
}

/// The body of a response on its way to the client. It fails when its session ends.
pub struct GuardedBody<B, U: Sever = NoUpstream> {
    body: B,
    exchange: Arc<Exchange<U>>,
    check: PendingCheck,
    trailers: bool,
}

impl<B: Body, U: Sever> GuardedBody<B, U> {
    /// Guards the body of the response of this exchange. `stream` ends the client's stream or connection where the
    /// client does not read. `endless` says that the body has no end of its own (server-sent events), so it ends when
    /// the server stops.
    pub fn new(body: B, exchange: Arc<Exchange<U>>, stream: Option<&CancellationToken>, endless: bool) -> Self {
        exchange.set_client_stream(stream, endless);
        Self { body, exchange, check: PendingCheck::default(), trailers: false }
    }

    /// Passes trailers on, which a service of this process sent. Those of an upstream belong to its connection.
    #[must_use]
    pub const fn with_trailers(mut self) -> Self {
        self.trailers = true;
        self
    }
}

impl<B, U: Sever> Drop for GuardedBody<B, U> {
    fn drop(&mut self) {
        self.exchange.clear_client_stream();
    }
}

fn closed(reason: CloseReason) -> Polled {
    match reason {
        CloseReason::Shutdown => Poll::Ready(None),
        reason => Poll::Ready(Some(Err(BodyError::Closed(reason)))),
    }
}

impl<B, U: Sever> Body for GuardedBody<B, U>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let Self { body, exchange, check, trailers } = &mut *self;
        if let Poll::Ready(reason) = exchange.poll_closed(Waiter::ResponseBody, cx) {
            return closed(reason);
        }
        if let Err(reason) = ready!(exchange.poll_check(check, cx)) {
            return closed(reason);
        }
        let polled = ready!(Pin::new(body).poll_frame(cx));
        let polled = polled.filter(|frame| *trailers || !frame.as_ref().is_ok_and(Frame::is_trailers));
        Poll::Ready(polled.map(|frame| frame.map_err(|error| BodyError::Upstream(error.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that is dropped when its session ends, even if nothing reads it.
pub struct RevocableBody<B>(Arc<Slot<B>>);

struct Slot<B>(Mutex<Option<B>>);

impl<B: Body + Send + 'static> RevocableBody<B> {
    /// Makes a body that is dropped when the exchange's session ends.
    pub fn new<U: Sever>(body: B, exchange: &Exchange<U>) -> Self {
        let slot = Arc::new(Slot(Mutex::new(Some(body))));
        let weak = Arc::downgrade(&slot);
        exchange.release_on_close(weak);
        Self(slot)
    }
}

impl<B: Send> Release for Slot<B> {
    fn release(&self) {
        // Dropped after the lock is released: the body's own drop may need it.
        let body = self.0.lock().take();
        drop(body);
    }
}

impl<B: Body + Unpin> Body for RevocableBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.0.0.lock().as_mut() {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.0.lock().as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.0.lock().as_ref().map_or_else(SizeHint::new, Body::size_hint)
    }
}
