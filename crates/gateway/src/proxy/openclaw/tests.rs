//! Clients that show their token in the first frame, through the gateway to a small upstream that speaks as OpenClaw
//! does.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tenure_service::{IssueRequest, Issued};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request as Upgrade, Response as Answer};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::first_message::MAX_FIRST_MESSAGE;
use super::*;
use crate::proxy::websocket::tests::harness::{
    HANDSHAKE, Harness, ScriptedUpstream, TEST_TIMEOUT, read_head, read_rest,
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What a fake OpenClaw has seen.
#[derive(Default)]
struct Seen {
    upgrades: Mutex<Vec<HeaderMap>>,
    first: Mutex<Vec<String>>,
}

/// An upstream with the shapes of OpenClaw 2026.9 behind a trusted proxy: it refuses a client on loopback, challenges,
/// says hello to whoever connects, and answers requests. `pads` makes its hello long.
async fn fake_openclaw(pads: usize) -> (SocketAddr, Arc<Seen>) {
    let record_on_accept = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (record_on_accept.local_addr().unwrap(), Arc::new(Seen::default()));
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = record_on_accept.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&shared), pads));
        }
    });
    (address, seen)
}

async fn serve(stream: TcpStream, seen: Arc<Seen>, pads: usize) -> Option<()> {
    let shared = Arc::clone(&seen);
    #[expect(clippy::result_large_err, reason = "the shape that tungstenite asks for")]
    let check = move |request: &Upgrade, answer: Answer| {
        let client = request.headers().get("x-forwarded-for").and_then(|value| value.to_str().ok());
        let client: Option<std::net::IpAddr> = client.and_then(|text| text.parse().ok());
        shared.upgrades.lock().push(request.headers().clone());
        match client {
            Some(address) if !address.is_loopback() => Ok(answer),
            _ => {
                let mut refused = ErrorResponse::new(None);
                *refused.status_mut() = http::StatusCode::FORBIDDEN;
                Err(refused)
            }
        }
    };
    let mut socket = tokio_tungstenite::accept_hdr_async(stream, check).await.ok()?;
    let challenge = json!({"type": "event", "event": "connect.challenge", "payload": {"nonce": "n", "ts": 1}});
    socket.send(Message::text(challenge.to_string())).await.ok()?;
    let Message::Text(first) = socket.next().await?.ok()? else { return None };
    seen.first.lock().push(first.to_string());
    let id = serde_json::from_str::<Value>(&first).ok()?["id"].clone();
    let tick = json!({"type": "event", "event": "tick"});
    socket.send(Message::text(tick.to_string())).await.ok()?;
    let padding = "x".repeat(pads);
    let hello = format!(
        r#"{{"type":"res","id":{id},"ok":true,"payload":{{"type":"hello-ok","protocol":4,"padding":"{padding}"}}}}"#
    );
    socket.send(Message::text(hello)).await.ok()?;
    while let Some(Ok(Message::Text(text))) = socket.next().await {
        let id = serde_json::from_str::<Value>(&text).ok()?["id"].clone();
        let answer = json!({"type": "res", "id": id, "ok": true, "payload": {"status": "ok"}});
        socket.send(Message::text(answer.to_string())).await.ok()?;
    }
    Some(())
}

fn connect_with(token: &str) -> String {
    json!({
        "type": "req", "id": "c1", "method": "connect",
        "params": {
            "minProtocol": 4, "maxProtocol": 4,
            "client": {"id": "cli", "version": "2026.9.6", "platform": "linux", "mode": "cli", "displayName": "laptop"},
            "role": "operator", "scopes": [], "auth": {"token": token},
            "device": {"id": "d3adb33f", "publicKey": "k", "signature": "s", "signedAt": 1, "nonce": "n"},
        },
    })
    .to_string()
}

async fn issue(harness: &Harness) -> Issued {
    harness.fixture.issue("phone", Duration::from_secs(3_600)).await
}

