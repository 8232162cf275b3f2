//! WebSocket messages put together from frames, where the gateway has to read one.

use zeroize::Zeroizing;

use super::frame::{BINARY, CLOSE, CONTINUATION, FrameHeader, FrameParser, FrameStep, InvalidFrameLength, TEXT};

/// A message, or its beginning.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// A whole text message, or as much of it as there is room for.
    Text(Zeroizing<Vec<u8>>),
    /// A whole binary message.
    Binary,
    /// A close frame has begun.
    Close,
}

/// A stream that does not consist of valid messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error(transparent)]
    Frame(#[from] InvalidFrameLength),
    /// A client has to mask, and a server must not.
    #[error("a frame is masked wrongly")]
    Mask,
    /// A message begins within another, or goes on without having begun; or a reserved bit or opcode is in use.
    #[error("a frame is out of place")]
    OutOfPlace,
}

/// A reader of the messages of one side.
pub(crate) struct MessageReader {
    frames: FrameParser,
    /// Whether the frames of this side must be masked.
    must_mask: bool,
    /// The frame in progress.
    frame: Option<FrameHeader>,
    key: [u8; 4],
    /// The number of bytes of the frame's payload that have been read.
    offset: usize,
    /// The message in progress: whether it is text.
    text: Option<bool>,
    payload: Zeroizing<Vec<u8>>,
    /// The most bytes of a message that are kept. The rest is skipped.
    max_size: usize,
}

impl MessageReader {
    /// Makes a reader of a client's messages that keeps up to `room` bytes of each.
    pub(crate) fn of_client(max_size: usize) -> Self {
        Self::new(true, max_size)
    }

    /// Makes a reader of a server's messages that keeps up to `room` bytes of each.
    pub(crate) fn of_server(max_size: usize) -> Self {
        Self::new(false, max_size)
    }

    fn new(must_mask: bool, max_size: usize) -> Self {
        let payload = Zeroizing::new(Vec::new());
        Self {
            frames: FrameParser::new(),
            must_mask,
            frame: None,
            key: [0; 4],
            offset: 0,
            text: None,
            payload,
            max_size,
        }
    }

    /// Reads up to the next message. Returns `None` if the bytes are used up.
    ///
    /// # Errors
    /// [`MessageError`].
    pub(crate) fn next(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, MessageError> {
        while !bytes.is_empty() {
            let (taken, step) = self.frames.step(bytes)?;
            let (part, rest) = bytes.split_at(taken);
            *bytes = rest;
            match step {
                FrameStep::PartialHeader => {}
                FrameStep::FrameStart(frame) => {
                    self.begin_frame(frame)?;
                    if frame.opcode == CLOSE {
                        return Ok(Some(Message::Close));
                    }
                }
                FrameStep::Payload => self.push_payload(part),
            }
            if self.frames.at_boundary()
                && let Some(got) = self.frame.take().and_then(|frame| self.finish_frame(frame))
            {
                return Ok(Some(got));
            }
        }
        Ok(None)
    }

    fn begin_frame(&mut self, frame: FrameHeader) -> Result<(), MessageError> {
        if frame.masked != self.must_mask {
            return Err(MessageError::Mask);
        }
        // Extensions are never negotiated where messages are read.
        if frame.reserved {
            return Err(MessageError::OutOfPlace);
        }
        match (frame.opcode, self.text) {
            (TEXT | BINARY, None) => self.text = Some(frame.opcode == TEXT),
            (CONTINUATION, Some(_)) => {}
            (8..=10, _) if frame.fin && frame.length <= 125 => {}
            _ => return Err(MessageError::OutOfPlace),
        }
        self.frame = Some(frame);
        self.offset = 0;
        Ok(())
    }

    fn push_payload(&mut self, bytes: &[u8]) {
        let Some(frame) = self.frame else { return };
        let before = if frame.masked { 4 } else { 0 };
        for byte in bytes {
            let offset = self.offset;
            self.offset += 1;
            if offset < before {
                self.key[offset] = *byte;
            } else if frame.is_data() && self.payload.len() < self.max_size {
                let key = if frame.masked { self.key[offset % 4] } else { 0 };
                self.payload.push(byte ^ key);
            }
        }
    }

    fn finish_frame(&mut self, frame: FrameHeader) -> Option<Message> {
        if !frame.is_data() || !frame.fin {
            return None;
        }
        let payload = std::mem::take(&mut self.payload);
        Some(if self.text.take()? { Message::Text(payload) } else { Message::Binary })
    }

    /// Returns what has been read of a text message that is not complete.
    pub(crate) fn partial(&self) -> Option<&[u8]> {
        self.text.filter(|text| *text).map(|_| self.payload.as_slice())
    }
}

/// Makes a text message of a server in one frame.
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

    fn read(messages: &mut MessageReader, mut bytes: &[u8]) -> Result<Vec<Message>, MessageError> {
        let mut got = Vec::new();
        while let Some(next) = messages.next(&mut bytes)? {
            got.push(next);
        }
        Ok(got)
    }

    fn text(text: &str) -> Message {
        Message::Text(Zeroizing::new(text.as_bytes().to_vec()))
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
        let remaining = vec![text("hello"), Message::Binary, text(&"x".repeat(300)), Message::Close];
        for split in 0..=stream.len() {
            let mut messages = MessageReader::of_client(1000);
            let mut got = read(&mut messages, &stream[..split]).unwrap();
            got.extend(read(&mut messages, &stream[split..]).unwrap());
            assert_eq!(got, remaining, "split at {split}");
        }
    }

    #[test]
    fn what_no_side_may_send_is_told() {
        for (bytes, error) in [
            (frame(0x81, None, b"a"), MessageError::Mask),
            (frame(0x80, Some([0; 4]), b"a"), MessageError::OutOfPlace),
            (frame(0x83, Some([0; 4]), b"a"), MessageError::OutOfPlace),
            (frame(0xc1, Some([0; 4]), b"a"), MessageError::OutOfPlace),
            (frame(0x99, Some([0; 4]), b"a"), MessageError::OutOfPlace),
            (frame(0x09, Some([0; 4]), b"a"), MessageError::OutOfPlace),
            (frame(0x89, Some([0; 4]), &[0; 126]), MessageError::OutOfPlace),
            ([frame(0x01, Some([0; 4]), b"a"), frame(0x01, Some([0; 4]), b"a")].concat(), MessageError::OutOfPlace),
            (vec![0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], MessageError::Frame(InvalidFrameLength)),
        ] {
            assert_eq!(read(&mut MessageReader::of_client(1000), &bytes), Err(error), "{bytes:?}");
        }
        assert_eq!(read(&mut MessageReader::of_server(9), &frame(0x81, Some([0; 4]), b"a")), Err(MessageError::Mask));
    }

    #[test]
    fn of_a_long_message_the_beginning_is_kept() {
        let mut messages = MessageReader::of_server(4);
        let bytes = frame(0x81, None, b"abcdefgh");
        assert_eq!(read(&mut messages, &bytes[..7]).unwrap(), []);
        assert_eq!(messages.partial(), Some(&b"abc"[..]));
        assert_eq!(read(&mut messages, &bytes[7..]).unwrap(), [text("abcd")]);
        for length in [0, 125, 126, 70_000] {
            let long = "y".repeat(length);
            assert_eq!(read(&mut MessageReader::of_server(100_000), &text_frame(&long)).unwrap(), [text(&long)]);
        }
    }
}
