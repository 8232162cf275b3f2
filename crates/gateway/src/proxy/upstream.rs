//! Connections to the upstream: pooled for requests, and a separate one for each WebSocket.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::uri::Scheme;
use http::{Extensions, Uri};
use http_body_util::{Either, Empty};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use tenure_tower::response_guard::Sever;
use tenure_tower::response_guard::body::GuardedUpload;

/// How long an unused connection is kept. It is shorter than in most servers (Node: 5 s), so that the upstream seldom
/// closes one just as a request is sent on it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The most unused connections in a pool.
const MAX_IDLE: usize = 512;
/// The most fields of a response.
pub(crate) const MAX_RESPONSE_FIELDS: usize = 1024;

/// Pooled connections. A request that is sent again has no body.
pub(crate) type Pool = Client<Connector, Either<GuardedUpload<Incoming, UpstreamConnection>, Empty<Bytes>>>;

/// The pools of connections for requests. If more fields than hyper's default (100) are allowed, each response needs 64
/// KiB of memory, which takes a twentieth of a request's time. So requests that change nothing use a pool with the
/// default, and are sent again if a response has more fields.
pub(crate) struct Pools {
    /// The pool for requests that change nothing.
    default_pool: Pool,
    /// The pool for all other requests, and for all requests once a response had more fields.
    many_fields_pool: Pool,
    has_many_fields: AtomicBool,
}

impl Pools {
    /// Makes pools over a connector that makes at most `most` connections. One pool never keeps three quarters of them
    /// unused while the other has to wait.
    pub(crate) fn new(connector: Connector, max_connections: usize) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE.min(max_connections / 4))
            // Only for requests that were never sent: hyper hands such a request back.
            .retry_canceled_requests(true)
            .set_host(false);
        let default_pool = builder.build(connector.clone());
        let many_fields_pool = builder.http1_max_headers(MAX_RESPONSE_FIELDS).build(connector);
        Self { default_pool, many_fields_pool, has_many_fields: AtomicBool::new(false) }
    }

    /// Returns the pool for a request. `is_safe` says whether it may be sent twice.
    pub(crate) fn pool_for(&self, is_safe: bool) -> &Pool {
        if is_safe && !self.has_many_fields.load(Ordering::Relaxed) {
            &self.default_pool
        } else {
            &self.many_fields_pool
        }
    }

    /// Returns the pool in which a request that failed here can be sent again. `None` if it would fail again.
    pub(crate) fn retry_pool<'a>(&'a self, tried: &'a Pool, error: &Error) -> Option<&'a Pool> {
        if std::ptr::eq(tried, &raw const self.default_pool) && has_too_many_fields(error) {
            self.has_many_fields.store(true, Ordering::Relaxed);
            return Some(&self.many_fields_pool);
        }
        closed_while_idle(error).then_some(tried)
    }
}

/// Whether the response had more or longer fields than its pool allows.
fn has_too_many_fields(error: &Error) -> bool {
    cause(error).is_some_and(hyper::Error::is_parse_too_large)
}

/// Returns hyper's error of a failed request that was sent or may have been.
pub(crate) fn cause(error: &Error) -> Option<&hyper::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// A connector that opens connections to the upstream.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: Arc<OnceLock<Arc<rustls::ClientConfig>>>,
    timeout: Duration,
    /// The number of connections that may still be opened.
    permits: Arc<Semaphore>,
}

