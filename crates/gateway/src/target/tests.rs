//! "Public" is held against how four kinds of servers resolve the same octets.

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use proptest::prelude::*;

use crate::auth::{self, Appended, ORIGINALS};
use crate::{Options, PublicPath, SharedSecret};

/// How servers find the path in a target, octet by octet. `None` where they refuse it.
mod resolve {
    /// Bytes with `%xx` read; broken ones stay, or make the target refused.
    fn unescape(text: &[u8], strict: bool) -> Option<Vec<u8>> {
        let mut read = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
            match (text[at], digit(at + 1), digit(at + 2)) {
                (b'%', Some(high), Some(low)) => {
                    read.push(u8::try_from(high * 16 + low).unwrap());
                    at += 3;
                }
                (b'%', ..) if strict => return None,
                (byte, ..) => {
                    read.push(byte);
                    at += 1;
                }
            }
        }
        Some(read)
    }

    fn until<'a>(text: &'a [u8], ends: &[u8]) -> &'a [u8] {
        text.split(|byte| ends.contains(byte)).next().unwrap_or(text)
    }

    /// Dot segments and empty segments out. Above the root is refused, or the root.
    fn normal(path: &[u8], refuse_above: bool, dot: fn(&[u8]) -> usize) -> Option<Vec<u8>> {
        let mut kept: Vec<&[u8]> = Vec::new();
        for segment in path.split(|byte| *byte == b'/') {
            match dot(segment) {
                2 if kept.pop().is_none() && refuse_above => return None,
                1 | 2 => {}
                _ if segment.is_empty() => {}
                _ => kept.push(segment),
            }
        }
        Some(kept.iter().flat_map(|segment| [b"/", *segment].concat()).collect())
    }

    /// 1 for the segment `.`, 2 for `..`, else 0.
    fn bare(segment: &[u8]) -> usize {
        match segment {
            b"." => 1,
            b".." => 2,
            _ => 0,
        }
    }

    /// The same where dots may be encoded.
    fn encoded(segment: &[u8]) -> usize {
        let text = String::from_utf8_lossy(segment).to_ascii_lowercase().replace("%2e", ".");
        bare(text.as_bytes())
    }

    /// nginx: a fragment ends it, slashes are merged, above the root is a 400.
    pub(super) fn nginx(target: &[u8]) -> Option<Vec<u8>> {
        let path = unescape(until(target, b"?#"), true)?;
        if path.contains(&0) || path.first() != Some(&b'/') { None } else { normal(&path, true, bare) }
    }

    /// Go, as Caddy is: a `#` is a character of a path, control characters are refused.
    pub(super) fn go(target: &[u8]) -> Option<Vec<u8>> {
        if target.iter().any(u8::is_ascii_control) {
            return None;
        }
        let path = unescape(until(target, b"?"), true)?;
        normal(&path, false, bare)
    }

    /// What stands behind the host, where a URL parser takes one out of two slashes at the beginning.
    fn without_host(path: &[u8]) -> &[u8] {
        match path.strip_prefix(b"//") {
            Some(rest) => rest.iter().position(|byte| *byte == b'/').map_or(&b""[..], |at| &rest[at..]),
            None => path,
        }
    }

    /// Node: the URL standard, then a file server that decodes and normalises.
    pub(super) fn node(target: &[u8]) -> Option<Vec<u8>> {
        let kept = target.iter().filter(|byte| !b"\t\r\n".contains(byte));
        let kept: Vec<u8> = kept.map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
        let trimmed = kept.trim_ascii();
        let path = normal(without_host(until(trimmed, b"?#")), false, encoded)?;
        normal(&unescape(&path, false)?, false, bare)
    }

    /// Python: `urlsplit`, `unquote` and `posixpath.normpath`.
    pub(super) fn python(target: &[u8]) -> Option<Vec<u8>> {
        let kept: Vec<u8> = target.iter().copied().filter(|byte| !b"\t\r\n".contains(byte)).collect();
        let start = kept.iter().position(|byte| *byte > b' ').unwrap_or(kept.len());
        let path = until(without_host(&kept[start..]), b"#?");
        normal(&unescape(path, false)?, false, bare)
    }

    /// All of them, and each again as servers do that take parameters out, that decode twice, or that take a decoded
    /// backslash for a slash.
    pub(super) fn all(target: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
        let mut found = Vec::new();
        for (name, resolve) in [("nginx", nginx as fn(&[u8]) -> _), ("go", go), ("node", node), ("python", python)] {
            let bare = without_parameters(target);
            for (target, what) in [(target, name), (&bare, "without parameters")] {
                let Some(path) = resolve(target) else { continue };
                let turned: Vec<u8> = path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
                found.extend(normal(&turned, false, super::resolve::bare).map(|path| ("with backslashes", path)));
                found.extend(resolve(&path).map(|path| ("twice", path)));
                found.push((what, path));
            }
        }
        found
    }

    fn without_parameters(target: &[u8]) -> Vec<u8> {
        let (path, rest) = target.split_at(until(target, b"?#").len());
        let segments = path.split(|byte| *byte == b'/').map(|segment| until(segment, b";"));
        [&segments.collect::<Vec<_>>().join(&b'/')[..], rest].concat()
    }
}

