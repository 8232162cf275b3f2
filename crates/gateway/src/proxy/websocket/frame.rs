//! The boundaries of WebSocket frames (RFC 6455 section 5.2). Only headers are read, never payloads: bytes pass
//! unchanged, and a close frame from the gateway still lands between two frames.

/// The most bytes of a header without the masking key, which counts as payload.
const MAX_HEADER: usize = 10;

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Whether the frame is the last of its message.
    pub(crate) fin: bool,
    /// Whether a bit is set that only extensions give a meaning.
    pub(crate) reserved: bool,
    /// The opcode.
    pub(crate) opcode: u8,
    /// Whether the payload is masked, as in all frames of clients.
    pub(crate) masked: bool,
    /// The length of the payload in bytes.
    pub(crate) length: u64,
}

impl FrameHeader {
    /// Whether the frame carries part of a message, and is not a ping, a pong or a close.
    pub(crate) const fn is_data(self) -> bool {
        matches!(self.opcode, CONTINUATION | TEXT | BINARY)
    }
}

/// A frame of invalid length: its highest bit is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of impossible length")]
pub(crate) struct InvalidFrameLength;

/// A part of a stream of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameStep {
    /// Part of a header.
    PartialHeader,
    /// A header, or its last part.
    FrameStart(FrameHeader),
    /// A masking key, a payload, or part of it.
    Payload,
}

/// A position in a stream of frames. The stream may come in pieces of any size.
#[derive(Clone, Debug)]
pub(crate) struct FrameParser {
    header: [u8; MAX_HEADER],
    /// The bytes of the header that have been read.
    header_bytes: u8,
    /// The number of bytes of the frame's payload that are still to come.
    left: u64,
}

impl FrameParser {
    /// Makes the position before the first frame.
    pub(crate) const fn new() -> Self {
        Self { header: [0; MAX_HEADER], header_bytes: 0, left: 0 }
    }

    /// Whether the position is between two frames.
    pub(crate) const fn at_boundary(&self) -> bool {
        self.header_bytes == 0 && self.left == 0
    }

    /// Returns how many more bytes certainly belong to the frame in progress. It is zero between two frames.
    pub(crate) fn remaining(&self) -> u64 {
        if self.header_bytes > 0 { (self.header_length() - self.header_bytes) as u64 } else { self.left }
    }

    /// Advances by these bytes, and reports each header when it is complete.
    ///
    /// # Errors
    /// [`InvalidFrameLength`]; the position is then lost.
    pub(crate) fn advance(
        &mut self,
        mut bytes: &[u8],
        mut tell: impl FnMut(FrameHeader),
    ) -> Result<(), InvalidFrameLength> {
        while !bytes.is_empty() {
            let (taken, step) = self.step(bytes)?;
            bytes = &bytes[taken..];
            if let FrameStep::FrameStart(head) = step {
                tell(head);
            }
        }
        Ok(())
    }

    /// Advances to the end of the header or frame in progress, or of the bytes, which must not be empty. Returns by how
    /// many bytes.
    ///
    /// # Errors
    /// [`InvalidFrameLength`]; the position is then lost.
    pub(crate) fn step(&mut self, bytes: &[u8]) -> Result<(usize, FrameStep), InvalidFrameLength> {
        if self.left > 0 {
            let skip = self.left.min(bytes.len() as u64);
            self.left -= skip;
            // No more than there are bytes.
            return Ok((skip as usize, FrameStep::Payload));
        }
        for (n, byte) in bytes.iter().enumerate() {
            self.header[usize::from(self.header_bytes)] = *byte;
            self.header_bytes += 1;
            if self.header_bytes == self.header_length() {
                let head = self.head()?;
                self.header_bytes = 0;
                self.left = head.length + if head.masked { 4 } else { 0 };
                return Ok((n + 1, FrameStep::FrameStart(head)));
            }
        }
        Ok((bytes.len(), FrameStep::PartialHeader))
    }

    /// Returns the length of the header in progress without its key, as far as is known.
    fn header_length(&self) -> u8 {
        match (self.header_bytes, self.header[1] & 0x7f) {
            (0 | 1, _) => 2,
            (_, 126) => 4,
            (_, 127) => 10,
            _ => 2,
        }
    }

    fn head(&self) -> Result<FrameHeader, InvalidFrameLength> {
        let [first, second, rest @ ..] = self.header;
        let length = match second & 0x7f {
            126 => u64::from(u16::from_be_bytes([rest[0], rest[1]])),
            127 => u64::from_be_bytes(rest),
            short => u64::from(short),
        };
        if length >> 63 != 0 {
            return Err(InvalidFrameLength);
        }
        Ok(FrameHeader {
            fin: first & 0x80 != 0,
            reserved: first & 0x70 != 0,
            opcode: first & 0x0f,
            masked: second & 0x80 != 0,
            length,
        })
    }
}

/// Makes a close frame of a server with this code and reason, cut to the size of a control frame.
pub(crate) fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    close(code, reason, false)
}

