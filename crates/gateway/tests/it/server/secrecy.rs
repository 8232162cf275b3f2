//! What the gateway writes down: everything that it and its libraries say at the finest level, and no token in it.

use std::io;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tenure_domain::{Policy, Token};
use tenure_gateway::{EnrolmentOptions, SharedSecret, TlsFiles};
use tenure_tower::PublicPath;
use tracing_subscriber::fmt::MakeWriter;

use crate::server::tls::{certify, connect};
use crate::support::site::{GatewayFixture, echo};
use crate::support::{ADMIN, ENROL};

/// Takes all that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Neither a secret nor a piece of one that would be of use.
    #[track_caller]
    fn holds_none_of(&self, secrets: &[&str]) {
        let text = String::from_utf8_lossy(&self.0.lock()).into_owned();
        for secret in secrets {
            // A token's last 32 characters are of its secret and its checksum.
            let piece = &secret[secret.len().saturating_sub(32)..];
            if let Some(at) = text.find(piece) {
                panic!("a secret is in the log: {}", &text[text[..at].rfind('\n').unwrap_or(0)..at + piece.len()]);
            }
        }
    }
}

// All tasks of the test run on this thread, and so does what they log.
#[tokio::test]
async fn no_token_and_no_secret_is_logged_at_the_finest_level() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let folder = tempfile::tempdir().unwrap();
    let files = TlsFiles { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    let certificate = certify(&files);
    for tls in [false, true] {
        let site = GatewayFixture::with(Some(echo().await), Policy::default(), |options| {
            options.public_paths = vec![PublicPath("/open/".to_owned())];
            options.enrolment = Some(EnrolmentOptions {
                secret: SharedSecret::new(ENROL).unwrap(),
                subject: tenure_domain::Subject::new("alice").unwrap(),
            });
            options.auto_rotate_cookies = true;
            options.tls = tls.then(|| files.clone());
        })
        .await;
        let (issued, token) = site.issue("laptop").await;
        let (ended, over) = site.issue("ended").await;
        site.revoke(&ended).await;
        let forged = Token::new(issued.session.id, ended.token.secret().clone()).to_text().expose().to_owned();
        if tls {
            over_http2(&site, &certificate, &token).await;
        } else {
            over_http1(&site, &token, &over, &forged).await;
        }
        log.holds_none_of(&[&token, &over, &forged, ADMIN, ENROL]);
        site.stop().await;
        log.holds_none_of(&[&token, &over, &forged, ADMIN, ENROL]);
    }
    let text = String::from_utf8_lossy(&log.0.lock()).into_owned();
    for part in ["TRACE", "DEBUG", "hyper"] {
        assert!(text.contains(part), "nothing of {part} was logged: {text}");
    }
}

async fn over_http1(site: &GatewayFixture, token: &str, over: &str, forged: &str) {
    let origin = "origin: http://tenure.test";
    let form = "content-type: application/x-www-form-urlencoded";
    for token in [token, over, forged, &token[..token.len() - 1]] {
        for line in [
            format!("authorization: Bearer {token}"),
            format!("cookie: a=\u{e9}; tenure={token}"),
            format!("cookie: tenure={token}; tenure=x"),
            format!("sec-websocket-protocol: tenure.bearer.{token}"),
            format!("authorization: Token {token}"),
        ] {
            for path in ["/", "/open/a", "/_tenure/auth", "/_tenure/v1/sessions", "/_tenure/login", "/#"] {
                site.get(path, &[&line]).await;
            }
            let upgrade = ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13"];
            let key = "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==";
            site.get("/live", &[&line, upgrade[0], upgrade[1], upgrade[2], key, origin]).await;
        }
        site.ask("POST", "/_tenure/login", &[origin, form], &format!("token={token}")).await;
        site.ask("POST", "/_tenure/login", &[origin], &format!("token={token}")).await;
    }
    for secret in [ADMIN, ENROL] {
        let line = format!("authorization: Bearer {secret}");
        let json = "content-type: application/json";
        site.ask("POST", "/_tenure/v1/sessions", &[&line, json], "{\"deviceId\":\"d\"}").await;
    }
    site.store.set_down(true);
    site.get("/", &[&format!("authorization: Bearer {token}")]).await;
    site.store.set_down(false);
    let cookie = format!("cookie: tenure={token}");
    site.ask("POST", "/_tenure/v1/token/rotate", &[&cookie, origin], "").await;
    site.ask("POST", "/_tenure/logout", &[&cookie, origin], "").await;
}

async fn over_http2(site: &GatewayFixture, certificate: &rustls::pki_types::CertificateDer<'static>, token: &str) {
    let io = connect(site.address, certificate, b"h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    for path in ["/", "/open/a", "/_tenure/auth", "/_tenure/login"] {
        for crumbs in [vec!["a=1", "b=2"], vec![]] {
            let mut request = http::Request::builder().uri(format!("https://tenure.test{path}"));
            for crumb in &crumbs {
                request = request.header("cookie", *crumb);
            }
            request = match crumbs.is_empty() {
                true => request.header("authorization", format!("Bearer {token}")),
                false => request.header("cookie", format!("__Host-tenure={token}")).header("cookie", "c=3"),
            };
            let response = sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
            assert!(response.status().is_success(), "{path}: {response:?}");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            if path == "/" && !crumbs.is_empty() {
                let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
                assert_eq!(told["headers"]["cookie"], "a=1; b=2; c=3", "crumbs are one cookie for HTTP/1.1");
            }
        }
    }
}
