//! Clients: as many requests as go through, or one large body.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const CONNECTIONS: usize = 64;
const GIB: u64 = 1 << 30;

pub(crate) fn run(args: &[&str]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let figure = runtime.block_on(async {
        match args {
            ["requests", address, target, tokens, seconds] => {
                requests(address, target, tokens, seconds.parse().unwrap()).await
            }
            ["down", address, target, tokens] => down(address, target, tokens).await,
            ["up", address, target, tokens] => up(address, target, tokens).await,
            other => panic!("{other:?}"),
        }
    });
    println!("{figure}");
}

fn tokens(file: &str) -> Vec<String> {
    std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

fn request(method: &str, target: &str, token: &str, length: u64) -> Vec<u8> {
    let length = if length > 0 { format!("content-length: {length}\r\n") } else { String::new() };
    format!("{method} {target} HTTP/1.1\r\nhost: tenure.test\r\nauthorization: Bearer {token}\r\n{length}\r\n").into()
}

/// Requests per second, over connections that each wait for their answer. The first half second does not count.
async fn requests(address: &str, target: &str, file: &str, seconds: u64) -> f64 {
    let all: Vec<Vec<u8>> = tokens(file).iter().map(|token| request("GET", target, token, 0)).collect();
    let all = std::sync::Arc::new(all);
    let begin = Instant::now() + Duration::from_millis(500);
    let end = begin + Duration::from_secs(seconds);
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|client| {
            let (all, address) = (all.clone(), address.to_owned());
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(&*address).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (mut buffer, mut counted, mut turn) = (vec![0; 16 * 1024], 0_u64, client);
                loop {
                    stream.write_all(&all[turn % all.len()]).await.unwrap();
                    turn += CONNECTIONS;
                    answer(&mut stream, &mut buffer).await;
                    let now = Instant::now();
                    if now >= end {
                        return counted;
                    }
                    counted += u64::from(now >= begin);
                }
            })
        })
        .collect();
    let mut sum = 0;
    for client in clients {
        sum += client.await.unwrap();
    }
    sum as f64 / seconds as f64
}

/// Reads one answer, which has to be a good one.
async fn answer(stream: &mut TcpStream, buffer: &mut [u8]) {
    let mut filled = 0;
    loop {
        let n = stream.read(&mut buffer[filled..]).await.unwrap();
        assert_ne!(n, 0, "closed after {:?}", String::from_utf8_lossy(&buffer[..filled]));
        filled += n;
        if let Some(end) = memchr::memmem::find(&buffer[..filled], b"\r\n\r\n") {
            let head = &buffer[..end];
            assert!(head.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&buffer[..filled]));
            if filled >= end + 4 + length(head) {
                return;
            }
        }
    }
}

fn length(head: &[u8]) -> usize {
    let found =
        memchr::memmem::find(head, b"ontent-length: ").or_else(|| memchr::memmem::find(head, b"ontent-Length: "));
    found.map_or(0, |at| {
        let digits = head[at + 15..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
    })
}

/// Seconds for an answer of 1 GiB.
async fn down(address: &str, target: &str, file: &str) -> f64 {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request("GET", target, &tokens(file)[0], 0)).await.unwrap();
    let (mut buffer, mut seen) = (vec![0; 256 * 1024], 0_u64);
    while seen < GIB {
        let n = stream.read(&mut buffer).await.unwrap();
        assert_ne!(n, 0, "broke off after {seen}");
        seen += n as u64;
    }
    begun.elapsed().as_secs_f64()
}

/// Seconds for a request of 1 GiB, to its answer.
async fn up(address: &str, target: &str, file: &str) -> f64 {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&request("POST", target, &tokens(file)[0], GIB)).await.unwrap();
    let piece = vec![7; 256 * 1024];
    for _ in 0..GIB / piece.len() as u64 {
        stream.write_all(&piece).await.unwrap();
    }
    let mut buffer = vec![0; 4096];
    let n = stream.read(&mut buffer).await.unwrap();
    let text = String::from_utf8_lossy(&buffer[..n]);
    assert!(text.ends_with(&GIB.to_string()), "{text}");
    begun.elapsed().as_secs_f64()
}
