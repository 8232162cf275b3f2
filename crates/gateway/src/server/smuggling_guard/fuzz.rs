//! The reader of heads beside hyper: of every request that passes they find the same line and the same body.

use std::convert::Infallible;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use axum::body::Body;
use axum::response::Response;
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::*;
use crate::fuzz::input::pieces;
use crate::server::request_check::check;
use tenure_tower::request::peer::Connection;

/// The largest head.
const MOST: usize = 64 * 1024;

/// Reads bytes as what a client sends on one connection, in pieces that the first byte tells. How many requests passed.
///
/// # Panics
/// Where pieces make a difference, or hyper reads a request that passes otherwise than it was judged.
pub fn heads(bytes: &[u8]) -> usize {
    let Some((seed, bytes)) = bytes.split_first() else { return 0 };
    for max_line in [MOST, 100] {
        however_they_come(&Seen::of(bytes, max_line), bytes, *seed, max_line);
    }
    let seen = Seen::of(bytes, MOST);
    let escaped = seen.escaped(bytes);
    let large = passed_on(pieces(bytes, 0), 2 * escaped.len() + 1);
    let small = passed_on(pieces(bytes, *seed), usize::from(*seed) % 40 + 1);
    // Of what is refused, only that it is.
    let until = if seen.verdict.is_ok() { escaped.len() } else { seen.clear };
    for found in [&large, &small] {
        assert_eq!(String::from_utf8_lossy(&found[..until]), String::from_utf8_lossy(&escaped[..until]));
    }
    seen.beside_hyper(bytes, *seed)
}

/// The verdict is the same in these pieces as byte by byte, and no more is kept than so much of a line.
fn however_they_come(seen: &Seen, bytes: &[u8], seed: u8, max_line: usize) {
    for seed in [0, seed] {
        let mut scanner = HeadScanner::new(max_line);
        let verdict = pieces(bytes, seed).try_for_each(|piece| {
            scanner.to_escape.clear();
            let looked = scanner.scan(piece);
            assert!(scanner.line_start.len() <= max_line, "{} bytes of a line are kept", scanner.line_start.len());
            assert!(
                scanner.to_escape.is_sorted() && scanner.to_escape.iter().all(|at| *at < piece.len()),
                "{:?}",
                scanner.to_escape
            );
            looked
        });
        assert_eq!((verdict, scanner.heads), (seen.verdict, seen.scanner.heads));
        if verdict.is_ok() {
            let place = |scanner: &HeadScanner| (scanner.next, scanner.skip, scanner.line_start.clone(), scanner.size);
            assert_eq!(place(&scanner), place(&seen.scanner));
        }
    }
}

/// A request as the reader of heads finds it.
#[derive(Debug, Default)]
struct Message {
    /// Its first line.
    line: Vec<u8>,
    /// The other lines of its head.
    fields: Vec<u8>,
    body: Vec<u8>,
    whole: bool,
}

impl Message {
    /// Says where its body ends in one way at most, in lines that end in one way.
    fn is_clear(&self) {
        let text = String::from_utf8_lossy(&self.fields).to_ascii_lowercase();
        let lengths = text.split("\r\n").filter(|line| line.starts_with("content-length:"));
        let codings = text.split("\r\n").filter(|line| line.starts_with("transfer-encoding:"));
        assert!(lengths.count() + codings.count() <= 1, "a body ends in two ways: {self:?}");
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "a line ends in another way: {self:?}");
        assert!(!self.line.splitn(2, |byte| *byte == b' ').skip(1).any(|rest| rest.contains(&b'#')), "{self:?}");
    }
}

/// What the reader of heads finds, byte by byte.
struct Seen {
    scanner: HeadScanner,
    messages: Vec<Message>,
    /// Where lines of requests stand.
    lines: Vec<std::ops::Range<usize>>,
    verdict: Result<(), AmbiguousRequest>,
    /// The number of bytes that were passed on, encoded, before something was refused.
    clear: usize,
}

