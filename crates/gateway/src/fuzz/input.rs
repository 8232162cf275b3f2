//! Input of the fuzzers, made from any bytes.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The bytes in pieces, most of them short, as the seed says.
pub(crate) fn pieces(bytes: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    let mut state = u32::from(seed);
    std::iter::from_fn(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Long ones too, or all at once.
        let length = if state >> 30 == 0 { (state >> 10) as usize % 500 } else { (state >> 24) as usize % 7 };
        let length = if seed == 0 { rest.len() } else { length + 1 };
        let (piece, left) = rest.split_at(length.min(rest.len()));
        rest = left;
        if piece.is_empty() { None } else { Some(piece) }
    })
}

/// Lines `name: value` as headers, as far as they can be; a short name for each of `names`.
pub(super) fn fields(bytes: &[u8], names: &[(u8, HeaderName)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(200) {
        let short = |(letter, name): &(u8, HeaderName)| Some((name.clone(), line.strip_prefix(&[*letter, b':'])?));
        let long = || {
            let at = line.iter().position(|byte| *byte == b':')?;
            Some((HeaderName::from_bytes(&line[..at]).ok()?, &line[at + 1..]))
        };
        if let Some((name, value)) = names.iter().find_map(short).or_else(long)
            && let Ok(value) = HeaderValue::from_bytes(value.trim_ascii())
        {
            headers.append(name, value);
        }
    }
    headers
}
