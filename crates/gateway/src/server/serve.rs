//! One connection: its requests answered one after the other (HTTP/1.1) or at once (HTTP/2), until it has nothing to say
//! any more or the gateway stops.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::{CONNECTION, STRICT_TRANSPORT_SECURITY};
use http::{HeaderValue, Request, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::heads::{Screened, Unclear};
use super::room::Use;
use super::{Ends, LINGER, Site};
use crate::admin::Proven;
use crate::front::{ask_router, check};
use crate::peer::Connection;
use crate::problem::Problem;
use crate::stall::Stall;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at once on one HTTP/2 connection.
const STREAMS: u32 = 128;

/// A connection and what goes on there.
pub(super) struct Line {
    connection: Connection,
    /// Whoever asks here has to prove that he may.
    guarded: bool,
    /// Somebody has.
    proven: Proven,
    /// Requests that are being answered.
    under_way: AtomicU32,
    /// Requests that there ever were.
    begun: AtomicU64,
    /// The head that is refused, and all after it.
    unclear: OnceLock<Unclear>,
    /// It speaks another protocol than HTTP by now.
    switched: AtomicBool,
    /// It ends at once, whatever it waits for.
    end: CancellationToken,
}

tokio::task_local! {
    /// Ends the stream of HTTP/2 that a task serves.
    static STREAM: CancellationToken;
}

/// Runs the streams of HTTP/2 so that each can be ended though its client reads nothing: dropped, it is reset.
#[derive(Clone, Copy)]
struct Streams;

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let end = CancellationToken::new();
        let ended = end.clone();
        tokio::spawn(STREAM.scope(end, async move {
            tokio::select! {
                biased;
                () = stream => {}
                () = ended.cancelled() => {}
            }
        }));
    }
}

impl Line {
    pub(super) fn new(connection: Connection, guarded: bool) -> Arc<Self> {
        Arc::new(Self {
            connection,
            guarded,
            proven: Proven::default(),
            under_way: AtomicU32::new(0),
            begun: AtomicU64::new(0),
            unclear: OnceLock::new(),
            switched: AtomicBool::new(false),
            end: CancellationToken::new(),
        })
    }

    /// The address at its other end.
    pub(super) const fn remote(&self) -> IpAddr {
        self.connection.remote()
    }

    /// How much it would be missed.
    pub(super) fn used(&self) -> Use {
        if self.switched.load(Ordering::Relaxed) {
            Use::Busy
        } else if self.under_way.load(Ordering::Relaxed) > 0 {
            if self.guarded && !self.proven.is() { Use::Unproven } else { Use::Busy }
        } else if self.begun.load(Ordering::Relaxed) > 0 {
            Use::Idle
        } else {
            Use::Silent
        }
    }

    /// Has it end at once.
    pub(super) fn leave(&self) {
        self.end.cancel();
    }

    /// Whether it ends.
    pub(super) fn is_leaving(&self) -> bool {
        self.end.is_cancelled()
    }

    #[cfg(test)]
    pub(super) fn begin_for_test(self: &Arc<Self>) -> impl Drop + use<> {
        UnderWay::begin(self).0
    }

    /// Whether heads of requests are looked for in what comes in.
    pub(super) fn is_followed(&self) -> bool {
        !self.switched.load(Ordering::Relaxed) && self.unclear.get().is_none()
    }

    /// Whether it speaks another protocol than HTTP by now.
    pub(super) fn is_switched(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
    }

    /// Has this head refused, and whatever would come after it.
    pub(super) fn refuse(&self, unclear: Unclear) {
        let _ = self.unclear.set(unclear);
    }

    /// Why the request that began as the `nth` is refused.
    pub(super) fn refusal(&self, nth: u64) -> Option<Problem> {
        let unclear = self.unclear.get().filter(|unclear| unclear.head <= nth)?;
        Some(Problem::BadRequest(unclear.text.to_owned()))
    }

