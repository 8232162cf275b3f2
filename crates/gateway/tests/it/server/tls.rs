//! TLS: HTTP/2 where the client speaks it, and a certificate that changes while the gateway runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName};
use tenure_domain::Policy;
use tenure_gateway::{Gateway, Options, ServeError, Server, SharedSecret, TlsFiles};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::site::{GatewayFixture, echo, until};

/// A new certificate for `tenure.test` in these files.
pub(crate) fn certify(files: &TlsFiles) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["tenure.test".to_owned()]).unwrap();
    std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    std::fs::write(&files.cert, made.cert.pem()).unwrap();
    made.cert.der().clone()
}

pub(crate) fn files(folder: &Path) -> TlsFiles {
    TlsFiles { cert: folder.join("cert.pem"), key: folder.join("key.pem") }
}

pub(crate) async fn connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("tenure.test").unwrap(), stream).await
}

#[tokio::test]
async fn clients_speak_http_1_or_2_and_the_upstream_learns_that_it_was_tls() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let certificate = certify(&files);
    let site = GatewayFixture::with(Some(echo().await), Policy::default(), |options| options.tls = Some(files)).await;
    let (_, token) = site.issue("laptop").await;
    for protocol in [&b"h2"[..], b"http/1.1"] {
        let io = connect(site.address, &certificate, protocol).await.unwrap();
        assert_eq!(io.get_ref().1.alpn_protocol(), Some(protocol));
        let request = http::Request::builder()
            .uri("https://tenure.test/path")
            .header("host", "tenure.test")
            .header("authorization", format!("Bearer {token}"))
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = if protocol == b"h2" {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(request).await.unwrap()
        };
        assert_eq!(response.status(), 200);
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let told: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(told["target"], "/path");
        assert_eq!(told["headers"]["host"], "tenure.test");
        assert_eq!(told["headers"]["x-forwarded-proto"], "https");
    }
    site.stop().await;
}

#[tokio::test]
async fn a_changed_certificate_is_taken_and_a_broken_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let old = certify(&files);
    let site =
        GatewayFixture::with(Some(echo().await), Policy::default(), |options| options.tls = Some(files.clone())).await;
    assert!(connect(site.address, &old, b"h2").await.is_ok());
    std::fs::write(&files.cert, "no certificate").unwrap();
    let new = certify(&files);
    until("the new certificate", async || connect(site.address, &new, b"h2").await.is_ok()).await;
    assert!(connect(site.address, &old, b"h2").await.is_err());
    site.stop().await;
}

#[tokio::test]
async fn what_keeps_a_gateway_from_starting_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    certify(&files);
    std::fs::write(&files.key, "no key").unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let site = GatewayFixture::with(None, Policy::default(), |_| {}).await;
    let mut options = Options::new(SharedSecret::new("x").unwrap());
    options.listen = taken.local_addr().unwrap();
    options.admin_listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let error = Server::bind(Gateway::new(site.sessions.clone(), options.clone())).await.unwrap_err();
    let address = options.listen;
    assert_eq!(
        error.to_string(),
        format!(
            "could not listen on {address} (gateway.listen): something else listens there: stop it, or choose another port"
        )
    );
    options.listen = options.admin_listen;
    options.tls = Some(files.clone());
    let error = Server::bind(Gateway::new(site.sessions.clone(), options)).await.unwrap_err();
    assert!(matches!(error, ServeError::Tls(_)), "{error:?}");
    assert!(error.to_string().starts_with(&format!("{}: not a private key", files.key.display())), "{error}");
    site.stop().await;
}

#[tokio::test]
async fn operators_get_the_same_certificate_where_it_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let certificate = certify(&files);
    let site = GatewayFixture::with(None, Policy::default(), |options| {
        options.tls = Some(files);
        options.admin_tls = Some(true);
    })
    .await;
    let io = connect(site.admin, &certificate, b"http/1.1").await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().uri("/healthz").header("host", "localhost");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    site.stop().await;
}
