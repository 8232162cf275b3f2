//! WebSockets through `tenure gateway`, a real process, with the client and the server of a library.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderMap;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::gateway::{Gateway, eventually, request};
use crate::on_both_backends;
use crate::support::home::{Home, id_of};

on_both_backends!(
    a_revocation_in_another_process_cuts_every_socket_of_a_subject,
    an_expiry_cuts_and_a_rotation_does_not,
    a_log_out_cuts_what_its_session_has_open,
);

const PATIENCE: Duration = Duration::from_secs(60);
/// The promised time until a connection is closed, plus what a busy machine may add.
const PROMPT: Duration = Duration::from_millis(100 + 9_900);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// An upstream that sends back each message, in this process.
struct Echo {
    runtime: Runtime,
    url: String,
    upgrades: Arc<Mutex<Vec<HeaderMap>>>,
}

impl Echo {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let upgrades = Arc::new(Mutex::new(Vec::new()));
        let seen = upgrades.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(stream, seen.clone()));
            }
        });
        Self { runtime, url, upgrades }
    }

    fn gateway(&self, home: &Home, more: &[&str]) -> Gateway {
        Gateway::start(home, &[&["--upstream", &self.url], more].concat())
    }

    /// Opens a WebSocket through the gateway, or returns the status of the refusal.
    fn connect(&self, gateway: &Gateway, token: &str) -> Result<Socket, u16> {
        let mut handshake = format!("ws://{}/live", gateway.clients).into_client_request().unwrap();
        handshake.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        match self.runtime.block_on(tokio_tungstenite::connect_async(handshake)) {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(other) => panic!("{other}"),
        }
    }

    /// Returns whether the upstream echoes a message.
    fn echoes(&self, socket: &mut Socket) -> bool {
        self.runtime.block_on(async {
            let sent = Message::text("are you there?");
            socket.send(sent.clone()).await.is_ok()
                && matches!(timeout(PATIENCE, socket.next()).await, Ok(Some(Ok(got))) if got == sent)
        })
    }

    /// Waits until the socket is closed, and returns the close frame.
    fn close_of(&self, socket: &mut Socket) -> (u16, String) {
        match self.runtime.block_on(async { timeout(PATIENCE, socket.next()).await }).expect("it stays open") {
            Some(Ok(Message::Close(Some(CloseFrame { code, reason })))) => (code.into(), reason.to_string()),
            other => panic!("no close frame but {other:?}"),
        }
    }
}

async fn echo(stream: TcpStream, seen: Arc<Mutex<Vec<HeaderMap>>>) {
    use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
    #[expect(clippy::result_large_err, reason = "the shape that tungstenite asks for")]
    let note = |request: &Request, response: Response| {
        seen.lock().push(request.headers().clone());
        Ok(response)
    };
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, note).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if message.is_text() && socket.send(message).await.is_err() {
            return;
        }
    }
}

fn a_revocation_in_another_process_cuts_every_socket_of_a_subject(home: Home) {
    let echo = Echo::start();
    let gateway = echo.gateway(&home, &[]);
    let others = home.run(&["token", "issue", "--device-id", "x", "--subject", "alice"]).succeeds().out.clone();
    let mut others = echo.connect(&gateway, others.trim()).unwrap();
    let mut sockets: Vec<Socket> = (0..8)
        .map(|n| home.issue(&format!("device-{n}")))
        .flat_map(|token| [token.clone(), token])
        .map(|token| echo.connect(&gateway, &token).unwrap())
        .collect();
    assert!(sockets.iter_mut().all(|socket| echo.echoes(socket)));
    home.run(&["sessions", "revoke", "--subject", "operator", "--yes"]).succeeds();
    let revoked = Instant::now();
    for socket in &mut sockets {
        assert_eq!(echo.close_of(socket), (4401, "revoked".to_owned()));
    }
    assert!(revoked.elapsed() < PROMPT, "{:?}", revoked.elapsed());
    assert!(sockets.iter_mut().all(|socket| !echo.echoes(socket)));
    assert!(echo.echoes(&mut others), "nobody revoked this one");
    // The session says where it was used from, and the upstream has not seen the token.
    let shown = home.run(&["sessions", "list", "--subject", "alice", "--json"]).json();
    assert_eq!(shown[0]["clientInfo"]["address"], "127.0.0.1");
    let upgrades = echo.upgrades.lock();
    assert_eq!(upgrades.len(), 17);
    assert!(upgrades.iter().all(|headers| !format!("{headers:?}").contains("tnr_")));
    assert!(upgrades.iter().any(|headers| headers["x-forwarded-user"] == "alice"));
}

fn an_expiry_cuts_and_a_rotation_does_not(home: Home) {
    let echo = Echo::start();
    let gateway = echo.gateway(&home, &[]);
    let issue = |device: &str, ttl: &str| {
        home.run(&["token", "issue", "--device-id", device, "--ttl", ttl]).succeeds().out.trim().to_owned()
    };
    let (short, long) = (issue("short", "5s"), issue("long", "8s"));
    let start = Instant::now();
    let mut expiring = echo.connect(&gateway, &short).unwrap();
    let mut rotating = echo.connect(&gateway, &long).unwrap();
    let before_rotation = Instant::now();
    home.feed(&["token", "rotate"], &long).succeeds();
    assert_eq!(echo.close_of(&mut expiring), (4401, "expired".to_owned()));
    let lived = start.elapsed();
    assert!(lived < Duration::from_secs(5) + PROMPT, "{lived:?}");
    assert_eq!(echo.connect(&gateway, &short).unwrap_err(), 401);
    assert!(echo.echoes(&mut rotating));
    assert_eq!(echo.close_of(&mut rotating), (4401, "expired".to_owned()));
    assert!(before_rotation.elapsed() >= Duration::from_secs(8), "the rotation gave it its eight seconds again");
}