impl Seen {
    fn of(bytes: &[u8], max_line: usize) -> Self {
        let (scanner, messages, lines) = (HeadScanner::new(max_line), Vec::new(), Vec::new());
        let mut seen = Self { scanner, messages, lines, verdict: Ok(()), clear: 0 };
        let mut line = 0;
        for (at, byte) in bytes.iter().enumerate() {
            let (body, field, begins) =
                (seen.scanner.skip > 0, seen.scanner.next == ExpectedLine::Field, seen.scanner.heads);
            let marked = seen.scanner.to_escape.len();
            seen.verdict = seen.scanner.scan(&[*byte]);
            if seen.verdict.is_err() {
                if !body && !body_or_field(&seen.scanner) {
                    seen.lines.push(line..at + 1);
                }
                return seen;
            }
            if seen.scanner.heads > begins {
                seen.lines.push(line..at + 1);
                seen.messages.push(Message { line: bytes[line..=at].to_vec(), ..Message::default() });
            }
            seen.clear += if seen.scanner.to_escape.len() > marked { 3 } else { 1 };
            match seen.messages.last_mut() {
                Some(message) if body => message.body.push(*byte),
                Some(message) if field => message.fields.push(*byte),
                _ => {}
            }
            if !body && *byte == b'\n' || body && seen.scanner.skip == 0 {
                line = at + 1;
            }
            if !seen.scanner.is_mid_request()
                && let Some(message) = seen.messages.last_mut()
            {
                message.whole = true;
            }
        }
        if !body_or_field(&seen.scanner) {
            // The beginning of a line that has not come to its end.
            seen.lines.push(line..bytes.len());
        }
        seen
    }

    /// The bytes with what is to be escaped in the lines.
    fn escaped(&self, bytes: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        let mut from = 0;
        for line in &self.lines {
            whole.extend_from_slice(&bytes[from..line.start]);
            whole.extend(escaped(&bytes[line.clone()]));
            from = line.end;
        }
        whole.extend_from_slice(&bytes[from..]);
        whole
    }

    /// Lets hyper read the same connection. How many requests passed.
    fn beside_hyper(&self, bytes: &[u8], seed: u8) -> usize {
        let passed = hyper(bytes, seed);
        for request in &passed {
            let Some(message) = self.messages.get(request.nth) else {
                panic!("hyper finds a request that was not seen: {request:?}")
            };
            request.is(message, self.verdict.is_err() && request.nth + 1 == self.messages.len());
        }
        passed.len()
    }
}

fn body_or_field(scanner: &HeadScanner) -> bool {
    scanner.skip > 0 || scanner.next != ExpectedLine::Request
}

/// A line with its target escaped.
fn escaped(line: &[u8]) -> Vec<u8> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(method), Some(target)) = (parts.next(), parts.next()) else { return line.to_vec() };
    let mut whole = [method, b" "].concat();
    let mut query = method.contains(&b'?');
    for byte in target {
        query |= *byte == b'?';
        match byte {
            b'<' => whole.extend(b"%3C"),
            b'>' => whole.extend(b"%3E"),
            b'"' if query => whole.extend(b"%22"),
            b'`' if !query => whole.extend(b"%60"),
            byte => whole.push(*byte),
        }
    }
    if let Some(rest) = parts.next() {
        whole.push(b' ');
        whole.extend_from_slice(rest);
    }
    whole
}

/// A request that hyper hands on and nobody refuses.
#[derive(Debug)]
struct Passed {
    nth: usize,
    method: String,
    target: String,
    /// Nothing while more is to come; an error where it breaks off.
    body: Option<Result<Vec<u8>, String>>,
}

