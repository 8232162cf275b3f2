//! Connections to the server behind the gateway: pooled for requests, one of its own for each WebSocket.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::bodies::Upload;

/// How long an unused connection is kept: shorter than servers usually do (Node: 5 s), so that they seldom close one
/// just as a request leaves on it.
const IDLE: Duration = Duration::from_secs(4);
/// Unused connections kept at most.
const IDLE_MAX: usize = 512;

/// The pool of connections.
pub(crate) type Pool = Client<Dial, Upload>;

pub(crate) fn pool(dial: Dial) -> Pool {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_MAX)
        // Only what never left: hyper hands such a request back.
        .retry_canceled_requests(true)
        .set_host(false)
        .build(dial)
}

/// Opens connections.
#[derive(Clone)]
pub(crate) struct Dial {
    tls: Arc<OnceLock<Arc<rustls::ClientConfig>>>,
    patience: Duration,
}

impl Dial {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { tls: Arc::default(), patience }
    }

    /// Connects to the host of a URL, and speaks TLS with it where the URL is `https`.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::TimedOut`] after the patience.
    pub(crate) async fn connect(&self, uri: &Uri) -> io::Result<Wire> {
        tokio::time::timeout(self.patience, self.connect_at_leisure(uri))
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")))
    }

    async fn connect_at_leisure(&self, uri: &Uri) -> io::Result<Wire> {
        let invalid = |what: &'static str| io::Error::new(io::ErrorKind::InvalidInput, what);
        let host = uri.host().ok_or_else(|| invalid("the upstream has no host"))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let secure = uri.scheme() == Some(&Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream = TcpStream::connect((bare, port)).await?;
        stream.set_nodelay(true)?;
        if !secure {
            return Ok(Wire::Plain(stream));
        }
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| invalid("the upstream's name is none"))?;
        let stream = TlsConnector::from(self.tls()?).connect(name, stream).await?;
        Ok(Wire::Tls(Box::new(stream)))
    }

    /// The system's certificate authorities, read when first needed.
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

impl tower::Service<Uri> for Dial {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Wire>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move { dial.connect(&uri).await.map(TokioIo::new) })
    }
}

/// A connection to the upstream.
pub(crate) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

macro_rules! on_either {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Wire::Plain(stream) => {
                let $stream = Pin::new(stream);
                $call
            }
            Wire::Tls(stream) => {
                let $stream = Pin::new(&mut **stream);
                $call
            }
        }
    };
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Wire {
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
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_either!(self, stream => stream.poll_shutdown(cx))
    }
}
