//! The reader of messages beside one that has all bytes at once.

use zeroize::Zeroizing;

use super::frames::{Found, read};
use super::input::pieces;
use crate::proxy::websocket::frame::{BINARY, CLOSE, CONTINUATION, InvalidFrameLength, TEXT};
use crate::proxy::websocket::message::{Message, MessageError, MessageReader, text_frame};

/// What a stream comes to: what was told, and where it ends in nonsense, or the text of a message not yet whole.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    got: Vec<Message>,
    error: Option<MessageError>,
    partial: Option<Vec<u8>>,
}

/// Reads bytes as messages. The first byte says of which side, the second how much is kept, the third in which pieces.
/// How many messages there were.
///
/// # Panics
/// Where a message differs from what its frames carry, more is kept than there is room for, or pieces and fragments make
/// a difference.
pub fn messages(bytes: &[u8]) -> usize {
    let Some((&[side, room, seed], bytes)) = bytes.split_first_chunk() else { return 0 };
    let (client, room) = (side % 2 == 1, usize::from(room) * 4);
    let wanted = expected(bytes, client, room);
    for seed in [0, 1, seed] {
        assert_eq!(outcome(pieces(bytes, seed), client, room), wanted);
    }
    fragments(bytes, client, room, seed);
    wanted.got.len()
}

fn outcome<'a>(pieces: impl Iterator<Item = &'a [u8]>, client: bool, room: usize) -> Outcome {
    let mut messages = if client { MessageReader::of_client(room) } else { MessageReader::of_server(room) };
    let mut outcome = Outcome::default();
    for mut piece in pieces {
        loop {
            match messages.next(&mut piece) {
                Ok(Some(Message::Text(text))) => {
                    // A vector at most doubles what it needs.
                    assert!(text.len() <= room && text.capacity() <= (2 * room).max(8), "more than {room} kept");
                    outcome.got.push(Message::Text(text));
                }
                Ok(Some(got)) => outcome.got.push(got),
                Ok(None) => break,
                Err(error) => return Outcome { error: Some(error), ..outcome },
            }
        }
        assert!(piece.is_empty(), "bytes were left over");
        assert!(messages.partial().is_none_or(|text| text.len() <= room), "more than {room} kept");
    }
    outcome.partial = messages.partial().map(<[u8]>::to_vec);
    outcome
}

/// The same, read at leisure.
fn expected(bytes: &[u8], client: bool, room: usize) -> Outcome {
    let (frames, broken) = read(bytes);
    let mut outcome = Outcome::default();
    let mut message: Option<(u8, Vec<u8>)> = None;
    for frame in frames {
        let head = frame.head;
        let control = (8..=10).contains(&head.opcode);
        let placed = match head.opcode {
            TEXT | BINARY => message.is_none(),
            CONTINUATION => message.is_some(),
            _ => control && head.fin && head.length < 126,
        };
        if head.masked != client {
            return Outcome { error: Some(MessageError::Mask), ..outcome };
        }
        if head.reserved || !placed {
            return Outcome { error: Some(MessageError::OutOfPlace), ..outcome };
        }
        if head.opcode == CLOSE {
            outcome.got.push(Message::Close);
        }
        if control {
            continue;
        }
        let (_, text) = message.get_or_insert((head.opcode, Vec::new()));
        text.extend(payload(bytes, &frame));
        text.truncate(room);
        if head.fin && frame.end <= bytes.len() as u64 {
            let whole = message.take().map(|(opcode, text)| match opcode {
                TEXT => Message::Text(Zeroizing::new(text)),
                _ => Message::Binary,
            });
            outcome.got.extend(whole);
        }
    }
    if broken {
        return Outcome { error: Some(MessageError::Frame(InvalidFrameLength)), ..outcome };
    }
    outcome.partial = message.filter(|(opcode, _)| *opcode == TEXT).map(|(_, text)| text);
    outcome
}

/// As much of a frame's payload as has come, without its mask.
fn payload(bytes: &[u8], frame: &Found) -> Vec<u8> {
    let rest = &bytes[usize::try_from(frame.begins).unwrap_or(bytes.len())..];
    let (key, rest) = if frame.head.masked { rest.split_at(rest.len().min(4)) } else { (&[0; 4][..], rest) };
    let length = usize::try_from(frame.head.length).map_or(rest.len(), |length| length.min(rest.len()));
    rest[..length].iter().enumerate().map(|(n, byte)| byte ^ key[n % 4]).collect()
}

/// A text is the same in however many fragments it comes, with pings between them.
fn fragments(text: &[u8], client: bool, room: usize, seed: u8) {
    let mut stream = Vec::new();
    let parts: Vec<&[u8]> = pieces(text, seed | 1).take(50).collect();
    let text = parts.concat();
    let mut put = |first: u8, payload: &[u8]| {
        let key = [seed, 0x5a, 0xff, room as u8];
        let mask = if client { 128 } else { 0 };
        // At most 501 bytes. The longer form is no error where the shorter would do.
        stream.extend([first, mask | 126, (payload.len() >> 8) as u8, payload.len() as u8]);
        stream.extend(key.iter().filter(|_| client));
        stream.extend(payload.iter().enumerate().map(|(n, byte)| if client { byte ^ key[n % 4] } else { *byte }));
    };
    for (n, part) in parts.iter().enumerate() {
        put(if n == 0 { TEXT } else { CONTINUATION }, part);
        put(0x89, &part[..part.len().min(9)]);
    }
    put(0x80 | if parts.is_empty() { TEXT } else { CONTINUATION }, b"");
    let kept = Message::Text(Zeroizing::new(text[..text.len().min(room)].to_vec()));
    assert_eq!(outcome(pieces(&stream, seed), client, room).got, [kept]);
    if let Ok(text) = std::str::from_utf8(&text) {
        let whole = Message::Text(Zeroizing::new(text.as_bytes().to_vec()));
        assert_eq!(outcome(pieces(&text_frame(text), seed), false, text.len()).got, [whole]);
    }
}
