//! The target of a request (RFC 9112 section 3.2), judged by its octets.
//!
//! A public path is an authorisation, and what is judged here is resolved by another server. Parsers of URLs drop a
//! fragment, take a backslash for a slash, or pass over white space, each in its own way: so nothing is parsed, and a
//! target counts only where every server finds the same path in it.

use std::borrow::Cow;

/// The path of a target `path[?query]`, with `%xx` read. `None` where servers may find different paths in it: with a
/// fragment, octets that no target has, or what [`decode_path`] refuses.
pub fn path(target: &[u8]) -> Option<Cow<'_, str>> {
    let end = target.iter().position(|byte| *byte == b'?').unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    let sound = path.iter().all(|byte| is_path_octet(*byte)) && query.iter().all(|byte| is_query_octet(*byte));
    if sound { decode_path(std::str::from_utf8(path).ok()?) } else { None }
}

/// Octets of a path (RFC 3986 section 3.3), and those that browsers leave there as they are.
const fn is_path_octet(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'$'..=b'/' | b':' | b';' | b'=' | b'@' | b'_' | b'~')
        || matches!(byte, b'[' | b']' | b'|')
}

/// Octets of a query, and those that browsers leave there as they are.
const fn is_query_octet(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\')
}

/// A path with `%xx` read, where all servers read it alike: none with dot segments, empty segments, encoded slashes or
/// percent signs, backslashes, or what is no text.
pub fn decode_path(path: &str) -> Option<Cow<'_, str>> {
    let text = if path.contains('%') { Cow::Owned(percent_decode(path)?) } else { Cow::Borrowed(path) };
    let segments = text.strip_prefix('/')?;
    // Some servers take what follows a semicolon for parameters, and some file systems drop dots and spaces at the end.
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
        // Encoded, these mean something else than bare.
        if matches!(byte, b'/' | b'%' | b';' | b'?' | b'#') {
            return None;
        }
        read.push(byte);
    }
    String::from_utf8(read).ok()
}

/// The target of a full URL, or what is given where it is none. `None` where its scheme or its host is not one.
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

/// Whether this is a host with a port or without (`uri-host [":" port]`, RFC 9110 section 7.2): a name, or an address in
/// brackets. Nothing before an `@`, nothing that ends a host somewhere else, no port that does not exist.
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