async fn next(socket: &mut Socket) -> Message {
    timeout(TEST_TIMEOUT, socket.next()).await.expect("nothing comes").unwrap().unwrap()
}

async fn next_json(socket: &mut Socket) -> Value {
    match next(socket).await {
        Message::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A client that has seen the challenge and sends this first.
async fn begin(harness: &Harness, first: &str) -> Socket {
    let mut socket = harness.connect().await;
    assert_eq!(next_json(&mut socket).await["event"], "connect.challenge");
    socket.send(Message::text(first)).await.unwrap();
    socket
}

fn closed(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame { code: code.into(), reason: Utf8Bytes::from(reason) }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_connects_and_its_session_shows_it_and_is_cut() {
    for pads in [0, 200_000] {
        let (upstream, seen) = fake_openclaw(pads).await;
        let harness = Harness::openclaw(upstream).await;
        let issued = issue(&harness).await;
        let first = connect_with(issued.token.to_text().expose());
        let mut socket = begin(&harness, &first).await;
        assert_eq!(next_json(&mut socket).await["event"], "tick");
        assert_eq!(next_json(&mut socket).await["payload"]["type"], "hello-ok");
        assert_eq!(seen.first.lock().as_slice(), [first], "it must arrive as it was sent");
        let upgrades = std::mem::take(&mut *seen.upgrades.lock());
        assert_eq!(upgrades[0]["x-forwarded-user"], "operator");
        assert!(!upgrades[0].contains_key("sec-websocket-extensions"));
        socket.send(Message::text(r#"{"type":"req","id":"2","method":"health"}"#)).await.unwrap();
        assert_eq!(next_json(&mut socket).await["id"], "2");
        let deadline = Instant::now() + TEST_TIMEOUT;
        let client = loop {
            let client = harness.fixture.record(issued.session.id).await.client.clone();
            if client.get(ClientField::DeviceKey).is_some() {
                break client;
            }
            assert!(Instant::now() < deadline, "{client:?}");
            sleep(Duration::from_millis(5)).await;
        };
        for (field, text) in [
            (ClientField::Id, "cli"),
            (ClientField::DisplayName, "laptop"),
            (ClientField::Platform, "linux"),
            (ClientField::Version, "2026.9.6"),
            (ClientField::DeviceKey, "d3adb33f"),
            (ClientField::Address, "203.0.113.9"),
        ] {
            assert_eq!(client.get(field), Some(text));
        }
        harness.fixture.revoke(issued.session.id).await;
        assert_eq!(next(&mut socket).await, closed(4401, "revoked"));
        drop(socket);
        harness.emptied().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_does_not_hold_is_answered_with_the_reason_and_reaches_nobody() {
    let (upstream, seen) = fake_openclaw(0).await;
    let harness = Harness::openclaw(upstream).await;
    let revoked = issue(&harness).await;
    harness.fixture.revoke(revoked.session.id).await;
    let rotated = issue(&harness).await;
    harness.fixture.rotate(&rotated.token).await;
    let request = IssueRequest {
        device: tenure_domain::DeviceId::new("d").unwrap(),
        subject: Subject::new("alice").unwrap(),
        client: ClientInfo::default(),
        ttl: None,
    };
    let others = harness.fixture.sessions.issue(request).await.unwrap();
    let text = |issued: &Issued| issued.token.to_text().expose().to_owned();
    for (first, message, reason) in [
        (connect_with(&text(&revoked)), "token revoked", "revoked"),
        (connect_with(&text(&rotated)), "token rotated", "rotated"),
        (connect_with("sk-something-else"), "token malformed", "malformed"),
        (connect_with("").replace(r#""auth""#, r#""nothing""#), "a token is needed", "token_required"),
        (connect_with(&text(&others)), "the session belongs to alice", "forbidden"),
    ] {
        let mut socket = begin(&harness, &first).await;
        let answer = next_json(&mut socket).await;
        assert_eq!((&answer["type"], &answer["id"], &answer["ok"]), (&json!("res"), &json!("c1"), &json!(false)));
        let error = &answer["error"];
        assert_eq!(error["code"], "INVALID_REQUEST");
        assert_eq!(error["details"]["code"], "AUTH_TOKEN_MISMATCH");
        assert!(error["message"].as_str().unwrap().starts_with(message), "{error}");
        assert_eq!(next(&mut socket).await, closed(1008, reason));
    }
    harness.fixture.store.set_down(true);
    let mut socket = begin(&harness, &connect_with(&text(&rotated))).await;
    let error = &next_json(&mut socket).await["error"];
    assert_eq!((&error["code"], &error["details"]), (&json!("UNAVAILABLE"), &Value::Null), "it should try again");
    assert_eq!(next(&mut socket).await, closed(1013, "the sessions cannot be read at the moment"));
    assert!(seen.first.lock().is_empty());
    harness.emptied().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_is_told_to_wait_and_whoever_holds_a_token_is_not() {
    let (upstream, _) = fake_openclaw(0).await;
    let harness = Harness::openclaw(upstream).await;
    let guess = connect_with("tnr_guess");
    let mut messages = Vec::new();
    for _ in 0..11 {
        let mut socket = begin(&harness, &guess).await;
        messages.push(next_json(&mut socket).await["error"]["message"].as_str().unwrap().to_owned());
    }
    assert_eq!(messages[9], "token malformed");
    assert!(messages[10].starts_with("too many requests"), "{}", messages[10]);
    let mut socket = begin(&harness, &connect_with(issue(&harness).await.token.to_text().expose())).await;
    assert_eq!(next_json(&mut socket).await["event"], "tick");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_message_that_is_none_closes_the_connection() {
    let (upstream, seen) = fake_openclaw(0).await;
    let harness = Harness::openclaw(upstream).await;
    for (message, code) in [
        (Message::text("hello"), POLICY),
        (Message::text(r#"{"type":"req","id":"1","method":"health","params":{}}"#), POLICY),
        (Message::binary(vec![1, 2]), POLICY),
        (Message::text(connect_with(&"x".repeat(MAX_FIRST_MESSAGE))), TOO_LARGE),
    ] {
        let mut socket = begin(&harness, "").await;
        // The empty message before is none either; the next one is on its way already.
        let _ = socket.send(message.clone()).await;
        assert!(matches!(next(&mut socket).await, Message::Close(Some(_))));
        let mut socket = harness.connect().await;
        next(&mut socket).await;
        socket.send(message.clone()).await.unwrap();
        match next(&mut socket).await {
            Message::Close(Some(close)) => assert_eq!(u16::from(close.code), code, "{close:?}"),
            other => panic!("{other:?}"),
        }
    }
    assert!(seen.first.lock().is_empty());
}

/// The bytes of a masked text frame, or of a part of a message.
fn frame(first: u8, text: &str) -> Vec<u8> {
    let mut bytes = vec![first, 0x80 | 126];
    bytes.extend((text.len() as u16).to_be_bytes());
    bytes.extend([5, 6, 7, 8]);
    bytes.extend(text.bytes().enumerate().map(|(n, byte)| byte ^ [5, 6, 7, 8][n % 4]));
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_may_come_in_any_pieces_and_passes_byte_for_byte() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::openclaw(upstream.address).await;
    let first = connect_with(issue(&harness).await.token.to_text().expose());
    let (one, two) = first.split_at(40);
    let sent = [frame(0x89, "ping"), frame(0x01, one), frame(0x00, ""), frame(0x80, two), frame(0x81, "next")].concat();
    for piece in [1, 7, 1000, sent.len()] {
        let mut client = TcpStream::connect(harness.address).await.unwrap();
        client.set_nodelay(true).unwrap();
        let handshake = HANDSHAKE.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
        client.write_all(handshake.as_bytes()).await.unwrap();
        let (mut server, head) = upstream.switch("").await;
        assert!(!head.to_ascii_lowercase().contains("extensions"), "{head}");
        assert!(read_head(&mut client).await.starts_with("HTTP/1.1 101 "));
        server.write_all(&text_frame(CHALLENGE)).await.unwrap();
        client.read_exact(&mut vec![0; text_frame(CHALLENGE).len()]).await.unwrap();
        for piece in sent.chunks(piece) {
            client.write_all(piece).await.unwrap();
        }
        let mut got = vec![0; sent.len()];
        timeout(TEST_TIMEOUT, server.read_exact(&mut got)).await.expect("it does not arrive").unwrap();
        assert_eq!(got, sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_broken_off_while_they_wait_leave_nothing_behind() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::openclaw(upstream.address).await;
    let first = frame(0x81, &connect_with("tnr_"));
    for (n, by_client) in (0..first.len()).step_by(97).map(|n| (n, n % 2 == 0)) {
        let (mut client, (server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
        client.write_all(&first[..n]).await.unwrap();
        let (leaves, mut stays) = if by_client { (client, server) } else { (server, client) };
        drop(leaves);
        assert_eq!(read_rest(&mut stays).await.0, b"", "nothing reaches the other side");
    }
    // An unmasked frame, and one whose length is impossible.
    for broken in [&[0x81, 0x01, b'x'][..], &[0x81, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]] {
        let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
        client.write_all(broken).await.unwrap();
        let (answer, _) = read_rest(&mut client).await;
        assert_eq!(answer[2..4], PROTOCOL_ERROR.to_be_bytes());
        drop(client);
        let (close_upstream, _) = read_rest(&mut server).await;
        assert_eq!(close_upstream[..1], [0x88], "nothing but a close frame");
    }
    let deadline = Instant::now() + TEST_TIMEOUT;
    while !harness.gateway.enforcer().tasks().is_empty() {
        assert!(Instant::now() < deadline, "{} tasks are left", harness.gateway.enforcer().tasks().len());
        sleep(Duration::from_millis(5)).await;
    }
}

const CHALLENGE: &str = r#"{"type":"event","event":"connect.challenge","payload":{"nonce":"n","ts":1}}"#;

/// A control or binary frame of a server.
fn other(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, payload.len() as u8], payload].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_other_than_101_stays_behind_until_there_is_a_token() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::openclaw(upstream.address).await;
    for answer in [
        "HTTP/1.1 200 OK\r\nX-Secret: yes\r\nSet-Cookie: secret=1\r\nContent-Length: 6\r\n\r\nsecret",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\nsecret",
        "HTTP/1.1 302 Found\r\nLocation: /secret\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: secret\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecret\r\n0\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </secret>\r\n\r\nHTTP/1.1 204 No Content\r\nX-Secret: yes\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: secret\r\n\r\nsecret",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Secret: yes\r\n\r\n",
    ] {
        let mut client = TcpStream::connect(harness.address).await.unwrap();
        let handshake = HANDSHAKE.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        client.write_all(handshake.as_bytes()).await.unwrap();
        let (mut server, _) = upstream.accept().await;
        server.write_all(answer.as_bytes()).await.unwrap();
        let (got, _) = read_rest(&mut client).await;
        let got = String::from_utf8(got).unwrap();
        assert!(got.starts_with("HTTP/1.1 502 "), "{answer:?}: {got}");
        assert!(!got.to_ascii_lowercase().contains("secret"), "{answer:?}: {got}");
        assert_eq!(read_rest(&mut server).await.0, b"", "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_101_only_the_handshake_passes() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::openclaw(upstream.address).await;
    let mut client = TcpStream::connect(harness.address).await.unwrap();
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let lines = "Set-Cookie: secret=1\r\nX-Secret: yes\r\nServer: secret\r\nSec-WebSocket-Protocol: chat\r\n";
    let (_server, _) = upstream.switch(lines).await;
    let head = read_head(&mut client).await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    let mut names: Vec<_> = head.lines().skip(1).filter_map(|line| Some(line.split_once(':')?.0)).collect();
    names.sort_unstable();
    assert_eq!(names, ["connection", "date", "sec-websocket-accept", "sec-websocket-protocol", "upgrade"], "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_upstream_nothing_but_the_challenge_passes_before_the_token() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::openclaw(upstream.address).await;
    let first = frame(0x81, &connect_with(issue(&harness).await.token.to_text().expose()));
    let (challenge, event) = (text_frame(CHALLENGE), text_frame(r#"{"type":"event","event":"secret"}"#));
    let ping = other(0x89, b"secret");
    let (half, rest) = challenge.split_at(30);
    let pieces = [other(0x01, &half[2..]), other(0x89, b"secret"), other(0x80, rest)].concat();
    let long = text_frame(&CHALLENGE.replace("\"n\"", &format!("\"{}\"", "n".repeat(5_000))));
    let twice = text_frame(&CHALLENGE.replacen("\"event\"", "\"error\"", 1));
    // What the upstream sends, what the client has of it before its token, and what it has after.
    for (sent, before, after) in [
        ([&*challenge, &event, &challenge].concat(), &*challenge, [&*event, &challenge].concat()),
        ([&*ping, &challenge, &ping].concat(), &*challenge, ping.clone()),
        ([&*pieces, &event].concat(), &*challenge, event.clone()),
        ([&*event, &challenge].concat(), b"", [&*event, &challenge].concat()),
        ([&*other(0x82, b"secret"), &challenge].concat(), b"", [&*other(0x82, b"secret"), &challenge].concat()),
        (ping.clone(), b"", ping.clone()),
        (long.clone(), b"", long),
        (twice.clone(), b"", twice),
    ] {
        for step in [1, sent.len()] {
            let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
            for piece in sent.chunks(step) {
                server.write_all(piece).await.unwrap();
            }
            let mut got = vec![0; before.len()];
            timeout(TEST_TIMEOUT, client.read_exact(&mut got)).await.expect("it does not arrive").unwrap();
            assert_eq!(got, before);
            // Time enough for what must not come, on any machine that passes it on at all.
            let more = timeout(Duration::from_millis(100), client.read_u8()).await;
            assert!(more.is_err(), "before the token came {more:?} of {sent:?}");
            client.write_all(&first).await.unwrap();
            let mut got = vec![0; after.len()];
            timeout(TEST_TIMEOUT, client.read_exact(&mut got)).await.expect("it does not arrive").unwrap();
            assert_eq!(got, after);
            let mut got = vec![0; first.len()];
            timeout(TEST_TIMEOUT, server.read_exact(&mut got)).await.expect("it does not arrive").unwrap();
            assert_eq!(got, first);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_upstream_that_refuses_before_the_token_no_word_passes() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::openclaw(upstream.address).await;
    for sent in [other(0x88, b"\x03\xf0secret"), other(0xf1, b"secret"), other(0x80, b"secret")] {
        let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
        server.write_all(&sent).await.unwrap();
        let (got, _) = read_rest(&mut client).await;
        assert_eq!(got[2..4], TRY_AGAIN.to_be_bytes(), "{got:?}");
        assert!(!String::from_utf8_lossy(&got).contains("secret"), "{got:?}");
    }
    // And much that nobody may have yet is held back, not held.
    let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
    let flood = text_frame(&"x".repeat(16 << 20));
    let taken = timeout(Duration::from_secs(2), server.write_all(&flood)).await;
    assert!(taken.is_err(), "16 MiB were taken before there was a token");
    let first = frame(0x81, &connect_with(issue(&harness).await.token.to_text().expose()));
    client.write_all(&first).await.unwrap();
    let mut got = vec![0; 1 << 16];
    timeout(TEST_TIMEOUT, client.read_exact(&mut got)).await.expect("it does not go on").unwrap();
    assert_eq!(got, flood[..1 << 16]);
}
