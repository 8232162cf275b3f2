//! Heads of HTTP/1.1 requests, looked at before hyper reads them: hyper drops a `Content-Length` that stands beside a
//! `Transfer-Encoding`, or twice, and takes a lone LF for the end of a line. Another server between a client and here
//! may have read the same bytes as other requests, so such a head is marked, and whoever answers refuses it.
//!
//! Nothing is held back, and nothing changed but octets of a target that hyper's parser refuses and other servers pass:
//! they go on as `%xx`. Where a body ends is followed, so that its bytes are never taken for a head; what
//! cannot be followed marks the head that would come next, and hyper does not get that far.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection_state::{AmbiguousRequest, ConnectionState};
use super::lingering_close::LingeringClose;

/// So much of a field is looked at, however long it is.
const FIELD_PREFIX: usize = 256;
/// A head of up to this size is not counted where all that are not whole are.
const SMALL_HEAD: usize = 4 * 1024;
/// So many bytes may those that are larger hold together; of more their connections are closed.
const MAX_PARTIAL_HEADS: usize = 32 * 1024 * 1024;

/// Which line comes next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ExpectedLine {
    /// A request line, or an empty one before it.
    Request,
    Field,
    ChunkSize,
    /// The empty one behind a chunk.
    ChunkEnd,
    Trailer,
}

/// How far the bytes of a connection have come.
#[derive(Debug)]
struct HeadScanner {
    next: ExpectedLine,
    /// Bytes of a body before the next line.
    skip: u64,
    /// The beginning of a line whose rest has not come; of a long field the first [`FIELD_PREFIX`] bytes and the last one.
    line_start: Vec<u8>,
    /// How long that line is by now.
    line_length: usize,
    /// So long may a line be.
    max_line: usize,
    /// Bytes of the head in progress.
    size: usize,
    /// How many heads have begun.
    heads: u64,
    length: Option<u64>,
    coded: bool,
    /// Where octets that are to be escaped stand in what was looked at last.
    to_escape: Vec<usize>,
}

impl HeadScanner {
    fn new(max_line: usize) -> Self {
        let (line_start, to_escape) = (Vec::new(), Vec::new());
        Self {
            next: ExpectedLine::Request,
            skip: 0,
            line_start,
            line_length: 0,
            max_line,
            size: 0,
            heads: 0,
            length: None,
            coded: false,
            to_escape,
        }
    }

    /// Whether a request has begun to come in and has not ended.
    fn is_mid_request(&self) -> bool {
        self.skip > 0 || self.next != ExpectedLine::Request || !self.line_start.is_empty()
    }

    /// Looks at what came in.
    ///
    /// # Errors
    /// [`AmbiguousRequest`]. There is nothing to be looked at afterwards.
    fn scan(&mut self, bytes: &[u8]) -> Result<(), AmbiguousRequest> {
        self.scan_bytes(bytes).map_err(|text| {
            let head = if self.next == ExpectedLine::Field { self.heads - 1 } else { self.heads };
            AmbiguousRequest { head, text }
        })
    }

