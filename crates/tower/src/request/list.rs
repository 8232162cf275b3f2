//! Header field values that are lists.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName};
use memchr::memchr_iter;

/// Splits a header value at a separator.
pub fn split(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut from = 0;
    memchr_iter(separator, value).chain([value.len()]).map(move |end| {
        let piece = &value[from..end];
        from = end + 1;
        piece
    })
}

/// Whether a list header contains this item. Case does not matter.
pub fn list_contains(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    let items = headers.get_all(name).iter().flat_map(|value| split(value.as_bytes(), b','));
    items.map(<[u8]>::trim_ascii).any(|item| item.eq_ignore_ascii_case(wanted.as_bytes()))
}

/// Whether a body has a media type, whatever its parameters. Case does not matter (RFC 9110 section 8.3.1).
pub fn has_media_type(headers: &HeaderMap, wanted: &str) -> bool {
    let essence = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().split(|byte| *byte == b';').next());
    essence.is_some_and(|essence| essence.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_media_type_is_the_same_in_any_case_and_with_any_parameters() {
        let is_json = |value: &[u8]| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_bytes(value).unwrap())]);
            has_media_type(&headers, "application/json")
        };
        for same in [
            &b"application/json"[..],
            b"Application/JSON",
            b"APPLICATION/JSON;charset=utf-8",
            b"application/json ;\xff",
        ] {
            assert!(is_json(same), "{same:?}");
        }
        for other in [&b""[..], b"application/jsonx", b"text/plain; application/json", b"application/json, text/plain"]
        {
            assert!(!is_json(other), "{other:?}");
        }
    }
}
