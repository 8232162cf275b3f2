//! The two ends of the WebSockets: an upstream and clients, of bytes, so that they cost next to nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tenure_conformance::SystemClock;
use tenure_domain::Timestamp;
use tenure_ports::Clock as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::Failure;

/// The payload of the messages that the relay is measured with.
pub(crate) const MESSAGE: usize = 1024;
/// What such a message of a client takes on the wire, and one of the upstream.
pub(crate) const MASKED: usize = MESSAGE + 8;
pub(crate) const PLAIN: usize = MESSAGE + 4;
/// A message that says when it was sent: header, key, milliseconds.
const STAMP: usize = 14;
const PATIENCE: Duration = Duration::from_secs(60);

/// What a client's connection has brought to the upstream: each message with when it was sent, by its client's name.
pub(crate) type Stamps = Arc<Mutex<Vec<(u32, u64)>>>;

/// An upstream: `/stamps/NAME` notes stamps, `/echo` answers each message with one as long.
pub(crate) async fn upstream() -> Result<(SocketAddr, Stamps), Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let (address, stamps) = (listener.local_addr()?, Stamps::default());
    let shared = stamps.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let stamps = shared.clone();
            tokio::spawn(async move {
                // A connection that breaks ends its task, and is seen at the other end.
                let _ = serve(stream, stamps).await;
            });
        }
    });
    Ok((address, stamps))
}

async fn serve(mut stream: TcpStream, stamps: Stamps) -> Result<(), Failure> {
    stream.set_nodelay(true)?;
    let head = read_head(&mut stream).await?;
    let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.write_all(answer.as_bytes()).await?;
    if head.starts_with("GET /echo") || head.starts_with("GET /public") {
        return echo(stream).await;
    }
    let name = head.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default().parse()?;
    let mut frame = [0; STAMP];
    loop {
        stream.read_exact(&mut frame[..1]).await?;
        if frame[0] != 0x82 {
            return Ok(());
        }
        stream.read_exact(&mut frame[1..]).await?;
        let [.., a, b, c, d, e, f, g, h] = frame;
        stamps.lock().push((name, u64::from_be_bytes([a, b, c, d, e, f, g, h])));
    }
}

async fn echo(mut stream: TcpStream) -> Result<(), Failure> {
    let mut answers = Vec::new();
    for _ in 0..64 {
        answers.extend([0x82, 126]);
        answers.extend((MESSAGE as u16).to_be_bytes());
        answers.extend([b'y'; MESSAGE]);
    }
    let (mut room, mut got) = (vec![0; 64 * MASKED], 0);
    loop {
        let n = stream.read(&mut room).await?;
        if n == 0 {
            return Ok(());
        }
        got += n;
        stream.write_all(&answers[..got / MASKED * PLAIN]).await?;
        got %= MASKED;
    }
}

async fn read_head(stream: &mut TcpStream) -> Result<String, Failure> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(PATIENCE, stream.read_u8()).await??);
    }
    Ok(String::from_utf8(head)?)
}

/// Opens a WebSocket; with a token, or without.
///
/// # Errors
/// The status line that came instead.
pub(crate) async fn connect(gateway: &str, path: &str, token: Option<&str>) -> Result<TcpStream, Failure> {
    let mut stream = TcpStream::connect(gateway).await?;
    stream.set_nodelay(true)?;
    let token = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\n{token}Connection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let answer = read_head(&mut stream).await?;
    if answer.starts_with("HTTP/1.1 101 ") {
        Ok(stream)
    } else {
        Err(answer.lines().next().unwrap_or_default().to_owned().into())
    }
}

/// How a client's WebSocket ended.
pub(crate) struct Closed {
    pub(crate) code: u16,
    pub(crate) reason: String,
    /// When the close frame was there.
    pub(crate) at: Timestamp,
}

/// Sends a stamp every so often until the close frame is there, then one more that must not arrive: `u64::MAX`.
pub(crate) async fn until_closed(mut stream: TcpStream, every: Duration) -> Result<Closed, Failure> {
    let (mut reading, mut writing) = stream.split();
    let reads = async {
        let mut head = [0; 2];
        reading.read_exact(&mut head).await?;
        let at = SystemClock.now();
        if head[0] != 0x88 {
            return Err(Failure::from("something else than a close frame came"));
        }
        let mut rest = vec![0; usize::from(head[1])];
        reading.read_exact(&mut rest).await?;
        let code = u16::from_be_bytes([rest[0], rest[1]]);
        Ok(Closed { code, reason: String::from_utf8_lossy(&rest[2..]).into_owned(), at })
    };
    let writes = async {
        loop {
            tokio::time::sleep(every).await;
            if writing.write_all(&stamp(SystemClock.now().as_millis())).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let closed = tokio::select! {
        closed = timeout(PATIENCE, reads) => closed.map_err(|_| "it stays open")??,
        () = writes => return Err("unreachable".into()),
    };
    let _ = writing.write_all(&stamp(u64::MAX)).await;
    // Time for it to arrive, if anybody lets it.
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(closed)
}

fn stamp(millis: u64) -> Vec<u8> {
    let mut frame = vec![0x82, 0x88, 0, 0, 0, 0];
    frame.extend(millis.to_be_bytes());
    frame
}
