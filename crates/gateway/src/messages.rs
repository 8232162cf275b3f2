//! WebSocket messages put together from frames, where the gateway has to read one.

use zeroize::Zeroizing;

use crate::frames::{BINARY, BrokenFrame, CLOSE, CONTINUATION, Frames, Head, Step, TEXT};

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// A whole text message, or as much of it as there is room for.
    Text(Zeroizing<Vec<u8>>),
    /// A whole binary message.
    Binary,
    /// A close frame has begun.
    Close,
}

/// A stream that is none of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoMessage {
    #[error(transparent)]
    Broken(#[from] BrokenFrame),
    /// A client has to mask, and a server must not.
    #[error("a frame is masked wrongly")]
    Mask,
    /// A message begins within another, or goes on without having begun; or a reserved bit or opcode is in use.
    #[error("a frame is out of place")]
    Place,
}

/// Reads messages of one side.
pub(crate) struct Messages {
    frames: Frames,
    /// Whether this side has to mask.
    masks: bool,
    /// The frame under way.
    head: Option<Head>,
    key: [u8; 4],
    /// Bytes of the frame after its header that have come.
    place: usize,
    /// The message under way: whether it is text.
    text: Option<bool>,
    payload: Zeroizing<Vec<u8>>,
    /// So much of a message is kept; the rest is read over.
    room: usize,
}

impl Messages {
    /// Those of a client, each kept up to `room` bytes.
    pub(crate) fn of_client(room: usize) -> Self {
        Self::new(true, room)
    }

    /// Those of a server, each kept up to `room` bytes.
    pub(crate) fn of_server(room: usize) -> Self {
        Self::new(false, room)
    }

    fn new(masks: bool, room: usize) -> Self {
        let payload = Zeroizing::new(Vec::new());
        Self { frames: Frames::new(), masks, head: None, key: [0; 4], place: 0, text: None, payload, room }
    }

    /// Reads on, up to the next thing to tell. `None`: the bytes are used up.
    ///
    /// # Errors
    /// [`NoMessage`].
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Got>, NoMessage> {
        while !bytes.is_empty() {
            let (taken, step) = self.frames.step(bytes)?;
            let (part, rest) = bytes.split_at(taken);
            *bytes = rest;
            match step {
                Step::Header => {}
                Step::Begins(head) => {
                    self.begin(head)?;
                    if head.opcode == CLOSE {
                        return Ok(Some(Got::Close));
                    }
                }
                Step::Body => self.take(part),
            }
            if self.frames.at_boundary()
                && let Some(got) = self.head.take().and_then(|head| self.finish(head))
            {
                return Ok(Some(got));
            }
        }
        Ok(None)
    }

    fn begin(&mut self, head: Head) -> Result<(), NoMessage> {
        if head.masked != self.masks {
            return Err(NoMessage::Mask);
        }
        // No extension is in use where messages are read.
        if head.reserved {
            return Err(NoMessage::Place);
        }
        match (head.opcode, self.text) {
            (TEXT | BINARY, None) => self.text = Some(head.opcode == TEXT),
            (CONTINUATION, Some(_)) => {}
            (8..=10, _) if head.fin && head.length <= 125 => {}
            _ => return Err(NoMessage::Place),
        }
        self.head = Some(head);
        self.place = 0;
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) {
        let Some(head) = self.head else { return };
        let before = if head.masked { 4 } else { 0 };
        for byte in bytes {
            let place = self.place;
            self.place += 1;
            if place < before {
                self.key[place] = *byte;
            } else if head.is_data() && self.payload.len() < self.room {
                let key = if head.masked { self.key[place % 4] } else { 0 };
                self.payload.push(byte ^ key);
            }
        }
    }

    fn finish(&mut self, head: Head) -> Option<Got> {
        if !head.is_data() || !head.fin {
            return None;
        }
        let payload = std::mem::take(&mut self.payload);
        Some(if self.text.take()? { Got::Text(payload) } else { Got::Binary })
    }

