//! Heads of HTTP/1.1 requests, looked at before hyper reads them: hyper drops a `Content-Length` that stands beside a
//! `Transfer-Encoding`, or twice, and takes a lone LF for the end of a line. Another server between a client and here
//! may have read the same bytes as other requests, so such a head is marked, and whoever answers refuses it.
//!
//! Nothing is held back or changed. Where a body ends is followed, so that its bytes are never taken for a head; what
//! cannot be followed marks the head that would come next, and hyper does not get that far.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::serve::{HEADER_MAX, Line};

/// A head that servers may read differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unclear {
    /// How many heads came before it.
    pub(super) head: u64,
    /// What its client is told.
    pub(super) text: &'static str,
}

/// Which line comes next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Next {
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
struct Heads {
    next: Next,
    /// Bytes of a body before the next line.
    skip: u64,
    /// The beginning of a line whose rest has not come.
    begun: Vec<u8>,
    /// How many heads have begun.
    heads: u64,
    length: Option<u64>,
    coded: bool,
}

impl Heads {
    const fn new() -> Self {
        Self { next: Next::Request, skip: 0, begun: Vec::new(), heads: 0, length: None, coded: false }
    }

    /// Looks at what came in.
    ///
    /// # Errors
    /// [`Unclear`]. There is nothing to be looked at afterwards.
    fn look(&mut self, bytes: &[u8]) -> Result<(), Unclear> {
        self.follow(bytes).map_err(|text| {
            let head = if self.next == Next::Field { self.heads - 1 } else { self.heads };
            Unclear { head, text }
        })
    }

    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let passed = usize::try_from(self.skip).map_or(bytes.len(), |skip| skip.min(bytes.len()));
                self.skip -= passed as u64;
                bytes = &bytes[passed..];
                continue;
            }
            let end = memchr(b'\n', bytes).map(|at| at + 1);
            let (piece, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
            bytes = rest;
            if self.begun.len() + piece.len() > HEADER_MAX as usize {
                return Err("a line is too long");
            }
            if end.is_none() {
                self.begun.extend_from_slice(piece);
            } else if self.begun.is_empty() {
                self.line(piece)?;
            } else {
                let mut whole = std::mem::take(&mut self.begun);
                whole.extend_from_slice(piece);
                self.line(&whole)?;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let line = line.strip_suffix(b"\r\n").ok_or("a line ends with CR and LF")?;
        match self.next {
            Next::Request if line.is_empty() => {}
            // The parser would drop it, and judge another target than the one that came (RFC 9112 section 3.2).
            Next::Request if has_fragment(line) => return Err("the target of a request has no fragment (#)"),
            Next::Request => {
                self.heads += 1;
                (self.length, self.coded) = (None, false);
                self.next = Next::Field;
            }
            Next::Field if line.is_empty() && self.coded => self.next = Next::ChunkSize,
            Next::Field if line.is_empty() => {
                self.skip = self.length.unwrap_or(0);
                self.next = Next::Request;
            }
            Next::Field => self.field(line)?,
            Next::ChunkSize => {
                self.skip = number(line.split(|byte| *byte == b';').next().unwrap_or(line), 16)?;
                self.next = if self.skip == 0 { Next::Trailer } else { Next::ChunkEnd };
            }
            Next::ChunkEnd if line.is_empty() => self.next = Next::ChunkSize,
            Next::ChunkEnd => return Err("a chunk is longer than it says"),
            Next::Trailer if line.is_empty() => self.next = Next::Request,
            Next::Trailer => {}
        }
        Ok(())
    }

    fn field(&mut self, line: &[u8]) -> Result<(), &'static str> {
        if value_of(line, b"transfer-encoding").is_some() {
            self.coded = true;
        } else if let Some(value) = value_of(line, b"content-length") {
            if self.length.replace(number(value, 10)?).is_some() {
                return Err("a request has one Content-Length");
            }
        } else {
            return Ok(());
        }
        if self.coded && self.length.is_some() {
            return Err("a request has a Content-Length or a Transfer-Encoding, and not both");
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
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    rest.strip_prefix(b":").filter(|_| found.eq_ignore_ascii_case(name))
}

/// A number without a sign.
fn number(text: &[u8], radix: u32) -> Result<u64, &'static str> {
    let text = std::str::from_utf8(text).unwrap_or_default().trim_matches([' ', '\t']);
    let digits = text.bytes().all(|byte| char::from(byte).is_digit(radix));
    let number = if digits { u64::from_str_radix(text, radix).ok() } else { None };
    number.ok_or("the length of a body is a number")
}

/// A connection whose heads are looked at, until one of them is unclear or it speaks HTTP no more.
pub(super) struct Screened<S> {
    stream: S,
    line: Arc<Line>,
    heads: Heads,
}

impl<S> Screened<S> {
    pub(super) const fn new(stream: S, line: Arc<Line>) -> Self {
        Self { stream, line, heads: Heads::new() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Screened<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if this.line.is_followed()
            && let Err(unclear) = this.heads.look(&buf.filled()[before..])
        {
            this.line.refuse(unclear);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Screened<S> {
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
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
