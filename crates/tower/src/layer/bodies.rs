//! The bodies of requests and responses that pass through the layer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use crate::BoxError;
use crate::response_guard::Exchange;
use crate::response_guard::body::{GuardedBody, GuardedUpload, RevocableBody};

/// The body of a request that [`TenureLayer`](super::TenureLayer) let through. Reading it fails once the session has ended.
pub struct RequestBody<B>(RequestBodyKind<B>);

enum RequestBodyKind<B> {
    Open(Pin<Box<B>>),
    Guarded(GuardedUpload<RevocableBody<Pin<Box<B>>>>),
}

impl<B: Body + Send + 'static> RequestBody<B> {
    pub(super) fn open(body: B) -> Self {
        Self(RequestBodyKind::Open(Box::pin(body)))
    }

    pub(super) fn guarded(body: B, exchange: &Arc<Exchange>) -> Self {
        if body.is_end_stream() {
            return Self::open(body);
        }
        let body = RevocableBody::new(Box::pin(body), exchange);
        Self(RequestBodyKind::Guarded(GuardedUpload::new(body, exchange.clone())))
    }
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(match &mut self.0 {
            RequestBodyKind::Open(body) => ready!(body.as_mut().poll_frame(cx)).map(|frame| frame.map_err(Into::into)),
            RequestBodyKind::Guarded(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(Into::into))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            RequestBodyKind::Open(body) => body.is_end_stream(),
            RequestBodyKind::Guarded(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            RequestBodyKind::Open(body) => body.size_hint(),
            RequestBodyKind::Guarded(body) => body.size_hint(),
        }
    }
}

/// The body of a response of a service behind [`TenureLayer`](super::TenureLayer). It fails once the session has ended.
pub struct ResponseBody<B>(ResponseBodyKind<B>);

enum ResponseBodyKind<B> {
    Problem(Full<Bytes>),
    Open(Pin<Box<B>>),
    Guarded(GuardedBody<RevocableBody<Pin<Box<B>>>>),
}

impl<B> ResponseBody<B> {
    pub(super) const fn problem(body: Full<Bytes>) -> Self {
        Self(ResponseBodyKind::Problem(body))
    }
}

impl<B: Body + Send + 'static> ResponseBody<B> {
    pub(super) fn open(body: B) -> Self {
        Self(ResponseBodyKind::Open(Box::pin(body)))
    }

    pub(super) fn guarded(body: B, exchange: Arc<Exchange>, endless: bool) -> Self {
        if body.is_end_stream() {
            return Self::open(body);
        }
        let body = RevocableBody::new(Box::pin(body), &exchange);
        Self(ResponseBodyKind::Guarded(GuardedBody::new(body, exchange, None, endless).with_trailers()))
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(match &mut self.0 {
            ResponseBodyKind::Problem(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(|never| match never {}))
            }
            ResponseBodyKind::Open(body) => ready!(body.as_mut().poll_frame(cx)).map(|frame| frame.map_err(Into::into)),
            ResponseBodyKind::Guarded(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(Into::into))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            ResponseBodyKind::Problem(body) => body.is_end_stream(),
            ResponseBodyKind::Open(body) => body.is_end_stream(),
            ResponseBodyKind::Guarded(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            ResponseBodyKind::Problem(body) => body.size_hint(),
            ResponseBodyKind::Open(body) => body.size_hint(),
            ResponseBodyKind::Guarded(body) => body.size_hint(),
        }
    }
}
