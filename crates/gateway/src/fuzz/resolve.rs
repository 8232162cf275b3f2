//! How servers find the path in a target, octet by octet. `None` where they refuse it.

/// Bytes with `%xx` read; broken ones stay, or make the target refused.
fn unescape(text: &[u8], strict: bool) -> Option<Vec<u8>> {
    let mut read = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
        match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                read.push((high * 16 + low) as u8);
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

/// A server that does not decode more than RFC 3986 calls the same (section 6.2.2): letters, digits, `-`, `.`, `_`, `~`.
pub(super) fn undecoded(target: &[u8]) -> Option<Vec<u8>> {
    let mut path = until(target, b"?#").to_vec();
    let mut at = 0;
    while at < path.len() {
        if let Some([byte]) = path.get(at..at + 3).and_then(|three| unescape(three, true)).as_deref()
            && (byte.is_ascii_alphanumeric() || b"-._~".contains(byte))
        {
            path.splice(at..at + 3, [*byte]);
        }
        at += 1;
    }
    normal(&path, false, encoded)
}

/// All of them, and each again as servers do that take parameters out, that decode twice, or that take a decoded
/// backslash for a slash.
pub(super) fn all(target: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut found = Vec::new();
    for (name, resolve) in
        [("nginx", nginx as fn(&[u8]) -> _), ("go", go), ("node", node), ("python", python), ("none", undecoded)]
    {
        let short = without_parameters(target);
        for (target, what) in [(target, name), (&short, "without parameters")] {
            let Some(path) = resolve(target) else { continue };
            let turned: Vec<u8> = path.iter().map(|byte| if *byte == b'\\' { b'/' } else { *byte }).collect();
            found.extend(normal(&turned, false, bare).map(|path| ("with backslashes", path)));
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