/// Makes a close frame of a client. Its masking key is zero: masking is against payloads that an attacker chooses, and
/// this payload is the gateway's own.
pub(crate) fn masked_close_frame(code: u16, reason: &str) -> Vec<u8> {
    close(code, reason, true)
}

fn close(code: u16, reason: &str, masked: bool) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(123)];
    let mut frame = Vec::with_capacity(8 + reason.len());
    let mask = if masked { 0x80 } else { 0 };
    // At most 125.
    frame.extend([0x80 | CLOSE, mask | (2 + reason.len()) as u8]);
    if masked {
        frame.extend([0; 4]);
    }
    frame.extend(code.to_be_bytes());
    frame.extend(reason.as_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, fin: bool, masked: bool, length: usize) -> Vec<u8> {
        let mut bytes = vec![opcode | if fin { 0x80 } else { 0 }];
        let mask = if masked { 0x80 } else { 0 };
        match length {
            0..=125 => bytes.push(mask | length as u8),
            126..=65_535 => {
                bytes.push(mask | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend([0xff; 4]);
        }
        bytes.extend(std::iter::repeat_n(0xff, length));
        bytes
    }

    fn heads(frames: &mut FrameParser, bytes: &[u8]) -> Vec<FrameHeader> {
        let mut heads = Vec::new();
        frames.advance(bytes, |head| heads.push(head)).unwrap();
        heads
    }

    #[test]
    fn frames_are_told_alike_however_they_are_split() {
        let lengths = [0, 1, 125, 126, 127, 300, 65_535, 65_536];
        let mut stream = Vec::new();
        let mut remaining = Vec::new();
        for (n, length) in lengths.into_iter().enumerate() {
            let (opcode, fin, masked) = ([TEXT, CONTINUATION, BINARY, 9, CLOSE][n % 5], n % 3 != 0, n % 2 == 0);
            stream.extend(frame(opcode, fin, masked, length));
            remaining.push(FrameHeader { fin, reserved: false, opcode, masked, length: length as u64 });
        }
        // Every split in the small frames, and all around the headers of the large ones.
        let large = stream.len() - 2 * 65_560;
        let places = (0..large).chain(stream.len() - 65_600..stream.len() - 65_500).chain([stream.len()]);
        for split in places {
            let mut frames = FrameParser::new();
            let mut found = heads(&mut frames, &stream[..split]);
            found.extend(heads(&mut frames, &stream[split..]));
            assert_eq!(found, remaining, "split at {split}");
            assert!(frames.at_boundary());
        }
        let mut frames = FrameParser::new();
        let found: Vec<FrameHeader> = stream.iter().flat_map(|byte| heads(&mut frames, &[*byte])).collect();
        assert_eq!(found, remaining);
    }

    #[test]
    fn an_impossible_length_is_told() {
        let mut frames = FrameParser::new();
        let bytes = [0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(frames.advance(&bytes, |_| ()), Err(InvalidFrameLength));
        let longest = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        let mut frames = FrameParser::new();
        assert_eq!(heads(&mut frames, &longest)[0].length, u64::MAX >> 1);
        assert_eq!(frames.remaining(), (u64::MAX >> 1) + 4);
    }

    #[test]
    fn a_close_frame_is_one_frame_whatever_the_reason() {
        for reason in ["revoked", "", &"ü".repeat(200)] {
            for bytes in [close_frame(4401, reason), masked_close_frame(1001, reason)] {
                let mut frames = FrameParser::new();
                let found = heads(&mut frames, &bytes);
                assert_eq!(found.len(), 1);
                assert!(found[0].fin && found[0].opcode == CLOSE && found[0].length <= 125);
                assert!(frames.at_boundary());
            }
        }
        assert_eq!(close_frame(4401, "idle"), [0x88, 6, 0x11, 0x31, b'i', b'd', b'l', b'e']);
    }

    proptest! {
        /// Whatever comes, nothing panics, and the pieces make no difference; following what is wanted ends at a
        /// boundary.
        #[test]
        fn any_bytes_are_taken_in_any_pieces(
            bytes in proptest::collection::vec(any::<u8>(), 0..600),
            cuts in proptest::collection::vec(0_usize..600, 0..8),
        ) {
            let mut whole = FrameParser::new();
            let mut found = Vec::new();
            let outcome = whole.advance(&bytes, |head| found.push(head));
            let mut pieces = FrameParser::new();
            let mut again = Vec::new();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut result = Ok(());
            for pair in cuts.windows(2) {
                result = result.and_then(|()| pieces.advance(&bytes[pair[0]..pair[1]], |head| again.push(head)));
            }
            prop_assert_eq!(outcome, result);
            prop_assert_eq!(found, again);
            if outcome.is_ok() {
                prop_assert_eq!(whole.at_boundary(), pieces.at_boundary());
                prop_assert_eq!(whole.remaining(), pieces.remaining());
                prop_assert_eq!(whole.remaining() == 0, whole.at_boundary());
                for _ in 0..4 {
                    let remaining = usize::try_from(whole.remaining().min(100_000)).unwrap();
                    if whole.advance(&vec![0; remaining], |_| ()).is_err() {
                        break;
                    }
                }
            }
        }
    }
}
