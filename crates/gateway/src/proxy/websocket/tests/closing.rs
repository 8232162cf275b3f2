//! When a session ends.

use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use std::time::Duration;

use super::super::*;
use super::harness::*;
use crate::proxy::websocket::frame::{close_frame, masked_close_frame};

const HOUR: Duration = Duration::from_secs(3_600);

fn text_frame(text: &str) -> Vec<u8> {
    [&[0x81, text.len() as u8][..], text.as_bytes()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_gets_a_real_close_frame_with_code_and_reason() {
    let harness = Harness::new(echo().await, HOUR).await;
    let mut socket = harness.connect().await;
    socket.send(Message::text("hello")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hello"));
    harness.fixture.revoke(harness.session.id).await;
    let closed = timeout(TEST_TIMEOUT, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(closed, Message::Close(Some(CloseFrame { code: 4401.into(), reason: "revoked".into() })));
    assert!(timeout(TEST_TIMEOUT, socket.next()).await.unwrap().is_none_or(|next| next.is_err()));
    harness.emptied().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn between_frames_both_sides_are_told() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::new(upstream.address, HOUR).await;
    let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
    server.write_all(&text_frame("news")).await.unwrap();
    client.read_exact(&mut [0; 6]).await.unwrap();
    harness.fixture.revoke(harness.session.id).await;
    assert_eq!(read_rest(&mut client).await, (close_frame(4401, "revoked"), true));
    // What comes now reaches nobody.
    let _ = client.write_all(&[0x81, 0x80, 0, 0, 0, 0]).await;
    assert_eq!(read_rest(&mut server).await.0, masked_close_frame(1001, "revoked"));
    drop((client, server));
    harness.emptied().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_shutdown_everybody_is_told() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::new(upstream.address, HOUR).await;
    let (mut client, (_server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
    harness.gateway.enforcer().connections().shut_down();
    assert_eq!(read_rest(&mut client).await.0, close_frame(1001, "the gateway is stopping"));
    drop(client);
    harness.emptied().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rest_of_a_frame_goes_before_the_close_frame_and_nothing_else_does() {
    let upstream = ScriptedUpstream::new().await;
    let message = text_frame(&"x".repeat(100));
    // Cut within the header, just after it, and within the payload.
    for cut in [1, 2, 50] {
        let harness = Harness::new(upstream.address, HOUR).await;
        let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
        server.write_all(&message[..cut]).await.unwrap();
        let mut got = vec![0; cut];
        client.read_exact(&mut got).await.unwrap();
        harness.gateway.enforcer().connections().shut_down();
        let rest = [&message[cut..], &text_frame("and more")].concat();
        server.write_all(&rest).await.unwrap();
        got.extend(read_rest(&mut client).await.0);
        let wanted = [&message[..], &close_frame(1001, "the gateway is stopping")].concat();
        assert_eq!(got, wanted, "cut at {cut}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_does_not_end_is_dropped_with_its_connection() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::new(upstream.address, HOUR).await;
    let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
    let begun = &text_frame(&"x".repeat(100))[..50];
    server.write_all(begun).await.unwrap();
    client.read_exact(&mut [0; 50]).await.unwrap();
    let start = Instant::now();
    harness.fixture.revoke(harness.session.id).await;
    assert_eq!(read_rest(&mut client).await.0, b"");
    // 100 ms by the contract; the rest is a busy machine's.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    harness.emptied().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn within_a_frame_of_the_client_the_upstream_gets_no_more_at_all() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::new(upstream.address, HOUR).await;
    let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
    client.write_all(&[0x82, 0x84, 0, 0, 0, 0, 1, 2]).await.unwrap();
    server.read_exact(&mut [0; 8]).await.unwrap();
    harness.fixture.revoke(harness.session.id).await;
    assert_eq!(read_rest(&mut client).await, (close_frame(4401, "revoked"), true));
    let _ = client.write_all(&[3, 4]).await;
    assert_eq!(read_rest(&mut server).await.0, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_closes_already_gets_no_second_close_frame() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::new(upstream.address, HOUR).await;
    let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
    let goodbye = close_frame(1000, "bye");
    server.write_all(&goodbye).await.unwrap();
    let mut got = vec![0; goodbye.len()];
    client.read_exact(&mut got).await.unwrap();
    harness.fixture.revoke(harness.session.id).await;
    assert_eq!(read_rest(&mut client).await, (Vec::new(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_of_impossible_length_closes_both_sides() {
    let upstream = ScriptedUpstream::new().await;
    let harness = Harness::new(upstream.address, HOUR).await;
    let (mut client, (_server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
    client.write_all(&[0x82, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
    assert_eq!(read_rest(&mut client).await.0, close_frame(1002, "a frame of impossible length"));
    drop(client);
    harness.emptied().await;
}

/// The messages say when they were sent, by the same clock that the session ends by.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_sent_after_the_expiry_is_forwarded() {
    let upstream = ScriptedUpstream::new().await;
    // Time enough to connect on a machine under load, and to send until then.
    let harness = Harness::new(upstream.address, Duration::from_secs(5)).await;
    let (mut client, (mut server, _)) = tokio::join!(harness.connect_raw(), upstream.switch(""));
    let sessions = Arc::clone(&harness.fixture.sessions);
    let reader = tokio::spawn(async move { read_rest(&mut server).await.0 });
    let expires_at = harness.session.expires_at;
    let (mut receiver, mut sender) = client.split();
    let closing = async {
        let mut got = Vec::new();
        let _ = receiver.read_to_end(&mut got).await;
        (got, sessions.now())
    };
    let sending = async {
        while sessions.now() < expires_at.plus(tenure_domain::Millis::new(300)) {
            let mut frame = vec![0x82, 0x88, 0, 0, 0, 0];
            frame.extend(sessions.now().as_millis().to_be_bytes());
            if sender.write_all(&frame).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
    };
    let ((got, closed_at), ()) = tokio::join!(closing, sending);
    assert_eq!(got, close_frame(4401, "expired"));
    // 100 ms by the contract, which `live::tests` holds it to by paused time; the rest is a busy machine's.
    let late = closed_at.since(expires_at);
    assert!(late.get() <= 10_000, "closed {} ms after the expiry", late.get());
    let forwarded = reader.await.unwrap();
    let stamps: Vec<u64> = forwarded
        .chunks_exact(14)
        .map(|frame| u64::from_be_bytes(frame[6..].try_into().unwrap()))
        .filter(|stamp| *stamp < 1 << 41)
        .collect();
    assert!(!stamps.is_empty(), "nothing came through before");
    assert!(stamps.iter().all(|stamp| *stamp < expires_at.as_millis()), "{:?} {expires_at:?}", stamps.last());
}
