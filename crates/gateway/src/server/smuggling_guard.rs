//! The guard against request smuggling. It checks the heads of HTTP/1.1 requests before hyper reads them: hyper drops a
//! `Content-Length` that is repeated or stands beside a `Transfer-Encoding`, and accepts a lone LF as the end of a
//! line. A server in front may have read the same bytes as different requests. So such a head is marked, and the
//! request is refused.
//!
//! Nothing is held back, and nothing is changed except octets of a target that hyper's parser refuses and other servers
//! pass: these are percent-encoded. The guard follows each body to its end, so that its bytes are never read as a head.
//! If it cannot follow a body, it marks the next head, which hyper does not reach.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::connection_state::{AmbiguousRequest, ConnectionState};
use super::lingering_close::LingeringClose;

/// The number of bytes of a field that are read, however long the field is.
const FIELD_PREFIX: usize = 256;
/// An incomplete head of up to this size does not count towards [`MAX_PARTIAL_HEADS`].
const SMALL_HEAD: usize = 4 * 1024;
/// The most bytes of all larger incomplete heads together. Beyond that, their connections are closed.
const MAX_PARTIAL_HEADS: usize = 32 * 1024 * 1024;

/// The kind of line that comes next.
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

/// A scanner of the bytes of a connection.
#[derive(Debug)]
struct HeadScanner {
    next: ExpectedLine,
    /// The number of bytes of a body before the next line.
    skip: u64,
    /// The beginning of an incomplete line: of a long field the first [`FIELD_PREFIX`] bytes and the last one.
    line_start: Vec<u8>,
    /// The length of the incomplete line so far.
    line_length: usize,
    /// The most bytes of a line.
    max_line: usize,
    /// The number of bytes of the head in progress.
    size: usize,
    /// The number of heads that have begun.
    heads: u64,
    length: Option<u64>,
    coded: bool,
    /// The positions of octets to encode in the bytes that were scanned last.
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

    /// Whether a request is incomplete.
    fn is_mid_request(&self) -> bool {
        self.skip > 0 || self.next != ExpectedLine::Request || !self.line_start.is_empty()
    }

    /// Scans received bytes.
    ///
    /// # Errors
    /// [`AmbiguousRequest`]. Nothing is scanned afterwards.
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

    /// Keeps the part of an incomplete line that will be needed: hyper holds the whole line already.
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

    /// Records the positions of octets in a request line's target that hyper's parser refuses. `start` is the position
    /// of this piece of the line.
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
            // hyper's parser would drop the fragment, and judge another target than the one that came (RFC 9112 section
            // 3.2).
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

/// Whether the target of a request line has a `#`. A method may contain one.
fn has_fragment(line: &[u8]) -> bool {
    let target = memchr(b' ', line).map_or(line, |end| &line[end..]);
    memchr(b'#', target).is_some()
}

/// Returns the value of a line if it is a field of this name.
fn field_value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    rest.strip_prefix(b":").filter(|_| found.eq_ignore_ascii_case(name))
}

/// Parses a number without a sign.
fn parse_number(text: &[u8], radix: u32) -> Result<u64, &'static str> {
    let text = std::str::from_utf8(text).unwrap_or_default().trim_matches([' ', '\t']);
    let digits = text.bytes().all(|byte| char::from(byte).is_digit(radix));
    let parse_number = if digits { u64::from_str_radix(text, radix).ok() } else { None };
    parse_number.ok_or("the length of a body must be a number")
}

/// A connection whose heads are checked, until one of them is ambiguous or the connection switches protocols.
pub(super) struct SmugglingGuard<S> {
    stream: S,
    state: Arc<ConnectionState>,
    scanner: HeadScanner,
    partial_head: PartialHead,
    /// Received bytes that did not fit after encoding.
    rest: Vec<u8>,
    lingering: Option<LingeringClose>,
}

impl<S> SmugglingGuard<S> {
    /// Guards a stream whose heads may have at most `most` bytes. `partial_heads` counts the bytes of incomplete heads
    /// on all connections.
    pub(super) fn new(
        stream: S,
        state: Arc<ConnectionState>,
        max_line: usize,
        partial_heads: Arc<AtomicUsize>,
    ) -> Self {
        let partial_head = PartialHead { all: partial_heads, counted: 0 };
        Self { stream, state, scanner: HeadScanner::new(max_line), partial_head, rest: Vec::new(), lingering: None }
    }

    /// Passes received bytes on, with the marked octets as `%xx`.
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

/// A connection's share of the bytes of incomplete heads.
struct PartialHead {
    all: Arc<AtomicUsize>,
    counted: usize,
}

impl PartialHead {
    /// Updates the count for the head in progress. Returns false if all incomplete heads together are too large.
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

/// Reads a little at a time: hyper doubles its buffer after each read that fills it.
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
