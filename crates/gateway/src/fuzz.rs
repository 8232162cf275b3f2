//! What fuzzers call: any bytes as what may come from the network. Each checks what must hold for it.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::auth;
use crate::cookie::CookieName;
use crate::credential::Credential;
use crate::frames::Frames;
use crate::headers::strip_token;
use crate::messages::Messages;
use crate::options::{Options, PublicPath};
use crate::secret::SharedSecret;

/// How many bytes arrive at once, beside all of them.
const STEPS: [usize; 3] = [1, 3, 61];
const PUBLIC: &str = "/public/";

/// Reads bytes as heads and bodies of requests.
///
/// # Panics
/// Where it matters in how many pieces they come.
pub fn heads(bytes: &[u8]) {
    let whole = crate::server::judged(bytes, bytes.len().max(1));
    for step in STEPS {
        assert_eq!(crate::server::judged(bytes, step), whole, "in pieces of {step}");
    }
}

/// Reads bytes as frames of a WebSocket.
///
/// # Panics
/// As [`heads`].
pub fn frames(bytes: &[u8]) {
    let read = |step: usize| {
        let (mut frames, mut heads) = (Frames::new(), Vec::new());
        let broken = bytes.chunks(step).any(|piece| frames.advance(piece, |head| heads.push(head)).is_err());
        let wanted = if broken { 0 } else { frames.wanted() };
        (heads, broken, wanted)
    };
    let whole = read(bytes.len().max(1));
    for step in STEPS {
        assert_eq!(read(step), whole, "in pieces of {step}");
    }
}

/// Reads bytes as messages of a WebSocket, of either side.
///
/// # Panics
/// As [`heads`].
pub fn messages(bytes: &[u8]) {
    for begin in [Messages::of_client, Messages::of_server] {
        let read = |step: usize| {
            let (mut messages, mut got) = (begin(64), Vec::new());
            for mut piece in bytes.chunks(step) {
                loop {
                    match messages.next(&mut piece) {
                        Ok(Some(next)) => got.push(next),
                        Ok(None) => break,
                        Err(error) => return (got, Some(error)),
                    }
                }
            }
            (got, None)
        };
        let whole = read(bytes.len().max(1));
        for step in STEPS {
            assert_eq!(read(step), whole, "in pieces of {step}");
        }
    }
}

/// Reads bytes as the first message of an OpenClaw client, and as a message of its upstream.
///
/// # Panics
/// Where it finds another token than a reader of JSON does.
pub fn connect(bytes: &[u8]) {
    crate::openclaw::read_any(bytes);
}

/// Reads bytes as lines of a header, and takes the token out.
///
/// # Panics
/// Where one is left.
pub fn headers(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (&b"cookie"[..], line),
        };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    let name = CookieName::default();
    strip_token(&mut headers, &name);
    for secure in [false, true] {
        let left = Credential::of(&headers, &name, secure);
        assert!(matches!(left, Ok(None)), "{left:?} is left in {headers:?}");
    }
}

/// Reads bytes as what another proxy says that its client asked for.
///
/// # Panics
/// Where that is public and another server would find it elsewhere.
pub fn forwarded(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let Some(secret) = SharedSecret::new("secret") else { return };
    let mut options = Options::new(secret);
    options.public_paths = vec![PublicPath(PUBLIC.to_owned())];
    for name in ["x-original-url", "x-original-uri", "x-forwarded-uri"] {
        let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value.clone())]);
        if auth::is_public(&headers, None, &options) {
            let found = resolved(bytes);
            assert!(found.starts_with(PUBLIC), "{name}: {value:?} is public and leads to {found}");
        }
    }
}

/// The path that a careless file server finds: whatever looks like a dot segment is one.
fn resolved(url: &[u8]) -> String {
    let text = String::from_utf8_lossy(url);
    let path = match text.split_once("://") {
        Some((_, rest)) if !text.starts_with('/') => rest.find('/').map_or("/", |at| &rest[at..]),
        _ => &text,
    };
    let path = path.split('?').next().unwrap_or_default();
    let mut decoded = path.to_owned();
    for _ in 0..3 {
        decoded = unescaped(&decoded);
    }
    let mut segments: Vec<&str> = Vec::new();
    let (inner, last) = decoded.rsplit_once(['/', '\\']).unwrap_or_default();
    for segment in inner.split(['/', '\\']) {
        match segment.split([';', '#']).next().unwrap_or_default().trim() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    if last.split([';', '#']).next().unwrap_or_default().trim() == ".." {
        segments.pop();
    }
    format!("/{}/", segments.join("/"))
}

fn unescaped(text: &str) -> String {
    let (mut bytes, mut read) = (text.bytes(), Vec::new());
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let mut digit = || char::from(ahead.next()?).to_digit(16);
        match (byte, digit().zip(digit())) {
            (b'%', Some((high, low))) => {
                read.push(u8::try_from(high * 16 + low).unwrap_or_default());
                bytes.nth(1);
            }
            _ => read.push(byte),
        }
    }
    String::from_utf8_lossy(&read).into_owned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Pieces that mean something somewhere.
    const WORDS: [&[u8]; 16] = [
        b"\r\n",
        b"\n",
        b"\0",
        b"\xff",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"0\r\n\r\n",
        b"../",
        b"%2e",
        b"#",
        b"\\",
        b"?",
        b"; tenure=tnr_x",
        b"\"auth\":{\"token\":\"tnr_x\"}",
        b"\x81\xfe",
        b"\x88\x02",
    ];

    /// Numbers that are the same in each run.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, most: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 11).unwrap() % most.max(1)
        }
    }

    fn changed(seed: &[u8], numbers: &mut Numbers) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        for _ in 0..=numbers.below(6) {
            let at = numbers.below(bytes.len() + 1);
            let end = (at + numbers.below(24)).min(bytes.len());
            match numbers.below(5) {
                0 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let part = bytes[at..end].to_vec();
                    let to = numbers.below(bytes.len() + 1);
                    bytes.splice(to..to, part);
                }
                3 => drop(bytes.splice(at..at, WORDS[numbers.below(WORDS.len())].iter().copied())),
                _ if at < bytes.len() => bytes[at] = u8::try_from(numbers.below(256)).unwrap(),
                _ => {}
            }
        }
        bytes
    }

    /// Has every seed of a target's corpus read, and two thousand changes of each.
    fn run(name: &str, target: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
        let mut seeds: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
        seeds.sort_unstable();
        assert!(!seeds.is_empty(), "{}", folder.display());
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for seed in seeds {
            let seed = std::fs::read(seed).unwrap();
            target(&seed);
            for _ in 0..2_000 {
                target(&changed(&seed, &mut numbers));
            }
        }
    }

    #[test]
    fn any_bytes_are_read_as_heads() {
        run("heads", heads);
    }

    #[test]
    fn any_bytes_are_read_as_frames() {
        run("frames", frames);
    }

    #[test]
    fn any_bytes_are_read_as_messages() {
        run("messages", messages);
    }

    #[test]
    fn any_bytes_are_read_as_a_first_message() {
        run("connect", connect);
    }

    #[test]
    fn any_bytes_are_read_as_headers() {
        run("headers", headers);
    }

    #[test]
    fn any_bytes_are_read_as_a_forwarded_uri() {
        run("forwarded", forwarded);
    }
}
