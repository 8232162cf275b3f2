//! The end of a WebSocket that does not end by itself.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::bridge::{Bridge, Flow, Wire};
use crate::frames::{close_frame, masked_close_frame};

/// How long the rest of the frame under way, and the close frame after it, may take.
const REST_LIMIT: Duration = Duration::from_millis(100);
/// How long the client may take to answer the close frame. A connection dropped with unread data in it would be reset,
/// and the close frame lost with it.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// Towards the upstream the client is gone, whatever the reason.
const GOING_AWAY: u16 = 1001;
const ROOM: usize = 4 * 1024;

/// Closes both sides. To the client goes at most the rest of the frame under way, then the last word (a frame) where
/// there is one, and then a close frame with this code and reason; to the upstream nothing but a close frame, where it stands between two frames.
pub(crate) async fn close(bridge: Bridge, last_word: Option<Vec<u8>>, code: u16, reason: &str) {
    let Bridge { mut client, mut upstream, up, mut down, .. } = bridge;
    let mut words = last_word.unwrap_or_default();
    words.extend(close_frame(code, reason));
    let told = timeout(REST_LIMIT, tell_client(&mut client, &mut upstream, &mut down, &words)).await;
    if up.frames.at_boundary() && !up.closing {
        let _ = timeout(REST_LIMIT, farewell(&mut upstream, &masked_close_frame(GOING_AWAY, reason))).await;
    }
    drop(upstream);
    if let Ok(Ok(())) = told {
        let _ = timeout(ANSWER_LIMIT, drain(&mut client)).await;
    }
}

async fn tell_client(client: &mut Wire, upstream: &mut Wire, down: &mut Flow, words: &[u8]) -> io::Result<()> {
    while !down.frames.at_boundary() {
        let wanted = usize::try_from(down.frames.wanted()).unwrap_or(usize::MAX);
        if down.pending.is_empty() {
            let mut room = vec![0; wanted.min(ROOM)];
            let n = upstream.read(&mut room).await?;
            room.truncate(n);
            down.pending = Bytes::from(room);
        }
        let rest = down.pending.split_to(wanted.min(down.pending.len()));
        if rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        client.write_all(&rest).await?;
        if !down.wrote(&rest, |_| ()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    if !down.closing {
        client.write_all(words).await?;
    }
    client.shutdown().await
}

async fn farewell(upstream: &mut Wire, frame: &[u8]) -> io::Result<()> {
    upstream.write_all(frame).await?;
    upstream.shutdown().await
}

/// Reads and forgets what still comes, until the end.
async fn drain(wire: &mut Wire) -> io::Result<()> {
    let mut room = vec![0; ROOM];
    while wire.read(&mut room).await? > 0 {}
    Ok(())
}
