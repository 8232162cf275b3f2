//! Closing a WebSocket from the gateway.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::frame::{close_frame, masked_close_frame};
use super::tunnel::{Direction, Tunnel, UpgradedStream};

/// How long the rest of the frame in progress, and the close frame after it, may take.
const FRAME_TIMEOUT: Duration = Duration::from_millis(100);
/// How long the client may take to answer the close frame. A connection dropped with unread data in it would be reset,
/// and the close frame lost with it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// To the upstream the client is gone (1001), whatever the reason.
const GOING_AWAY: u16 = 1001;
const READ_SIZE_ON_CLOSE: usize = 4 * 1024;

/// Closes both sides. The client gets at most the rest of the frame in progress, then a last frame if there is one, and
/// then a close frame with this code and reason. The upstream gets only a close frame, and only between two frames.
pub(crate) async fn close(tunnel: Tunnel, final_frame: Option<Vec<u8>>, code: u16, reason: &str) {
    let Tunnel { mut client, mut upstream, up, mut down, .. } = tunnel;
    let mut last_bytes = final_frame.unwrap_or_default();
    last_bytes.extend(close_frame(code, reason));
    let result = timeout(FRAME_TIMEOUT, close_client(&mut client, &mut upstream, &mut down, &last_bytes)).await;
    if up.frames.at_boundary() && !up.closing {
        let _ = timeout(FRAME_TIMEOUT, close_upstream(&mut upstream, &masked_close_frame(GOING_AWAY, reason))).await;
    }
    drop(upstream);
    if let Ok(Ok(())) = result {
        let _ = timeout(ANSWER_TIMEOUT, drain(&mut client)).await;
    }
}

async fn close_client(
    client: &mut UpgradedStream,
    upstream: &mut UpgradedStream,
    down: &mut Direction,
    last_bytes: &[u8],
) -> io::Result<()> {
    while !down.frames.at_boundary() {
        let remaining = usize::try_from(down.frames.remaining()).unwrap_or(usize::MAX);
        if down.pending.is_empty() {
            let mut room = vec![0; remaining.min(READ_SIZE_ON_CLOSE)];
            let n = upstream.read(&mut room).await?;
            room.truncate(n);
            down.pending = Bytes::from(room);
        }
        let rest = down.pending.split_to(remaining.min(down.pending.len()));
        if rest.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        client.write_all(&rest).await?;
        if !down.record_written(&rest, |_| ()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    if !down.closing {
        client.write_all(last_bytes).await?;
    }
    client.shutdown().await
}

async fn close_upstream(upstream: &mut UpgradedStream, frame: &[u8]) -> io::Result<()> {
    upstream.write_all(frame).await?;
    upstream.shutdown().await
}

/// Reads and drops what still comes, until the end.
async fn drain(wire: &mut UpgradedStream) -> io::Result<()> {
    let mut room = vec![0; READ_SIZE_ON_CLOSE];
    while wire.read(&mut room).await? > 0 {}
    Ok(())
}
