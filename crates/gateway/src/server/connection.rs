//! One connection of a client. Its requests are answered one after the other (HTTP/1.1) or concurrently (HTTP/2), until
//! the client is done or the gateway stops.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
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

use super::connection_state::{ConnectionState, RequestInProgress};
use super::request_check::check;
use super::role::{LINGER, Role, Shutdown};
use super::router::call_router;
use super::smuggling_guard::SmugglingGuard;
use super::write_timeout::WriteTimeout;

/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The most concurrent requests on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

tokio::task_local! {
    /// Ends the HTTP/2 stream that the task serves.
    static STREAM: CancellationToken;
}

/// An executor for HTTP/2 streams. It can end each stream even if its client reads nothing: a dropped stream is reset.
#[derive(Clone, Copy)]
struct StreamExecutor;

impl<F> hyper::rt::Executor<F> for StreamExecutor
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

pub(super) async fn serve_plain(stream: TcpStream, state: Arc<ConnectionState>, role: Role, shutdown: Shutdown) {
    let stream = WriteTimeout::new(stream, shutdown.limits.stall);
    serve_http1(stream, state, role, shutdown).await;
}

pub(super) async fn serve_tls(
    tls: TlsAcceptor,
    stream: TcpStream,
    state: Arc<ConnectionState>,
    role: Role,
    shutdown: Shutdown,
) {
    let remote = state.remote();
    let stream = WriteTimeout::new(stream, shutdown.limits.stall);
    let handshake = tokio::select! {
        handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)) => handshake,
        () = async { shutdown.graceful.cancelled().await; tokio::time::sleep(LINGER).await } => return,
        () = state.end.cancelled() => return,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%remote, %error, "no TLS handshake"),
        Err(_) => return tracing::debug!(%remote, "TLS handshake took too long"),
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        serve_http2(TokioIo::new(stream), state, role, shutdown).await;
    } else {
        serve_http1(stream, state, role, shutdown).await;
    }
}

/// A connection of either protocol.
trait ServedConnection: Future<Output = hyper::Result<()>> {
    /// Ends after the requests in progress.
    fn finish(self: Pin<&mut Self>);
}

impl<I, S> ServedConnection for http1::UpgradeableConnection<I, S>
where
    I: Read + Write + Unpin + Send + 'static,
    S: hyper::service::HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> ServedConnection for http2::Connection<I, S, StreamExecutor>
where
    I: Read + Write + Unpin,
    S: hyper::service::HttpService<Incoming, ResBody = Body>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    StreamExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, Body>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn serve_http1<I>(stream: I, state: Arc<ConnectionState>, role: Role, shutdown: Shutdown)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = TokioIo::new(SmugglingGuard::new(
        stream,
        state.clone(),
        shutdown.limits.header_bytes,
        shutdown.partial_heads.clone(),
    ));
    // hyper's own timeout would set and clear a timer with each request.
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_header_size(shutdown.limits.header_bytes);
    let service = service_fn(|request| answer(&role, &state, &state.end, request));
    drive(builder.serve_connection(stream, service).with_upgrades(), &state, &shutdown).await;
}

async fn serve_http2<I>(stream: I, state: Arc<ConnectionState>, role: Role, shutdown: Shutdown)
where
    I: Read + Write + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(StreamExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(u32::try_from(shutdown.limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(shutdown.limits.header)
        .keep_alive_timeout(HANDSHAKE_TIMEOUT);
    let service = {
        let state = state.clone();
        service_fn(move |request| {
            let (role, state) = (role.clone(), state.clone());
            async move {
                let end = STREAM.try_with(CancellationToken::clone).unwrap_or_else(|_| state.end.clone());
                answer(&role, &state, &end, request).await
            }
        })
    };
    drive(builder.serve_connection(stream, service), &state, &shutdown).await;
}

/// The phase of a connection.
#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    /// The gateway is stopping and the connection is idle, but a request may be on its way.
    Lingering,
    /// The connection is to end after the requests in progress.
    Ending,
}

/// Serves a connection to its end. It is closed if no request came within the time that a header may take, whether
/// nothing came or a header came too slowly. There is one timer for all its requests.
async fn drive(serving: impl ServedConnection, state: &ConnectionState, shutdown: &Shutdown) {
    let mut serving = pin!(serving);
    // Two ticks in a row without a request are the time, within half of it.
    let mut tick = tokio::time::interval(shutdown.limits.header / 2);
    tick.reset();
    let (mut seen, mut quiet, mut phase) = (0, 0, Phase::Open);
    loop {
        tokio::select! {
            biased;
            outcome = serving.as_mut() => {
                if let Err(error) = outcome {
                    tracing::debug!(remote = %state.connection.remote(), %error, "connection ended");
                }
                return;
            }
            () = shutdown.graceful.cancelled(), if phase == Phase::Open => {
                phase = Phase::Lingering;
                seen = state.begun.load(Ordering::Relaxed);
                tick.reset_after(LINGER);
            }
            () = state.has_request(seen), if phase == Phase::Lingering => {
                phase = Phase::Ending;
                serving.as_mut().finish();
            }
            () = state.end.cancelled() => return,
            () = shutdown.forced.cancelled(), if phase != Phase::Open => return,
            _ = tick.tick() => {
                if phase == Phase::Lingering {
                    phase = Phase::Ending;
                    serving.as_mut().finish();
                    continue;
                }
                let begun = state.begun.load(Ordering::Relaxed);
                let idle = state.in_progress.load(Ordering::Relaxed) == 0 && begun == seen;
                (seen, quiet) = (begun, if idle { quiet + 1 } else { 0 });
                if quiet == 2 {
                    tracing::debug!(remote = %state.connection.remote(), "no request in time");
                    return;
                }
            }
        }
    }
}

async fn answer(
    role: &Role,
    state: &Arc<ConnectionState>,
    end: &CancellationToken,
    mut request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let (in_progress, nth) = RequestInProgress::begin(state);
    if let Some(problem) = state.refusal(nth).or_else(|| check(&mut request).err()) {
        let mut response = problem.into_response();
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        return Ok(response);
    }
    let mut response = match role {
        Role::Clients(router) => router.answer(&state.connection, end, request).await,
        Role::Operators(gateway, router) => {
            request.extensions_mut().insert(state.authenticated.clone());
            Box::pin(call_router(router.clone(), &state.connection, gateway, request)).await
        }
    };
    if state.connection.tls()
        && let Some(age) = role.gateway().options().hsts
        && let Ok(told) = HeaderValue::try_from(format!("max-age={}", age.as_secs()))
    {
        // The upstream's own value takes precedence.
        response.headers_mut().entry(STRICT_TRANSPORT_SECURITY).or_insert(told);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        state.switched.store(true, Ordering::Relaxed);
    }
    if response.body().is_end_stream() {
        return Ok(response);
    }
    Ok(response.map(|body| Body::new(TrackedBody { body, _under_way: in_progress })))
}

/// The body of a response in progress.
struct TrackedBody {
    body: Body,
    _under_way: RequestInProgress,
}

impl http_body::Body for TrackedBody {
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