    /// What there is by now of a text message that is not whole.
    pub(crate) fn partial(&self) -> Option<&[u8]> {
        self.text.filter(|text| *text).map(|_| self.payload.as_slice())
    }
}

/// A text message of a server, in one frame.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x80 | TEXT];
    match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(short @ 0..=125), _) => frame.push(short),
        (_, Ok(length)) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend((text.len() as u64).to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
        let mask = if key.is_some() { 0x80 } else { 0 };
        let mut bytes = vec![first, mask | 126];
        bytes.extend((payload.len() as u16).to_be_bytes());
        bytes.extend(key.unwrap_or_default().iter().take(if key.is_some() { 4 } else { 0 }));
        let key = key.unwrap_or_default();
        bytes.extend(payload.iter().enumerate().map(|(n, byte)| byte ^ key[n % 4]));
        bytes
    }

    fn read(messages: &mut Messages, mut bytes: &[u8]) -> Result<Vec<Got>, NoMessage> {
        let mut got = Vec::new();
        while let Some(next) = messages.next(&mut bytes)? {
            got.push(next);
        }
        Ok(got)
    }

    fn text(text: &str) -> Got {
        Got::Text(Zeroizing::new(text.as_bytes().to_vec()))
    }

    #[test]
    fn a_message_is_read_whole_however_it_comes() {
        let key = Some([1, 2, 3, 4]);
        let stream = [
            frame(0x89, key, b"ping between"),
            frame(0x01, key, b"hel"),
            frame(0x00, key, b""),
            frame(0x8a, key, b""),
            frame(0x80, Some([9; 4]), b"lo"),
            frame(0x82, key, b"bytes"),
            frame(0x81, key, &[b'x'; 300]),
            frame(0x88, key, b"\x03\xe8"),
        ]
        .concat();
        let wanted = vec![text("hello"), Got::Binary, text(&"x".repeat(300)), Got::Close];
        for split in 0..=stream.len() {
            let mut messages = Messages::of_client(1000);
            let mut got = read(&mut messages, &stream[..split]).unwrap();
            got.extend(read(&mut messages, &stream[split..]).unwrap());
            assert_eq!(got, wanted, "split at {split}");
        }
    }

    #[test]
    fn what_no_side_may_send_is_told() {
        for (bytes, error) in [
            (frame(0x81, None, b"a"), NoMessage::Mask),
            (frame(0x80, Some([0; 4]), b"a"), NoMessage::Place),
            (frame(0x83, Some([0; 4]), b"a"), NoMessage::Place),
            (frame(0xc1, Some([0; 4]), b"a"), NoMessage::Place),
            (frame(0x99, Some([0; 4]), b"a"), NoMessage::Place),
            (frame(0x09, Some([0; 4]), b"a"), NoMessage::Place),
            (frame(0x89, Some([0; 4]), &[0; 126]), NoMessage::Place),
            ([frame(0x01, Some([0; 4]), b"a"), frame(0x01, Some([0; 4]), b"a")].concat(), NoMessage::Place),
            (vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], NoMessage::Broken(BrokenFrame)),
        ] {
            assert_eq!(read(&mut Messages::of_client(1000), &bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(read(&mut Messages::of_server(9), &frame(0x81, Some([0; 4]), b"a")), Err(NoMessage::Mask));
    }

    #[test]
    fn of_a_long_message_the_beginning_is_kept() {
        let mut messages = Messages::of_server(4);
        let bytes = frame(0x81, None, b"abcdefgh");
        assert_eq!(read(&mut messages, &bytes[..7]).unwrap(), []);
        assert_eq!(messages.partial(), Some(&b"abc"[..]));
        assert_eq!(read(&mut messages, &bytes[7..]).unwrap(), [text("abcd")]);
        for length in [0, 125, 126, 70_000] {
            let long = "y".repeat(length);
            assert_eq!(read(&mut Messages::of_server(100_000), &text_frame(&long)).unwrap(), [text(&long)]);
        }
    }
}