    fn scan_bytes(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        let whole = bytes.len();
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
                self.skip -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            let end = memchr(b'\n', bytes).map(|at| at + 1);
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            if self.next == ExpectedLine::Request && piece.iter().any(|byte| matches!(byte, b'"' | b'<' | b'>' | b'`'))
            {
                self.mark_octets(piece, whole - bytes.len());
            }
            bytes = rest;
            self.line_length += piece.len();
            if self.line_length > self.max_line {
                return Err("a line is too long");
            }
            if end.is_none() {
                self.buffer_line(piece);
            } else if self.line_start.is_empty() {
                self.on_line(piece)?;
            } else {
                let mut whole = std::mem::take(&mut self.line_start);
                whole.extend_from_slice(piece);
                self.on_line(&whole)?;
            }
            if end.is_some() {
                self.line_length = 0;
            }
            let in_head =
                matches!(self.next, ExpectedLine::Field | ExpectedLine::Trailer) || !self.line_start.is_empty();
            self.size = if in_head { self.size + piece.len() } else { 0 };
        }
        Ok(())
    }

    /// Keeps what will be asked for of a line that goes on: hyper holds the whole of it already.
    fn buffer_line(&mut self, piece: &[u8]) {
        let Some((last, rest)) = piece.split_last() else { return };
        if !matches!(self.next, ExpectedLine::Field | ExpectedLine::Trailer) {
            return self.line_start.extend_from_slice(piece);
        }
        self.line_start.truncate(FIELD_PREFIX);
        let room = rest.len().min(FIELD_PREFIX - self.line_start.len());
        self.line_start.extend_from_slice(&rest[..room]);
        self.line_start.push(*last);
    }

    /// Notes where a piece of a request line, that stands at `start`, has octets in its target that the parser refuses.
    fn mark_octets(&mut self, piece: &[u8], start: usize) {
        let (mut spaces, mut query) = (0, false);
        let line_start = self.line_start.len();
        for (at, byte) in self.line_start.iter().chain(piece).enumerate() {
            match byte {
                b' ' => spaces += 1,
                b'?' => query = true,
                b'<' | b'>' => {}
                b'"' if query => {}
                b'`' if !query => {}
                _ => continue,
            }
            if spaces == 1 && at >= line_start && !matches!(byte, b' ' | b'?') {
                self.to_escape.push(start + at - line_start);
            }
        }
    }

    fn on_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = line.strip_suffix(b"\r\n").ok_or("a line must end with CR and LF")?;
        match self.next {
            ExpectedLine::Request if line.is_empty() => {}
            // The parser would drop it, and judge another target than the one that came (RFC 9112 section 3.2).
            ExpectedLine::Request if has_fragment(line) => {
                return Err("the target of a request must not have a fragment (#)");
            }
            ExpectedLine::Request => {
                self.heads += 1;
                (self.length, self.coded) = (None, false);
                self.next = ExpectedLine::Field;
            }
            ExpectedLine::Field if line.is_empty() && self.coded => self.next = ExpectedLine::ChunkSize,
            ExpectedLine::Field if line.is_empty() => {
                self.skip = self.length.unwrap_or(0);
                self.next = ExpectedLine::Request;
            }
            ExpectedLine::Field => self.on_field(line)?,
            ExpectedLine::ChunkSize => {
                self.skip = parse_number(line.split(|byte| *byte == b';').next().unwrap_or(line), 16)?;
                self.next = if self.skip == 0 { ExpectedLine::Trailer } else { ExpectedLine::ChunkEnd };
            }
            ExpectedLine::ChunkEnd if line.is_empty() => self.next = ExpectedLine::ChunkSize,
            ExpectedLine::ChunkEnd => return Err("a chunk is longer than it says"),
            ExpectedLine::Trailer if line.is_empty() => self.next = ExpectedLine::Request,
            ExpectedLine::Trailer => {}
        }
        Ok(())
    }

    fn on_field(&mut self, line: &[u8]) -> Result<(), &'static str> {
        if field_value(line, b"transfer-encoding").is_some() {
            self.coded = true;
        } else if let Some(value) = field_value(line, b"content-length") {
            if line.len() > FIELD_PREFIX {
                return Err("the length of a body must be a number");
            }
            if self.length.replace(parse_number(value, 10)?).is_some() {
                return Err("a request must have only one Content-Length");
            }
        } else {
            return Ok(());
        }
        if self.coded && self.length.is_some() {
            return Err("a request must not have both Content-Length and Transfer-Encoding");
        }
        Ok(())
    }
}

/// Whether the target of a request line has a `#`. Methods may have one.
fn has_fragment(line: &[u8]) -> bool {
    let target = memchr(b' ', line).map_or(line, |end| &line[end..]);
    memchr(b'#', target).is_some()
}

/// What stands behind the colon of a field of this name.
fn field_value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    rest.strip_prefix(b":").filter(|_| found.eq_ignore_ascii_case(name))
}

/// A number without a sign.
fn parse_number(text: &[u8], radix: u32) -> Result<u64, &'static str> {
    let text = std::str::from_utf8(text).unwrap_or_default().trim_matches([' ', '\t']);
    let digits = text.bytes().all(|byte| char::from(byte).is_digit(radix));
    let parse_number = if digits { u64::from_str_radix(text, radix).ok() } else { None };
    parse_number.ok_or("the length of a body must be a number")
}