    /// Ready where a request is under way, or more have begun than so many. Asked whenever the connection moved: it wakes
    /// nobody by itself.
    async fn is_asked(&self, begun: u64) {
        poll_fn(|_| {
            let asked = self.under_way.load(Ordering::Relaxed) > 0 || self.begun.load(Ordering::Relaxed) > begun;
            if asked { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// A request under way, to the last byte of its answer.
struct UnderWay(Arc<Line>);

impl UnderWay {
    /// Begins one; also how many there were before it.
    fn begin(line: &Arc<Line>) -> (Self, u64) {
        line.under_way.fetch_add(1, Ordering::Relaxed);
        let before = line.begun.fetch_add(1, Ordering::Relaxed);
        (Self(line.clone()), before)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn plain(stream: TcpStream, line: Arc<Line>, site: Site, ends: Ends) {
    let stream = Stall::new(stream, ends.limits.stall);
    over_http1(stream, line, site, ends).await;
}

pub(super) async fn tls(tls: TlsAcceptor, stream: TcpStream, line: Arc<Line>, site: Site, ends: Ends) {
    let remote = line.remote();
    let stream = Stall::new(stream, ends.limits.stall);
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => handshake,
        () = async { ends.soft.cancelled().await; tokio::time::sleep(LINGER).await } => return,
        () = line.end.cancelled() => return,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%remote, %error, "no TLS handshake"),
        Err(_) => return tracing::debug!(%remote, "TLS handshake took too long"),
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        over_http2(TokioIo::new(stream), line, site, ends).await;
    } else {
        over_http1(stream, line, site, ends).await;
    }
}

/// What both protocols' connections can do.
trait Serving: Future<Output = hyper::Result<()>> {
    /// Ends after the requests under way.
    fn finish(self: Pin<&mut Self>);
}

impl<I, S> Serving for http1::UpgradeableConnection<I, S>
where
    I: Read + Write + Unpin + Send + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Serving for http2::Connection<I, S, Streams>
where
    I: Read + Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    Streams: hyper::rt::bounds::Http2ServerConnExec<S::Future, Body>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn over_http1<I>(stream: I, line: Arc<Line>, site: Site, ends: Ends)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(Screened::new(stream, line.clone(), ends.limits.header_bytes, ends.half_heads.clone()));
    // hyper's own time-out sets and clears a timer with each request.
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_header_size(ends.limits.header_bytes);
    let service = service_fn(|request| answer(&site, &line, &line.end, request));
    drive(builder.serve_connection(stream, service).with_upgrades(), &line, &ends).await;
}

async fn over_http2<I>(stream: I, line: Arc<Line>, site: Site, ends: Ends)
where
    I: Read + Write + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(Streams);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(ends.limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(ends.limits.header)
        .keep_alive_timeout(HANDSHAKE_TIMEOUT);
    let service = {
        let line = line.clone();
        service_fn(move |request| {
            let (site, line) = (site.clone(), line.clone());
            async move {
                let end = STREAM.try_with(CancellationToken::clone).unwrap_or_else(|_| line.end.clone());
                answer(&site, &line, &end, request).await
            }
        })
    };
    drive(builder.serve_connection(stream, service), &line, &ends).await;
}

/// How far a connection is.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    /// The gateway stops, and nothing is asked here: a request may be on its way.
    Lingering,
    /// Told to end after the requests under way.
    Ending,
}

/// Serves a connection to its end. It is cut where no request has come for the time that a header may take, whether
/// nothing came at all or one in drops: one timer for all its requests.
async fn drive(serving: impl Serving, line: &Line, ends: &Ends) {
    let mut serving = pin!(serving);
    // Two in a row without a request are the time, give or take half.
    let mut tick = tokio::time::interval(ends.limits.header / 2);
    tick.reset();
    let (mut seen, mut quiet, mut phase) = (0, 0, Phase::Open);
    loop {
        tokio::select! {
            biased;
            outcome = serving.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(remote = %line.connection.remote(), %error, "connection ended");
                }
                return;
            }
            () = ends.soft.cancelled(), if phase == Phase::Open => {
                phase = Phase::Lingering;
                seen = line.begun.load(Ordering::Relaxed);
                tick.reset_after(LINGER);
            }
            () = line.is_asked(seen), if phase == Phase::Lingering => {
                phase = Phase::Ending;
                serving.as_mut().finish();
            }
            () = line.end.cancelled() => return,
            () = ends.hard.cancelled(), if phase != Phase::Open => return,
            _ = tick.tick() => {
                if phase == Phase::Lingering {
                    phase = Phase::Ending;
                    serving.as_mut().finish();
                    continue;
                }
                let begun = line.begun.load(Ordering::Relaxed);
                let idle = line.under_way.load(Ordering::Relaxed) == 0 && begun == seen;
                (seen, quiet) = (begun, if idle { quiet + 1 } else { 0 });
                if quiet == 2 {
                    tracing::debug!(remote = %line.connection.remote(), "no request in time");
                    return;
                }
            }
        }
    }
}

async fn answer(
    site: &Site,
    line: &Arc<Line>,
    end: &CancellationToken,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let (under_way, nth) = UnderWay::begin(line);
    if let Some(problem) = line.refusal(nth).or_else(|| check(&mut request).err()) {
        let mut response = problem.into_response();
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return Ok(response);
    }
    let mut response = match site {
        Site::Clients(front) => front.answer(&line.connection, end, request).await,
        Site::Operators(gate, router) => {
            request.extensions_mut().insert(line.proven.clone());
            Box::pin(ask_router(router.clone(), &line.connection, gate, request)).await
        }
    };
    if line.connection.tls()
        && let Some(age) = site.gate().options().hsts
        && let Ok(told) = HeaderValue::try_from(format!("max-age={}", age.as_secs()))
    {
        // Where the upstream says more itself, that holds.
        response.headers_mut().entry(STRICT_TRANSPORT_SECURITY).or_insert(told);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        line.switched.store(true, Ordering::Relaxed);
    }
    if response.body().is_end_stream() {
        return Ok(response);
    }
    Ok(response.map(|body| Body::new(Held { body, _under_way: under_way })))
}

/// The body of an answer under way.
struct Held {
    body: Body,
    _under_way: UnderWay,
}

impl http_body::Body for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