impl Connector {
    /// Makes a connector that opens at most `most` connections.
    pub(crate) fn new(timeout: Duration, max_connections: usize) -> Self {
        Self {
            tls: Arc::default(),
            timeout,
            permits: Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS))),
        }
    }

    /// Connects to the host of a URL, over TLS if the URL is `https`.
    ///
    /// # Errors
    /// The system's error, or [`io::ErrorKind::TimedOut`].
    pub(crate) async fn connect(&self, uri: &Uri) -> io::Result<UpstreamStream> {
        tokio::time::timeout(self.timeout, self.connect_without_timeout(uri))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")))
    }

    async fn connect_without_timeout(&self, uri: &Uri) -> io::Result<UpstreamStream> {
        let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
        let host = uri.host().ok_or_else(|| invalid("the upstream has no host"))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let permit = self.permits.clone().acquire_owned().await.map_err(io::Error::other)?;
        let stream = TcpStream::connect((bare, port)).await?;
        stream.set_nodelay(true)?;
        if !secure {
            return Ok(UpstreamStream { stream: Stream::Plain(stream), _permit: permit });
        }
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| invalid("the upstream's name is invalid"))?;
        let stream = TlsConnector::from(self.tls()?).connect(name, stream).await?;
        Ok(UpstreamStream { stream: Stream::Tls(Box::new(stream)), _permit: permit })
    }

    /// Returns the system's certificate authorities, which are read when first needed.
    fn tls(&self) -> io::Result<Arc<rustls::ClientConfig>> {
        if let Some(config) = self.tls.get() {
            return Ok(config.clone());
        }
        let mut roots = rustls::RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(io::Error::other("the system has no certificate authorities: install ca-certificates"));
        }
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        Ok(self.tls.get_or_init(|| config).clone())
    }
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<PooledStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<PooledStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let stream = connector.connect(&uri).await?;
            Ok(TokioIo::new(PooledStream { stream, shared: Arc::default() }))
        })
    }
}

/// A connection to the upstream.
pub(crate) struct UpstreamStream {
    stream: Stream,
    _permit: OwnedSemaphorePermit,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A pooled connection that can be severed from outside, whatever it waits for.
pub(crate) struct PooledStream {
    stream: UpstreamStream,
    shared: Arc<Shared>,
}

/// The state of a pooled connection that its users share.
#[derive(Default)]
struct Shared {
    /// Whether the upstream has ever answered on the connection.
    answered: AtomicBool,
    severed: AtomicBool,
    /// Wakes the connection once it is severed.
    waker: AtomicWaker,
}

fn shared(connected: &Connected) -> Option<Arc<Shared>> {
    let mut extras = Extensions::new();
    connected.get_extras(&mut extras);
    extras.remove()
}

/// The connection on which a request is sent. It may be severed only while that request is in progress.
pub(crate) struct UpstreamConnection(pub(crate) CaptureConnection);

impl Sever for UpstreamConnection {
    fn sever(&self) {
        if let Some(shared) = self.0.connection_metadata().as_ref().and_then(shared) {
            shared.severed.store(true, Ordering::Release);
            shared.waker.wake();
        }
    }
}

impl PooledStream {
    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.shared.waker.register(cx.waker());
        if self.shared.severed.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl Connection for PooledStream {
    fn connected(&self) -> Connected {
        // One value, because each one costs an allocation per response.
        Connected::new().extra(self.shared.clone())
    }
}

impl AsyncRead for PooledStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.shared.answered.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for PooledStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Whether a request failed because the upstream closed a kept connection. As a rule it did so before it received this
/// request.
fn closed_while_idle(error: &Error) -> bool {
    let shared = error.connect_info().and_then(shared);
    shared.is_some_and(|shared| shared.answered.load(Ordering::Relaxed)) && is_closed(error)
}

/// Whether the upstream closed the connection in place of an answer.
fn is_closed(error: &Error) -> bool {
    let Some(cause) = cause(error) else { return false };
    let io = std::error::Error::source(cause).and_then(|cause| cause.downcast_ref::<io::Error>());
    let kinds = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionAborted];
    cause.is_incomplete_message() || cause.is_closed() || io.is_some_and(|io| kinds.contains(&io.kind()))
}

macro_rules! on_either {
    ($whole:expr, $stream:ident => $call:expr) => {
        match &mut $whole.get_mut().stream {
            Stream::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Stream::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_either!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_either!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => stream.poll_shutdown(cx))
    }
}