/// A connection whose heads are looked at, until one of them is unclear or it speaks HTTP no more.
pub(super) struct SmugglingGuard<S> {
    stream: S,
    state: Arc<ConnectionState>,
    scanner: HeadScanner,
    partial_head: PartialHead,
    /// What came in and did not fit any more once it was escaped.
    rest: Vec<u8>,
    lingering: Option<LingeringClose>,
}

impl<S> SmugglingGuard<S> {
    /// `most`: so large may a head be. `partial_heads` counts the bytes of those that are not whole, on all connections.
    pub(super) fn new(
        stream: S,
        state: Arc<ConnectionState>,
        max_line: usize,
        partial_heads: Arc<AtomicUsize>,
    ) -> Self {
        let partial_head = PartialHead { all: partial_heads, counted: 0 };
        Self { stream, state, scanner: HeadScanner::new(max_line), partial_head, rest: Vec::new(), lingering: None }
    }

    /// Hands on what came in with the marked octets as `%xx`.
    fn escape(&mut self, buf: &mut ReadBuf<'_>, before: usize) {
        let came = &buf.filled()[before..];
        let mut escaped = Vec::with_capacity(came.len() + 2 * self.scanner.to_escape.len());
        let mut from = 0;
        for at in self.scanner.to_escape.drain(..) {
            escaped.extend_from_slice(&came[from..at]);
            escaped.extend_from_slice(format!("%{:02X}", came[at]).as_bytes());
            from = at + 1;
        }
        escaped.extend_from_slice(&came[from..]);
        buf.set_filled(before);
        let fits = escaped.len().min(buf.remaining());
        self.rest = escaped.split_off(fits);
        buf.put_slice(&escaped);
    }
}

/// A connection's part of what all half heads hold.
struct PartialHead {
    all: Arc<AtomicUsize>,
    counted: usize,
}

impl PartialHead {
    /// Counts the head in progress anew; false where all of them together hold too much for it to grow.
    fn update(&mut self, size: usize) -> bool {
        let size = if size > SMALL_HEAD { size } else { 0 };
        if size == self.counted {
            return true;
        }
        let grown = size.saturating_sub(self.counted);
        let before = self.all.fetch_add(grown, Ordering::Relaxed);
        self.all.fetch_sub(self.counted.saturating_sub(size), Ordering::Relaxed);
        self.counted = size;
        grown == 0 || before + grown <= MAX_PARTIAL_HEADS
    }
}

impl Drop for PartialHead {
    fn drop(&mut self) {
        self.all.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

/// Reads a little: hyper makes twice as much room after each read that fills what there is.
fn poll_read_small<S: AsyncRead + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    buf: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    let mut room = [0; SMALL_HEAD];
    let most = buf.remaining().min(SMALL_HEAD);
    let mut some = ReadBuf::new(&mut room[..most]);
    ready!(Pin::new(stream).poll_read(cx, &mut some))?;
    buf.put_slice(some.filled());
    Poll::Ready(Ok(()))
}

impl<S: AsyncRead + Unpin> AsyncRead for SmugglingGuard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.rest.is_empty() {
            let fits = this.rest.len().min(buf.remaining());
            buf.put_slice(&this.rest[..fits]);
            this.rest.drain(..fits);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let polled = if this.scanner.size > SMALL_HEAD {
            poll_read_small(&mut this.stream, cx, buf)
        } else {
            Pin::new(&mut this.stream).poll_read(cx, buf)
        };
        if this.state.is_scanned()
            && let Err(unclear) = this.scanner.scan(&buf.filled()[before..])
        {
            this.state.refuse(unclear);
        }
        if !this.partial_head.update(this.scanner.size) {
            tracing::warn!(remote = %this.state.remote(), "closing a connection: too many large headers come in at once");
            return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
        }
        if !this.scanner.to_escape.is_empty() {
            this.escape(buf, before);
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SmugglingGuard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if this.state.has_switched() {
            return Poll::Ready(Ok(()));
        }
        let is_mid_request = this.scanner.is_mid_request() || !this.state.is_scanned();
        this.lingering.get_or_insert_with(LingeringClose::new).poll(&mut this.stream, is_mid_request, cx).map(Ok)
    }
}

#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