impl Passed {
    /// Holds it against what was seen; `broke` where the reader lost the place behind it, and refuses what comes next.
    fn is(&self, message: &Message, broke: bool) {
        message.is_clear();
        let line = escaped(&message.line);
        let mut words = line.split(|byte| *byte == b' ');
        let method = words.next().unwrap_or_default();
        assert_eq!(self.method.as_bytes(), method, "{message:?}");
        let target = words.next().unwrap_or_default();
        if target.starts_with(b"/") {
            assert_eq!(self.target.as_bytes(), target, "{message:?}");
        }
        match &self.body {
            Some(Ok(body)) if message.whole => assert_eq!(body, &message.body, "{message:?}"),
            Some(Ok(_)) => assert!(broke, "hyper found an end: {self:?} of {message:?}"),
            Some(Err(_)) => {}
            None => assert!(!message.whole, "hyper waits for more: {self:?} of {message:?}"),
        }
    }
}

/// What hyper makes of a connection behind the reader of heads, set up as [`super::super::connection`] does.
fn hyper(bytes: &[u8], seed: u8) -> Vec<Passed> {
    let line = ConnectionState::new(Connection::new(([127, 0, 0, 1], 1).into(), false), false);
    let found = Mutex::new(Vec::new());
    let line_start = AtomicUsize::new(0);
    let service = service_fn(|mut request: Request<Incoming>| {
        let nth = line_start.fetch_add(1, Ordering::Relaxed);
        let refused = line.refusal(nth as u64).is_some() || check(&mut request).is_err();
        let found = &found;
        async move {
            let mut response = Response::new(Body::empty());
            // With another one hyper would take a CONNECT, or an upgrade, for done.
            *response.status_mut() = StatusCode::NOT_FOUND;
            if refused {
                response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
                return Ok::<_, Infallible>(response);
            }
            let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
            let at = {
                let mut found = found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                found.push(Passed { nth, method: request.method().to_string(), target, body: None });
                found.len() - 1
            };
            let body = request.into_body().collect().await;
            let body = body.map(|body| body.to_bytes().to_vec()).map_err(|error| error.to_string());
            found.lock().unwrap_or_else(|poisoned| poisoned.into_inner())[at].body = Some(body);
            Ok(response)
        }
    });
    let stream = tokio::io::join(
        SmugglingGuard::new(Pieces::new(pieces(bytes, seed)), line.clone(), MOST, Arc::default()),
        tokio::io::sink(),
    );
    let mut builder = http1::Builder::new();
    builder.header_read_timeout(None).max_header_size(MOST);
    let serving = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    let mut serving = std::pin::pin!(serving);
    while woken.0.swap(false, Ordering::Relaxed) {
        if serving.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            break;
        }
    }
    std::mem::take(&mut *found.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// All that comes out of a screened connection, read in this size.
fn passed_on<'a>(pieces: impl Iterator<Item = &'a [u8]>, size: usize) -> Vec<u8> {
    let line = ConnectionState::new(Connection::new(([127, 0, 0, 1], 1).into(), false), false);
    let partial_heads = Arc::new(AtomicUsize::new(0));
    let mut stream = SmugglingGuard::new(Pieces::new(pieces), line, MOST, partial_heads.clone());
    let mut all = Vec::new();
    let mut room = vec![0; size];
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        let mut buf = ReadBuf::new(&mut room);
        match Pin::new(&mut stream).poll_read(&mut cx, &mut buf) {
            Poll::Ready(Ok(())) => all.extend_from_slice(buf.filled()),
            _ => break,
        }
    }
    drop(stream);
    assert_eq!(partial_heads.load(Ordering::Relaxed), 0, "a head that is gone is still counted");
    all
}

/// A connection on which these pieces come in, and then nothing.
struct Pieces {
    pieces: std::collections::VecDeque<Vec<u8>>,
}

impl Pieces {
    fn new<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Self {
        Self { pieces: pieces.map(<[u8]>::to_vec).collect() }
    }
}

impl AsyncRead for Pieces {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Some(mut piece) = self.pieces.pop_front() else { return Poll::Pending };
        let rest = piece.split_off(piece.len().min(buf.remaining()));
        buf.put_slice(&piece);
        if !rest.is_empty() {
            self.pieces.push_front(rest);
        }
        Poll::Ready(Ok(()))
    }
}