fn a_log_out_cuts_what_its_session_has_open(home: Home) {
    let echo = Echo::start();
    let gateway = echo.gateway(&home, &[]);
    let token = home.issue("laptop");
    // Like a browser, which cannot set a header.
    let mut handshake = format!("ws://{}/live", gateway.clients).into_client_request().unwrap();
    let protocols = format!("tenure, tenure.bearer.{token}");
    handshake.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
    let (mut socket, answer) = echo.runtime.block_on(tokio_tungstenite::connect_async(handshake)).unwrap();
    assert_eq!(answer.headers()["sec-websocket-protocol"], "tenure");
    assert!(!echo.upgrades.lock()[0].contains_key("sec-websocket-protocol"));
    assert!(echo.echoes(&mut socket));
    let head = format!(
        "DELETE /_tenure/v1/session HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    );
    let answer = request(&gateway.clients, &head);
    assert!(answer.status < 300, "{answer:?}");
    assert_eq!(echo.close_of(&mut socket), (4401, "logged_out".to_owned()));
}

#[test]
fn two_gateways_on_one_redis_cut_for_each_other() {
    let home = Home::redis();
    let echo = Echo::start();
    let (one, other) = (echo.gateway(&home, &[]), echo.gateway(&home, &[]));
    let token = home.issue("laptop");
    let mut socket = echo.connect(&other, &token).unwrap();
    assert!(echo.echoes(&mut socket));
    let head = format!(
        "DELETE /api/v1/sessions/{} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        id_of(&token),
        one.operators,
        one.admin_secret,
    );
    let answer = request(&one.operators, &head);
    assert!(answer.status < 300, "{answer:?}");
    let revoked = Instant::now();
    assert_eq!(echo.close_of(&mut socket), (4401, "revoked".to_owned()));
    assert!(revoked.elapsed() < PROMPT, "{:?}", revoked.elapsed());
    assert_eq!(echo.connect(&one, &token).unwrap_err(), 401);
}

#[test]
fn a_lost_redis_is_borne_for_the_grace() {
    let mut home = Home::redis();
    home.set("TENURE_GATEWAY__STORE_LOSS_GRACE", "10s");
    let echo = Echo::start();
    let gateway = echo.gateway(&home, &[]);
    let token = home.issue("laptop");
    let mut socket = echo.connect(&gateway, &token).unwrap();
    assert!(echo.echoes(&mut socket));
    let lost = Instant::now();
    home.lose_redis();
    assert_eq!(echo.connect(&gateway, &token).unwrap_err(), 503);
    assert!(lost.elapsed() < PROMPT, "{:?}", lost.elapsed());
    assert!(echo.echoes(&mut socket), "within the grace it stays");
    assert_eq!(echo.close_of(&mut socket).0, 1013);
    let stayed = lost.elapsed();
    assert!(stayed >= Duration::from_secs(10) && stayed < Duration::from_secs(10) + PROMPT, "{stayed:?}");
    home.find_redis();
    eventually("a recovery", || echo.connect(&gateway, &token).is_ok());
}

#[test]
fn a_clean_stop_tells_every_client() {
    let home = Home::json();
    let echo = Echo::start();
    let mut gateway = echo.gateway(&home, &[]);
    let mut socket = echo.connect(&gateway, &home.issue("laptop")).unwrap();
    gateway.signal("TERM");
    assert_eq!(echo.close_of(&mut socket).0, 1001);
    drop(socket);
    assert_eq!(gateway.stop(), Some(0));
}

/// Broken off before, within and after the handshake, and within a frame, by a client that is there and one that is
/// not.
#[cfg(target_os = "linux")]
#[test]
fn connections_broken_off_at_any_point_leave_no_descriptor_open() {
    let home = Home::json();
    let echo = Echo::start();
    let gateway = echo.gateway(&home, &[]);
    let token = home.issue("laptop");
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap().count();
    drop(echo.connect(&gateway, &token).unwrap());
    let handshake = format!(
        "GET /live HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let whole = [handshake.as_bytes(), &[0x82, 0xfe, 0x10, 0x00, 1, 2, 3, 4, 5]].concat();
    let metrics = format!(
        "GET /metrics HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        gateway.operators, gateway.admin_secret
    );
    let open = || {
        let text = request(&gateway.operators, &metrics).body;
        let lines =
            text.lines().filter(|line| line.starts_with("tenure_live") || line.starts_with("tenure_websockets"));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum::<f64>()
    };
    eventually("the first connection's end", || open() == 0.0);
    let before = descriptors();
    echo.runtime.block_on(async {
        for (n, reset) in (0..whole.len()).step_by(11).map(|n| (n, n % 2 == 0)).chain([(whole.len(), true)]) {
            let mut stream = TcpStream::connect(&gateway.clients).await.unwrap();
            stream.write_all(&whole[..n]).await.unwrap();
            if n >= handshake.len() {
                let mut head = [0; 12];
                timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().unwrap();
                assert_eq!(&head, b"HTTP/1.1 101");
            }
            if reset {
                stream.set_zero_linger().unwrap();
            }
        }
    });
    eventually("an end of all connections", || open() == 0.0 && descriptors() <= before);
}
