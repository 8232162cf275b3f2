//! The reader of frames beside one that has all bytes at once.

use super::input::pieces;
use crate::proxy::websocket::frame::{
    CLOSE, FrameHeader, FrameParser, InvalidFrameLength, close_frame, masked_close_frame,
};

/// A frame, and where its header and the whole of it end; beyond the bytes where they do not reach so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) head: FrameHeader,
    pub(super) begins: u64,
    pub(super) end: u64,
}

/// The frames in some bytes (RFC 6455 section 5.2), and whether one is broken behind them.
pub(super) fn read(bytes: &[u8]) -> (Vec<Found>, bool) {
    let mut found: Vec<Found> = Vec::new();
    let mut at = 0;
    while let Some(&[first, second]) = bytes.get(at..at + 2) {
        let extended = match second & 127 {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(wide) = bytes.get(at + 2..at + 2 + extended) else { break };
        let length = match extended {
            0 => u64::from(second & 127),
            _ => wide.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
        };
        if length > i64::MAX as u64 {
            return (found, true);
        }
        let (fin, reserved, masked) = (first & 128 != 0, first & 112 != 0, second & 128 != 0);
        let head = FrameHeader { fin, reserved, opcode: first & 15, masked, length };
        let begins = (at + 2 + extended) as u64;
        let end = begins + if masked { 4 } else { 0 } + length;
        found.push(Found { head, begins, end });
        match usize::try_from(end) {
            Ok(end) if end <= bytes.len() => at = end,
            _ => break,
        }
    }
    (found, false)
}

/// Reads bytes as a stream of frames, in pieces that the first byte tells. How many frames there were.
///
/// # Panics
/// Where a frame, or an end of one, is found elsewhere than it is.
pub fn frames(bytes: &[u8]) -> usize {
    let Some((seed, bytes)) = bytes.split_first() else { return 0 };
    let (wanted, broken) = read(bytes);
    for seed in [0, 1, *seed] {
        let mut frames = FrameParser::new();
        let mut found = Vec::new();
        let mut at = 0;
        let outcome = pieces(bytes, seed).try_for_each(|piece| {
            frames.advance(piece, |head| found.push(head))?;
            at += piece.len();
            ends_with_it(&frames, at as u64, &wanted);
            Ok(())
        });
        assert_eq!(outcome, if broken { Err(InvalidFrameLength) } else { Ok(()) });
        assert!(found.iter().eq(wanted.iter().map(|frame| &frame.head)), "{found:?} instead of {wanted:?}");
    }
    closes(bytes, seed % 2 == 0);
    wanted.len()
}

/// What is said to belong to the frame in progress does so.
fn ends_with_it(frames: &FrameParser, at: u64, wanted: &[Found]) {
    let under_way = wanted.iter().find(|frame| frame.end > at);
    let boundary = at == 0 || wanted.iter().any(|frame| frame.end == at);
    assert_eq!((frames.at_boundary(), frames.remaining() == 0), (boundary, boundary), "at {at} of {wanted:?}");
    if let Some(frame) = under_way {
        assert!(
            at + frames.remaining() <= frame.end,
            "past the frame: {} wanted at {at} of {frame:?}",
            frames.remaining()
        );
        assert!(at < frame.begins || at + frames.remaining() == frame.end, "short of the end at {at} of {frame:?}");
    }
}

/// A close frame of the gateway's own is one, whatever its reason.
fn closes(reason: &[u8], masked: bool) {
    let reason = String::from_utf8_lossy(reason);
    let frame = if masked { masked_close_frame(4401, &reason) } else { close_frame(4401, &reason) };
    let (found, broken) = read(&frame);
    assert!(!broken && found.len() == 1 && found[0].end == frame.len() as u64, "{found:?}");
    let head = found[0].head;
    assert!(head.fin && !head.reserved && head.opcode == CLOSE && head.masked == masked && head.length <= 125);
    let text = &frame[usize::try_from(found[0].end - head.length).unwrap_or_default() + 2..];
    assert!(std::str::from_utf8(text).is_ok_and(|text| reason.starts_with(text)), "a reason cut within a character");
}
