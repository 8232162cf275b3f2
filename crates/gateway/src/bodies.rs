//! Bodies on their way through: never held, never copied, and stopped when they may go no further.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::exchange::is_of_type;
use crate::live::Cut;
use crate::watch::Watch;

/// A body up to this size is passed on at once or waited for, whatever its reader does.
const SMALL: u64 = 64 * 1024;

/// How far a request's body has come.
#[derive(Default)]
pub(crate) struct Progress(AtomicU64);

impl Progress {
    const DONE: u64 = u64::MAX;

    /// How many pieces have passed; `None` once all have.
    pub(crate) fn pieces(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|pieces| *pieces != Self::DONE)
    }
}

/// A request's body on its way to the upstream. Trailers stay behind: nobody has checked what they claim.
pub(crate) struct Upload {
    body: Incoming,
    progress: Arc<Progress>,
}

impl Upload {
    pub(crate) fn new(body: Incoming) -> (Self, Arc<Progress>) {
        let progress = Arc::new(Progress::default());
        if body.is_end_stream() {
            progress.0.store(Progress::DONE, Ordering::Relaxed);
        }
        (Self { body, progress: progress.clone() }, progress)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => {
                self.progress.0.store(Progress::DONE, Ordering::Relaxed);
                return Poll::Ready(None);
            }
            Poll::Ready(Some(Ok(_))) => {
                self.progress.0.fetch_add(1, Ordering::Relaxed);
            }
            Poll::Ready(None | Some(Err(_))) => self.progress.0.store(Progress::DONE, Ordering::Relaxed),
        }
        polled
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
    /// The upstream did.
    #[error("the upstream broke off")]
    Upstream(#[source] axum::BoxError),
    /// The session ended.
    #[error("cut: {}", .0.reason())]
    Cut(Cut),
}

/// A response's body on its way to the client, cut when its session ends.
pub(crate) struct Watched<B> {
    body: B,
    watch: Watch,
    /// Has no end of its own (server-sent events), so it ends when the gateway stops.
    endless: bool,
}

impl<B: Body> Watched<B> {
    pub(crate) fn new(body: B, mut watch: Watch, endless: bool) -> Self {
        // A slow reader can make anything else last, without anybody waiting here.
        if body.size_hint().upper().is_none_or(|most| most > SMALL) {
            watch.begin();
        }
        Self { body, watch, endless }
    }

    fn ended(&self, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        match cut {
            Cut::Shutdown => Poll::Ready(None),
            cut => Poll::Ready(Some(Err(BrokeOff::Cut(cut)))),
        }
    }
}

impl<B> Body for Watched<B>
where
    B: Body<Data = Bytes, Error: Into<axum::BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        let this = &mut *self;
        if this.watch.lasts()
            && let Poll::Ready(cut) = this.watch.poll_cut(cx)
            && (cut != Cut::Shutdown || this.endless)
        {
            return this.ended(cut);
        }
        match this.watch.poll_pass(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(cut)) if cut != Cut::Shutdown || this.endless => return this.ended(cut),
            Poll::Ready(_) => {}
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            // What a connection's end said is of that connection.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() => Poll::Ready(None),
            Poll::Ready(frame) => {
                Poll::Ready(frame.map(|frame| frame.map_err(|error| BrokeOff::Upstream(error.into()))))
            }
            Poll::Pending => match this.watch.poll_cut(cx) {
                Poll::Ready(cut) if cut != Cut::Shutdown || this.endless => this.ended(cut),
                _ => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
