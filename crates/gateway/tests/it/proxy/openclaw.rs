//! The OpenClaw profile as a whole gateway: what opens without a token, and what does not.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use parking_lot::Mutex;
use tenure_domain::Policy;
use tenure_gateway::Profile;
use tenure_tower::PublicPath;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::site::{GatewayFixture, TEST_TIMEOUT, until};

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\n\
     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13";

/// An upstream that opens any WebSocket, answers anything else with a secret, and keeps what it was sent.
async fn upstream() -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let shared = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = shared.clone();
            tokio::spawn(async move {
                let (mut room, mut answered) = ([0; 4096], false);
                while let Ok(n @ 1..) = stream.read(&mut room).await {
                    let text = String::from_utf8_lossy(&room[..n]).to_ascii_lowercase();
                    seen.lock().extend(&room[..n]);
                    let answer: &[u8] = match (answered, text.contains("upgrade: websocket")) {
                        (true, _) => continue,
                        (false, true) => {
                            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                        }
                        (false, false) => b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret",
                    };
                    answered = text.contains("upgrade: websocket");
                    let _ = stream.write_all(answer).await;
                }
            });
        }
    });
    (address, seen)
}

async fn site(upstream: SocketAddr) -> GatewayFixture {
    GatewayFixture::with(Some(upstream), Policy::default(), |options| {
        options.profile = Some(Profile::OpenClaw { loopback_as: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)) });
        options.public_paths = vec![PublicPath("/hooks/".to_owned())];
    })
    .await
}

#[tokio::test]
async fn a_websocket_is_never_public() {
    let (address, seen) = upstream().await;
    let site = site(address).await;
    for path in ["/hooks/x", "/api/x"] {
        seen.lock().clear();
        let mut client = TcpStream::connect(site.address).await.unwrap();
        client.write_all(format!("GET {path} HTTP/1.1\r\nhost: a\r\n{UPGRADE}\r\n\r\n").as_bytes()).await.unwrap();
        // The upstream's own device token, in a text frame that is masked with zeros.
        client.write_all(b"\x81\x8c\0\0\0\0device token").await.unwrap();
        let mut got = Vec::new();
        let _ = tokio::time::timeout(TEST_TIMEOUT, client.read_to_end(&mut got)).await.expect("it stays open");
        let end = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert!(got.starts_with(b"HTTP/1.1 101 "), "{path}");
        assert_eq!(got[end..][2..4], 1008_u16.to_be_bytes(), "{path}: closed for want of a token");
        drop(client);
        let seen = seen.lock();
        assert!(!seen.windows(6).any(|six| six == b"device"), "{path}: {:?}", String::from_utf8_lossy(&seen));
    }
    site.stop().await;
}

#[tokio::test]
async fn what_is_no_websocket_needs_a_token_or_is_no_upgrade() {
    let (address, seen) = upstream().await;
    let site = site(address).await;
    let lines = UPGRADE.split("\r\n").map(str::trim).collect::<Vec<_>>();
    let without = |name: &str| lines.iter().filter(|line| !line.starts_with(name)).copied().collect::<Vec<_>>();
    for name in ["sec-websocket-key", "sec-websocket-version", "connection"] {
        for path in ["/api/x", "/hooks/x"] {
            site.get(path, &without(name)).await.is_problem(401, "token_required");
        }
    }
    for method in ["POST", "HEAD", "OPTIONS", "BREW"] {
        let reply = site.ask(method, "/hooks/x", &lines, "").await;
        assert_eq!(reply.status, 401, "{method}");
    }
    let old = site.raw(&format!("GET /hooks/x HTTP/1.0\r\nhost: a\r\n{UPGRADE}\r\n\r\n")).await;
    assert!(old.starts_with("HTTP/1.0 401 ") || old.starts_with("HTTP/1.1 401 "), "{old}");
    let body = site.raw(&format!("GET /api/x HTTP/1.1\r\nhost: a\r\n{UPGRADE}\r\ncontent-length: 2\r\n\r\nhi")).await;
    assert!(body.starts_with("HTTP/1.1 400 "), "{body}");
    assert!(seen.lock().is_empty(), "{:?}", String::from_utf8_lossy(&seen.lock()));
    // Another protocol is not passed on, so such a request is as any other.
    let other = UPGRADE.replace("websocket\r\n", "h2c\r\n");
    let reply = site.get("/hooks/x", &other.split("\r\n").collect::<Vec<_>>()).await;
    assert_eq!((reply.status, &*reply.body), (200, "secret"));
    until("the request", async || !seen.lock().is_empty()).await;
    assert!(!String::from_utf8_lossy(&seen.lock()).to_ascii_lowercase().contains("upgrade:"));
    site.stop().await;
}
