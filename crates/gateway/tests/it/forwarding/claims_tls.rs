//! What must not be taken for another thing where the gateway speaks TLS itself, HTTP/2 in hand-made frames included.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use tenure_domain::Policy;
use tenure_gateway::Options;
use tenure_tower::PublicPath;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::forwarding::claims::Recorder;
use crate::server::tls::{certify, connect, files};
use crate::support::site::{GatewayFixture, TEST_TIMEOUT};

struct Secured {
    site: GatewayFixture,
    certificate: CertificateDer<'static>,
    _folder: tempfile::TempDir,
}

async fn secured(upstream: &Recorder, change: impl FnOnce(&mut Options)) -> Secured {
    let folder = tempfile::tempdir().unwrap();
    let files = files(folder.path());
    let certificate = certify(&files);
    let site = GatewayFixture::with(Some(upstream.address), Policy::default(), |options| {
        options.tls = Some(files);
        options.public_paths = vec![PublicPath("/public/".to_owned())];
        change(options);
    })
    .await;
    Secured { site, certificate, _folder: folder }
}

impl Secured {
    /// A request over HTTP/1.1, as these fields have it.
    async fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> http::Response<bytes::Bytes> {
        let io = connect(self.site.address, &self.certificate, b"http/1.1").await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::builder().method(method).uri(path).header("host", "tenure.test");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        http::Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
    }

    /// The `:status` index of the answer to a hand-made HTTP/2 request; `None` where the stream was reset.
    async fn ask_h2(&self, fields: &[(&str, &str)]) -> Option<u8> {
        let mut io = connect(self.site.address, &self.certificate, b"h2").await.unwrap();
        let mut block = Vec::new();
        for (name, value) in fields {
            // A literal that is not indexed (RFC 7541 section 6.2.2), and no Huffman coding.
            block.extend([0, u8::try_from(name.len()).unwrap()]);
            block.extend(name.as_bytes());
            block.push(u8::try_from(value.len()).unwrap());
            block.extend(value.as_bytes());
        }
        let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
            let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
            [&[0, length[0], length[1], kind, flags, 0, 0, 0, stream][..], payload].concat()
        };
        let asked =
            [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[]), frame(1, 5, 1, &block)].concat();
        io.write_all(&asked).await.unwrap();
        let answer = async {
            loop {
                let mut head = [0; 9];
                io.read_exact(&mut head).await.unwrap();
                let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
                io.read_exact(&mut payload).await.unwrap();
                match (head[3], head[8]) {
                    // `:status` comes first: as an entry of the static table, or as a literal with such a name.
                    (1, 1) => return payload.iter().copied().find(|byte| *byte >= 0x80 || *byte == 0x08),
                    (3, 1) | (7, _) => return None,
                    _ => {}
                }
            }
        };
        tokio::time::timeout(TEST_TIMEOUT, answer).await.expect("an answer")
    }
}

/// `:status` 204 and 400 in the static table of HPACK.
const NO_CONTENT: Option<u8> = Some(0x80 | 9);
const BAD_REQUEST: Option<u8> = Some(0x80 | 12);

#[tokio::test]
async fn over_http_2_there_is_one_sound_host_or_the_upstreams_own() {
    let upstream = Recorder::new().await;
    let secured = secured(&upstream, |_| {}).await;
    let own = upstream.address.to_string();
    let common = [(":method", "GET"), (":path", "/public/"), (":scheme", "https")];
    for (fields, status, host) in [
        (&[(":authority", "tenure.test")][..], NO_CONTENT, Some("tenure.test")),
        (&[(":authority", "tenure.test"), ("host", "tenure.test")], NO_CONTENT, Some("tenure.test")),
        (&[("host", "tenure.test")], NO_CONTENT, Some("tenure.test")),
        (&[], NO_CONTENT, Some(own.as_str())),
        (&[(":authority", "tenure.test"), ("host", "evil.test")], BAD_REQUEST, None),
        (&[("host", "tenure.test"), ("host", "evil.test")], BAD_REQUEST, None),
        (&[("host", "a/b@c d")], BAD_REQUEST, None),
        (&[(":authority", "user@tenure.test")], BAD_REQUEST, None),
        (&[(":authority", "tenure.test:99999")], BAD_REQUEST, None),
    ] {
        let answered = secured.ask_h2(&[&common[..], fields].concat()).await;
        // What is no authority at all may be a malformed stream to the HTTP/2 library.
        assert!(answered == status || (host.is_none() && answered.is_none()), "{fields:?}: {answered:?}");
        let heads = upstream.take();
        let hosts: Vec<_> = heads.iter().flatten().filter_map(|line| line.strip_prefix("host: ")).collect();
        assert_eq!(hosts, host.into_iter().collect::<Vec<_>>(), "{fields:?}");
    }
    secured.site.stop().await;
}

