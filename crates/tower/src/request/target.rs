//! The target of a request (RFC 9112 section 3.2), read octet by octet.
//!
//! A public path is an authorisation, and the target that is checked here is resolved by another server. URL parsers
//! drop a fragment, read a backslash as a slash, or skip white space, each in its own way. So nothing is parsed: a
//! target is accepted only if every server finds the same path in it.

use std::borrow::Cow;

/// Returns the path of a target `path[?query]`, with `%xx` decoded. `None` if servers may find different paths in it:
/// if it has a fragment, octets that no target may have, or a path that [`decode_path`] rejects.
pub fn path(target: &[u8]) -> Option<Cow<'_, str>> {
    let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    let sound = path.iter().all(|byte| is_path_octet(*byte)) && query.iter().all(|byte| is_query_octet(*byte));
    if sound { decode_path(std::str::from_utf8(path).ok()?) } else { None }
}

/// The octets of a path (RFC 3986 section 3.3), and those that browsers do not encode there.
const fn is_path_octet(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'$'..=b'/' | b':' | b';' | b'=' | b'@' | b'_' | b'~')
        || matches!(byte, b'[' | b']' | b'|')
}

/// The octets of a query, and those that browsers do not encode there.
const fn is_query_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\')
}

/// Decodes `%xx` in a path that all servers read alike. Returns `None` for dot segments, empty segments, encoded
/// slashes or percent signs, backslashes, and octets that are not UTF-8.
pub fn decode_path(path: &str) -> Option<Cow<'_, str>> {
    let text = if path.contains('%') { Cow::Owned(percent_decode(path)?) } else { Cow::Borrowed(path) };
    let segments = text.strip_prefix('/')?;
    // Some servers read what follows a semicolon as parameters, and some file systems drop dots and spaces at the end.
    let ambiguous =
        |segment: &str| segment.split(';').next().unwrap_or(segment).trim_end_matches(['.', ' ']).is_empty();
    let (all, last) = segments.rsplit_once('/').map_or(("", segments), |(all, last)| (all, last));
    let inner = segments.contains('/') && all.split('/').any(ambiguous);
    let end = !last.is_empty() && ambiguous(last);
    let has_odd_octets = text.contains('\\') || text.chars().any(char::is_control);
    if inner || end || has_odd_octets { None } else { Some(text) }
}

fn percent_decode(path: &str) -> Option<String> {
    let mut bytes = path.bytes();
    let mut read = Vec::with_capacity(path.len());
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            read.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let byte = u8::try_from(digit()? * 16 + digit()?).ok()?;
        // These have another meaning when they are encoded.
        if matches!(byte, b'/' | b'%' | b';' | b'?' | b'#') {
            return None;
        }
        read.push(byte);
    }
    String::from_utf8(read).ok()
}

/// Returns the target of a full URL, or the text itself if it is not a URL. `None` if its scheme or host is invalid.
pub fn target_of_url(url: &[u8]) -> Option<&[u8]> {
    if url.starts_with(b"/") {
        return Some(url);
    }
    let rest = [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let (start, rest) = url.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    })?;
    let (host, target) = rest.split_at(rest.iter().position(|byte| *byte == b'/')?);
    is_host(host).then_some(target)
}

/// Whether this is a host with or without a port (`uri-host [":" port]`, RFC 9110 section 7.2): a name, or an address
/// in brackets. User information, delimiters of other URL parts, and ports out of range are rejected.
pub fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host.strip_prefix(b"[").and_then(|rest| split_at_byte(rest, b']')) {
        Some((address, port)) => (is_ipv6(address), port),
        None => {
            let end = host.iter().position(|byte| *byte == b':').unwrap_or(host.len());
            (is_name(&host[..end]), &host[end..])
        }
    };
    name && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_port))
}

fn split_at_byte(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|other| *other == byte)?;
    Some((&text[..at], &text[at + 1..]))
}

fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

fn is_ipv6(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

fn is_port(port: &[u8]) -> bool {
    let number = || std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok());
    port.iter().all(u8::is_ascii_digit) && (port.is_empty() || number())
}
