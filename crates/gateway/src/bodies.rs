//! Bodies on their way through: never held, never copied, and stopped when they may go no further.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::BoxError;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::exchange::is_of_type;
use crate::live::Cut;
use crate::watch::{Asking, Exchange, LetGo, Side};

type Polled = Poll<Option<Result<Frame<Bytes>, BrokeOff>>>;

/// A request's body on its way to the upstream, stopped when its session ends. Trailers stay behind: nobody has checked
/// what they claim.
pub(crate) struct Upload<B = Incoming> {
    body: B,
    exchange: Arc<Exchange>,
    asking: Asking,
    /// Its reader was told that it ended early, and is told so once.
    cut: bool,
}

impl<B: Body> Upload<B> {
    pub(crate) fn new(body: B, exchange: Arc<Exchange>) -> Self {
        if body.is_end_stream() {
            exchange.all_passed();
        }
        Self { body, exchange, asking: Asking::default(), cut: false }
    }
}

impl<B> Drop for Upload<B> {
    fn drop(&mut self) {
        self.exchange.up_is_over();
    }
}

impl<B> Body for Upload<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let Self { body, exchange, asking, cut } = &mut *self;
        if *cut {
            return Poll::Ready(None);
        }
        let may = match exchange.poll_cut(Side::Up, cx) {
            // Requests under way may end.
            Poll::Pending | Poll::Ready(Cut::Shutdown) => ready!(exchange.poll_pass(asking, cx)),
            Poll::Ready(cut) => Err(cut),
        };
        if let Err(reason) = may {
            *cut = true;
            return Poll::Ready(Some(Err(BrokeOff::Cut(reason))));
        }
        let polled = ready!(Pin::new(body).poll_frame(cx));
        match &polled {
            Some(Ok(frame)) if frame.is_data() => exchange.passed(),
            _ => exchange.all_passed(),
        }
        let polled = polled.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers));
        Poll::Ready(polled.map(|frame| frame.map_err(|error| BrokeOff::Client(error.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether an answer has no end of its own.
pub(crate) fn is_endless(headers: &HeaderMap) -> bool {
    is_of_type(headers, "text/event-stream")
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BrokeOff {
    /// The client did.
    #[error("the client closed the connection early")]
    Client(#[source] BoxError),
    /// The upstream did.
    #[error("the upstream closed the connection early")]
    Upstream(#[source] BoxError),
    /// The session ended.
    #[error("cut: {}", .0.reason())]
    Cut(Cut),
}

/// A response's body on its way to the client, cut when its session ends.
pub(crate) struct Watched<B> {
    body: B,
    exchange: Arc<Exchange>,
    asking: Asking,
}

impl<B: Body> Watched<B> {
    /// `end` ends the client's stream or connection where the client does not read. `endless`: the body has no end of
    /// its own (server-sent events), so it ends when the gateway stops.
    pub(crate) fn new(body: B, exchange: Arc<Exchange>, end: Option<&CancellationToken>, endless: bool) -> Self {
        exchange.goes_down(end, endless);
        Self { body, exchange, asking: Asking::default() }
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        self.exchange.down_is_over();
    }
}

fn ended(cut: Cut) -> Polled {
    match cut {
        Cut::Shutdown => Poll::Ready(None),
        cut => Poll::Ready(Some(Err(BrokeOff::Cut(cut)))),
    }
}

impl<B> Body for Watched<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let Self { body, exchange, asking } = &mut *self;
        if let Poll::Ready(cut) = exchange.poll_cut(Side::Down, cx) {
            return ended(cut);
        }
        if let Err(cut) = ready!(exchange.poll_pass(asking, cx)) {
            return ended(cut);
        }
        // What a connection's end said is of that connection.
        let polled = ready!(Pin::new(body).poll_frame(cx));
        let polled = polled.filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers));
        Poll::Ready(polled.map(|frame| frame.map_err(|error| BrokeOff::Upstream(error.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that goes when its session ends, though its server does not read it.
pub(crate) struct Leased<B>(Arc<Slot<B>>);

struct Slot<B>(Mutex<Option<B>>);

impl<B: Body + Send + 'static> Leased<B> {
    pub(crate) fn new(body: B, exchange: &Exchange) -> Self {
        let slot = Arc::new(Slot(Mutex::new(Some(body))));
        let weak = Arc::downgrade(&slot);
        exchange.takes_along(weak);
        Self(slot)
    }
}

impl<B: Send> LetGo for Slot<B> {
    fn let_go(&self) {
        // Dropped without the lock: whoever it belongs to may ask for it.
        let body = self.0.lock().take();
        drop(body);
    }
}

impl<B: Body + Unpin> Body for Leased<B> {
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
