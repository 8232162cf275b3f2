//! While a session holds.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use std::time::Duration;

use super::harness::*;

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_every_size_pass_both_ways() {
    let harness = Harness::new(echo().await, HOUR).await;
    let mut socket = harness.connect().await;
    for length in [0, 1, 125, 126, 1_000, 65_535, 65_536, 1_000_000] {
        let message = Message::binary((0..length).map(|n| n as u8).collect::<Vec<u8>>());
        socket.send(message.clone()).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap() == message, "{length} bytes");
    }
    socket.send(Message::text("grüße")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("grüße"));
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    harness.emptied().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_and_extensions_pass_as_they_are() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::new(upstream.address, HOUR).await;
    let mut client = TcpStream::connect(harness.address).await.unwrap();
    let handshake = HANDSHAKE.replace(
        "\r\n\r\n",
        "\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: tenure, chat\r\n\r\n",
    );
    client.write_all(handshake.as_bytes()).await.unwrap();
    let (mut server, head) =
        upstream.switch("Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: chat\r\n").await;
    let head = head.to_ascii_lowercase();
    for line in [
        "get /chat http/1.1",
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-extensions: permessage-deflate",
        "sec-websocket-protocol: chat",
        "x-seen: gateway",
    ] {
        assert!(head.lines().any(|found| found == line), "{line} is missing in {head}");
    }
    let answer = read_head(&mut client).await.to_ascii_lowercase();
    assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{answer}");
    assert!(answer.contains("sec-websocket-extensions: permessage-deflate\r\n"), "{answer}");
    assert!(answer.contains("sec-websocket-protocol: chat\r\n"), "{answer}");
    // Reserved bits and opcodes are for the two ends to understand.
    let strange: Vec<u8> = [&[0xf3, 0x83, 1, 2, 3, 4, 5, 6, 7][..], &[0x40, 0x80, 0, 0, 0, 0]].concat();
    for piece in strange.chunks(1) {
        client.write_all(piece).await.unwrap();
        server.write_all(piece).await.unwrap();
    }
    for side in [&mut client, &mut server] {
        let mut got = vec![0; strange.len()];
        side.read_exact(&mut got).await.unwrap();
        assert_eq!(got, strange);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_needs_a_subprotocol_gets_the_gateways_own() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::new(upstream.address, HOUR).await;
    let mut client = TcpStream::connect(harness.address).await.unwrap();
    let handshake = HANDSHAKE.replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: tenure\r\n\r\n");
    client.write_all(handshake.as_bytes()).await.unwrap();
    let (_server, head) = upstream.switch("").await;
    assert!(!head.to_ascii_lowercase().contains("sec-websocket-protocol"), "{head}");
    let answer = read_head(&mut client).await;
    assert!(answer.to_ascii_lowercase().contains("sec-websocket-protocol: tenure\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_upstream_answers_instead_is_passed_on_and_nonsense_is_a_502() {
    for (answer, status) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope", "403"),
        ("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", "502"),
        ("SSH-2.0-OpenSSH_9.9\r\n\r\n", "502"),
    ] {
        let upstream = ScriptedUpstream::new().await;
        let harness = Harness::new(upstream.address, HOUR).await;
        let mut client = TcpStream::connect(harness.address).await.unwrap();
        client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
        let (mut server, _) = upstream.accept().await;
        server.write_all(answer.as_bytes()).await.unwrap();
        let head = read_head(&mut client).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}: {head}");
        drop(client);
        harness.emptied().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_does_not_read_holds_its_client_back() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::new(upstream.address, HOUR).await;
    let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
    let frame: Vec<u8> = [&[0x82, 0xfe, 0x40, 0x00, 0, 0, 0, 0][..], &[7; 0x4000]].concat();
    let mut sent = 0_usize;
    while let Ok(written) = timeout(Duration::from_millis(500), client.write(&frame)).await {
        sent += written.unwrap();
        assert!(sent < 64 << 20, "it takes whatever comes");
    }
    // Once it reads, everything arrives.
    let mut room = vec![0; 1 << 16];
    let mut got = 0;
    while got < sent {
        let n = timeout(TEST_TIMEOUT, server.read(&mut room)).await.expect("bytes are missing").unwrap();
        assert!(n > 0);
        got += n;
    }
    assert_eq!(got, sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_is_activity_and_pings_are_not() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::new(upstream.address, HOUR).await;
    let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
    harness.later().await;
    let mut after = Vec::new();
    for frame in [[0x89, 0x80, 0, 0, 0, 0], [0x8a, 0x80, 0, 0, 0, 0], [0x81, 0x80, 0, 0, 0, 0]] {
        client.write_all(&frame).await.unwrap();
        server.read_exact(&mut [0; 6]).await.unwrap();
        // A message of the upstream is none of the client's.
        server.write_all(&[0x81, 0]).await.unwrap();
        client.read_exact(&mut [0; 2]).await.unwrap();
        harness.fixture.sessions.flush_activity().await.unwrap();
        after.push(harness.fixture.record(harness.session.id).await.last_activity);
    }
    assert_eq!(after[0], harness.session.last_activity);
    assert_eq!(after[1], harness.session.last_activity);
    assert!(after[2] > harness.session.last_activity);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_broken_off_at_any_point_leave_nothing_behind() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::new(upstream.address, HOUR).await;
    // Before the upstream answers: by the client, by the upstream.
    let mut client = TcpStream::connect(harness.address).await.unwrap();
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let (server, _) = upstream.accept().await;
    drop(client);
    drop(server);
    harness.emptied().await;
    let mut client = TcpStream::connect(harness.address).await.unwrap();
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    drop(upstream.accept().await);
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 502 "));
    drop(client);
    harness.emptied().await;
    // After the switch, between frames and within one, by either side, orderly and not.
    for (within, by_client, reset) in (0..8).map(|n: u8| (n & 1 != 0, n & 2 != 0, n & 4 != 0)) {
        let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
        if within {
            client.write_all(&[0x82, 0xfe, 0x40]).await.unwrap();
            server.write_all(&[0x82, 0x7e, 0x40, 0, 1]).await.unwrap();
            server.read_exact(&mut [0; 3]).await.unwrap();
            client.read_exact(&mut [0; 5]).await.unwrap();
        }
        let (leaves, mut stays) = if by_client { (client, server) } else { (server, client) };
        if reset {
            leaves.set_zero_linger().unwrap();
        }
        drop(leaves);
        let _ = read_rest(&mut stays).await;
        drop(stays);
        harness.emptied().await;
    }
}