const BELOW: &str = "/public/";
const EXACT: &str = "/health";

fn options() -> Options {
    let mut options = Options::new(SharedSecret::new("x").unwrap());
    options.public_paths = vec![PublicPath(BELOW.to_owned()), PublicPath(EXACT.to_owned())];
    options
}

/// Whether a resolved path is one that the operator opened.
fn is_open(path: &[u8]) -> bool {
    path == EXACT.as_bytes() || path.starts_with(BELOW.as_bytes()) || path == BELOW.trim_end_matches('/').as_bytes()
}

/// The target that the other server resolves, where a proxy says the whole URL: scheme and host are the proxy's words.
fn behind_host(url: &[u8]) -> &[u8] {
    let lower = url.to_ascii_lowercase();
    let start = [&b"http://"[..], b"https://"].into_iter().find(|scheme| lower.starts_with(scheme));
    let Some(start) = start else { return url };
    let rest = &url[start.len()..];
    rest.iter().position(|byte| *byte == b'/').map_or(&b""[..], |at| &rest[at..])
}

#[track_caller]
fn hold(what: &str, target: &[u8]) {
    for (server, path) in resolve::all(target) {
        let (target, path) = (String::from_utf8_lossy(target), String::from_utf8_lossy(&path).into_owned());
        assert!(is_open(path.as_bytes()), "{what}: {target:?} is public, and {path:?} {server}");
    }
}

/// Judges a text in every place that it may come in, and resolves it where it is public. How often it was.
fn judge(text: &[u8], options: &Options) -> usize {
    judge_named(text, options) + judge_own(text, options)
}

/// The same where a proxy names it.
fn judge_named(text: &[u8], options: &Options) -> usize {
    let mut public = 0;
    for name in ORIGINALS {
        let Ok(value) = HeaderValue::from_bytes(text) else { continue };
        let headers = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
        if auth::is_public(&headers, None, options) {
            public += 1;
            hold(name, behind_host(text));
        }
    }
    if let Ok(text) = std::str::from_utf8(text) {
        let headers = HeaderMap::new();
        if auth::is_public(&headers, Some(Appended::Whole(text)), options) {
            public += 1;
            hold("appended", text.as_bytes());
        }
    }
    public
}

/// The same where it is the request's own target.
fn judge_own(text: &[u8], options: &Options) -> usize {
    let mut public = 0;
    if options.is_public(text) {
        public += 1;
        hold("as octets", text);
    }
    // In proxy mode what was parsed is judged and goes on. A `#` has been refused before.
    if !text.contains(&b'#')
        && let Ok(uri) = Uri::try_from(text)
        && options.is_public_uri(&uri)
    {
        public += 1;
        hold("parsed", uri.path_and_query().unwrap().as_str().as_bytes());
    }
    public
}