#[tokio::test]
async fn whoever_is_refused_while_it_sends_over_http_2_can_read_why() {
    let secured = secured(&Recorder::new().await, |_| {}).await;
    let io = connect(secured.site.address, &secured.certificate, b"h2").await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    let body = http_body_util::Full::new(bytes::Bytes::from(vec![b'a'; 8 << 20]));
    let request = http::Request::post("https://tenure.test/x").body(body).unwrap();
    let answer = tokio::time::timeout(TEST_TIMEOUT, sender.send_request(request)).await.expect("an answer").unwrap();
    assert_eq!(answer.status(), 401);
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&bytes).contains("token_required"));
    secured.site.stop().await;
}

#[tokio::test]
async fn a_page_in_clear_changes_nothing_over_tls() {
    let upstream = Recorder::new().await;
    let secured = secured(&upstream, |_| {}).await;
    let (_, token) = secured.site.issue("laptop").await;
    let cookie = format!("__Host-tenure={token}");
    for (origin, status) in
        [("http://tenure.test", 403), ("null", 403), ("https://evil.test", 403), ("https://tenure.test", 204)]
    {
        let fields = [("cookie", cookie.as_str()), ("origin", origin)];
        assert_eq!(secured.ask("POST", "/x", &fields).await.status(), status, "Origin: {origin}");
    }
    secured.site.stop().await;
}

#[tokio::test]
async fn browsers_are_told_of_tls_where_the_gateway_speaks_it_and_only_there() {
    let told = |answer: &http::Response<bytes::Bytes>| {
        let values = answer.headers().get_all("strict-transport-security").iter();
        values.map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let upstream = Recorder::new().await;
    let by_default = secured(&upstream, |_| {}).await;
    for path in ["/public/", "/x", "/_tenure/login", "/_tenure/auth", "/_tenure/nothing"] {
        assert_eq!(told(&by_default.ask("GET", path, &[]).await), ["max-age=31536000"], "{path}");
    }
    by_default.site.stop().await;
    let forgotten = secured(&upstream, |options| options.hsts = Some(Duration::ZERO)).await;
    assert_eq!(told(&forgotten.ask("GET", "/public/", &[]).await), ["max-age=0"]);
    forgotten.site.stop().await;
    let off = secured(&upstream, |options| options.hsts = None).await;
    assert_eq!(told(&off.ask("GET", "/public/", &[]).await), Vec::<String>::new());
    off.site.stop().await;
    let own = "max-age=63072000; includeSubDomains; preload";
    let upstream =
        Recorder::answering(format!("HTTP/1.1 204 No Content\r\nstrict-transport-security: {own}\r\n\r\n")).await;
    let its_own = secured(&upstream, |_| {}).await;
    assert_eq!(told(&its_own.ask("GET", "/public/", &[]).await), [own]);
    its_own.site.stop().await;
    // In clear nobody would believe it (RFC 6797 section 7.2).
    let clear = GatewayFixture::with(Some(Recorder::new().await.address), Policy::default(), |options| {
        options.public_paths = vec![PublicPath("/public/".to_owned())];
    })
    .await;
    assert_eq!(clear.get("/public/", &[]).await.header("strict-transport-security"), None);
    clear.stop().await;
}
