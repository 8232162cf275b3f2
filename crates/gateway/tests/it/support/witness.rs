//! An app that keeps what it is asked as it came, octet by octet, and a client that sends octets.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::site::TEST_TIMEOUT;

/// An app that keeps the heads it got, and takes every upgrade.
#[derive(Clone, Default)]
pub(crate) struct Witness(Arc<Mutex<Vec<Vec<u8>>>>);

impl Witness {
    /// Begins to listen.
    pub(crate) async fn start(&self) -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heads = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(heads.clone().serve(stream));
            }
        });
        address
    }

    async fn serve(self, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(octet) = stream.read_u8().await else { break };
            head.push(octet);
        }
        if head.is_empty() {
            return;
        }
        let upgrades = lines(&head).iter().any(|(name, _)| folded(name) == "upgrade");
        self.0.lock().unwrap().push(head);
        let answer: &[u8] = if upgrades {
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        } else {
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\napp"
        };
        let _ = stream.write_all(answer).await;
    }

    /// The heads since the last call.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// The fields of a head, as a lenient app reads them.
pub(crate) fn lines(head: &[u8]) -> Vec<(String, String)> {
    let rows = head.split(|octet| matches!(octet, b'\r' | b'\n')).skip(1);
    let field = |row: &[u8]| {
        let text = String::from_utf8_lossy(row).into_owned();
        text.split_once(':').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
    };
    rows.filter_map(field).collect()
}

/// A name of letters and digits only, as apps that make variables of headers read it.
pub(crate) fn folded(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// The octets with a token for each `{T}`.
pub(crate) fn with_token(bytes: &[u8], token: &str) -> Vec<u8> {
    let mut parts = bytes.windows(3).position(|window| window == b"{T}");
    let (mut whole, mut rest) = (Vec::new(), bytes);
    while let Some(at) = parts {
        whole.extend_from_slice(&rest[..at]);
        whole.extend_from_slice(token.as_bytes());
        rest = &rest[at + 3..];
        parts = rest.windows(3).position(|window| window == b"{T}");
    }
    whole.extend_from_slice(rest);
    whole
}

/// The status that such a request gets, 0 where there is none, and the head of the answer.
pub(crate) async fn ask(address: SocketAddr, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // What was refused before all of it was sent has its answer all the same.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let read = async {
        while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(octet) => answer.push(octet),
                Err(_) => break,
            }
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, read).await.expect("an answer");
    let head = String::from_utf8_lossy(&answer).into_owned();
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), head)
}

/// Sends a request over HTTP/2 as it is, with names and values that no library would send, and waits for its end.
pub(crate) async fn ask_http2(address: SocketAddr, method: &str, target: &[u8], fields: &[Vec<u8>]) {
    let mut block = Vec::new();
    let pseudo = [
        (&b":method"[..], method.as_bytes()),
        (b":scheme", b"http"),
        (b":authority", b"tenure.test"),
        (b":path", target),
    ];
    for (name, value) in pseudo {
        literal(&mut block, name, value);
    }
    for field in fields {
        let colon = field.iter().skip(1).position(|&octet| octet == b':').unwrap() + 1;
        literal(&mut block, &field[..colon].to_ascii_lowercase(), field[colon + 1..].trim_ascii_start());
    }
    let mut stream = TcpStream::connect(address).await.unwrap();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // HEADERS of stream 1, which end both the header and the stream.
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    let head = [0, length[0], length[1], 1, 5, 0, 0, 0, 1];
    let whole = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &head, &block].concat();
    stream.write_all(&whole).await.unwrap();
    let read = async {
        loop {
            let mut frame = [0; 9];
            let Ok(_) = stream.read_exact(&mut frame).await else { return };
            let mut payload = vec![0; usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2])];
            let Ok(_) = stream.read_exact(&mut payload).await else { return };
            match frame[3] {
                4 if frame[4] == 0 => drop(stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await),
                // An answer's head, a reset, or the connection's end.
                1 | 3 | 7 => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(TEST_TIMEOUT, read).await.expect("an answer");
}

/// A field that enters no table (RFC 7541 section 6.2.2), as octets.
fn literal(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        match text.len().checked_sub(127) {
            None => block.push(u8::try_from(text.len()).unwrap()),
            Some(mut left) => {
                block.push(127);
                while left >= 128 {
                    block.push(u8::try_from(left % 128).unwrap() | 128);
                    left /= 128;
                }
                block.push(u8::try_from(left).unwrap());
            }
        }
        block.extend_from_slice(text);
    }
}