/// Pieces of which targets are made that mean something to some server.
const PIECES: &[&str] = &[
    "/",
    "//",
    ".",
    "..",
    "/../",
    "/./",
    "admin",
    "a",
    "public",
    "/public/",
    "/health",
    "health",
    "#",
    "?",
    ";",
    ";x=1",
    "\\",
    "%2e",
    "%2E",
    "%2e%2e",
    "%2f",
    "%2F",
    "%5c",
    "%00",
    "%23",
    "%3f",
    "%3b",
    "%25",
    "%252e",
    "%252f",
    "%252e%252e%252f",
    "%c0%ae",
    "%c0%af",
    "%e0%80%ae",
    "%ff",
    "%0d%0a",
    "%09",
    "%20",
    "%",
    "%2",
    "%u002e",
    "\t",
    " ",
    "\r",
    "\n",
    "\0",
    "\u{7f}",
    "\u{e9}",
    "\u{ff0e}",
    "http://x",
    "https://x:8443",
    "http://x#",
    "http://x?",
    "http://u@x",
    "http://[::1]",
    "HTTP://X",
    "http:///",
    "://",
    ":",
    "@",
    "&",
    "=",
    "+",
    "|",
    "[",
    "]",
    "\"",
    "<",
    "^",
    "`",
    "{",
    ",",
    "...",
    "..;",
    ".;",
];

fn text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => proptest::sample::select(PIECES).prop_map(|piece| piece.as_bytes().to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 1..4),
    ];
    let start =
        proptest::sample::select(&["", "/", "/public/", "/public", "/health", "http://x/public/", "http://x"][..]);
    (start, proptest::collection::vec(piece, 0..8))
        .prop_map(|(start, pieces)| [start.as_bytes(), &pieces.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_public_is_so_wherever_it_stands_and_whoever_resolves_it(text in text()) {
        judge(&text, &options());
    }
}

#[test]
fn what_an_attacker_tries_is_public_nowhere() {
    for tail in [
        "#/../../admin",
        "#",
        "a#/../../admin",
        "a?b#/../../admin",
        "\\..\\..\\admin",
        "..%5cadmin",
        "%2e%2e/admin",
        "..%2fadmin",
        "%252e%252e%252fadmin",
        "%c0%ae%c0%ae/admin",
        "..;/admin",
        "a/..;x=1/../admin",
        "\t/../admin",
        "..\t/admin",
        "%00/../admin",
        "//admin",
        "\u{e9}",
    ] {
        for start in ["/public/", "http://x/public/", "https://x:443/public/"] {
            let text = format!("{start}{tail}");
            assert_eq!(judge(text.as_bytes(), &options()), 0, "{text:?}");
        }
    }
    for text in [
        "http://x#/public/",
        "http://x?/public/",
        "http://x\\/public/",
        "http://a@x/public/",
        "http://a:b@x/public/",
        "http:///public/",
        "http://x y/public/",
        "http://x\u{e9}/public/",
        "http://x:80a/public/",
        "http://[::1/public/",
        "http://[::g]/public/",
        "http://x",
        "ftp://x/public/",
        "//x/public/",
        "public/",
        " /public/",
        "/public/, /public/",
        "/public/a HTTP/1.1",
        "",
    ] {
        assert_eq!(judge_named(text.as_bytes(), &options()), 0, "{text:?}");
    }
}

#[test]
fn what_people_ask_for_is_public_everywhere() {
    let places = ORIGINALS.len();
    for text in ["/public/", "/public/a/b.css?v=1&c[]=2", "/public/%C3%BC%20[id].js", "/public/a;v=1", "/health?x"] {
        assert_eq!(judge(text.as_bytes(), &options()), places + 3, "{text:?}");
    }
    for host in ["x", "a.b-c_d:8443", "[::1]:80", "127.0.0.1", "X:"] {
        for scheme in ["http", "https", "HTTP"] {
            let url = format!("{scheme}://{host}/public/a?b");
            assert!(judge(url.as_bytes(), &options()) >= places, "{url:?}");
        }
    }
}
