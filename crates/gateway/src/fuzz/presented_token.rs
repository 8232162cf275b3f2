//! The reader of tokens in headers, and what takes them out, beside readers that go by characters.

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tenure_domain::Token;

use super::input::fields;
use tenure_tower::request::cookie::CookieName;
use tenure_tower::request::headers::strip_token;
use tenure_tower::request::presented_token::{PresentedToken, PresentedTokenError, sets_token_cookie};

/// Two tokens, for which one octet each stands in the input.
const TOKENS: [(u8, &[u8]); 2] = [
    (1, b"tnr_k3f90000000000000000_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf3QWiyD"),
    (2, b"tnr_abcd0000000000000000_003aVlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf1xrNke"),
];
const PLACES: [HeaderName; 3] = [AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL];

/// Reads lines as `Authorization` (`A:`), `Cookie` (`C:`) and `Sec-WebSocket-Protocol` (`P:`), and as a `Set-Cookie` of
/// the upstream (`S:`). The first byte says how the client came, and what the cookie is called. 1 where a token is shown.
///
/// # Panics
/// Where a token is overlooked, read otherwise than it stands there, or left for the upstream; or where a `Set-Cookie`
/// that passes comes back as the gateway's cookie.
pub fn presented_token(bytes: &[u8]) -> usize {
    let Some((&flags, bytes)) = bytes.split_first() else { return 0 };
    let secure = flags & 1 != 0;
    let named = if flags & 2 != 0 { CookieName::new("Tenure_2") } else { None };
    let name = named.unwrap_or_default();
    let set = HeaderName::from_static("set-cookie");
    let short = [(b'A', AUTHORIZATION), (b'C', COOKIE), (b'P', SEC_WEBSOCKET_PROTOCOL), (b'S', set.clone())];
    let mut headers = fields(&written_out(bytes), &short);
    for value in headers.get_all(&set) {
        comes_back_as_no_other(value, &name, secure);
    }
    headers.remove(&set);
    let found = PresentedToken::of(&headers, &name, secure);
    is_what_stands_there(&found, &headers, &name, secure);
    goes_no_further(&headers, &name);
    usize::from(found.is_ok_and(|found| found.is_some_and(|found| found.token.is_some())))
}

fn written_out(bytes: &[u8]) -> Vec<u8> {
    let text = |byte: &u8| TOKENS.iter().find(|(short, _)| short == byte).map(|(_, text)| text.to_vec());
    bytes.iter().flat_map(|byte| text(byte).unwrap_or_else(|| vec![*byte])).collect()
}

/// Octets as characters, one each.
fn chars(octets: &[u8]) -> String {
    octets.iter().map(|octet| char::from(*octet)).collect()
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// What the values of a header say, each cut at this separator.
fn listed(headers: &HeaderMap, name: &HeaderName, separator: char) -> Vec<String> {
    let values = headers.get_all(name).iter().map(|value| chars(value.as_bytes()));
    values.flat_map(|value| value.split(separator).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// Where a whole token stands in a text, whatever is around it.
fn tokens(text: &str) -> Vec<&str> {
    let at = text.char_indices().map(|(at, _)| at);
    at.filter_map(|at| text.get(at..at + Token::LENGTH)).filter(|text| Token::parse(text).is_ok()).collect()
}

/// What a header is meant to show; an error where a token stands in none of the ways to show one.
fn shown(text: &str, is_protocol: bool) -> Result<Option<String>, ()> {
    let text = trim(text);
    let meant = if is_protocol {
        text.strip_prefix("tenure.bearer.")
    } else {
        let words = text.split_once([' ', '\t']);
        let bearer = words.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        bearer.map(|(_, rest)| trim(rest)).filter(|rest| rest.starts_with("tnr_"))
    };
    if meant.is_none() && !tokens(text).is_empty() { Err(()) } else { Ok(meant.map(str::to_owned)) }
}

/// What cookies of this name carry.
fn cookies(headers: &HeaderMap, name: &str) -> Vec<String> {
    let value = |item: String| {
        let (own, text) = item.split_once('=')?;
        let text = trim(text);
        let bare = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
        (trim(own) == name).then(|| bare.to_owned())
    };
    listed(headers, &COOKIE, ';').into_iter().filter_map(value).collect()
}

fn is_what_stands_there(
    found: &Result<Option<PresentedToken>, PresentedTokenError>,
    headers: &HeaderMap,
    name: &CookieName,
    secure: bool,
) {
    let authorization = headers.get_all(AUTHORIZATION).iter().map(|value| shown(&chars(value.as_bytes()), false));
    let protocols = listed(headers, &SEC_WEBSOCKET_PROTOCOL, ',');
    let in_headers: Result<Vec<_>, ()> =
        authorization.chain(protocols.iter().map(|item| shown(item, true))).filter_map(Result::transpose).collect();
    let plain = if secure { Vec::new() } else { cookies(headers, name.plain()) };
    let in_cookies = if plain.is_empty() { cookies(headers, name.secure()) } else { plain };
    let all = in_headers.map(|texts| [texts, in_cookies.clone()].concat());
    let Ok(all) = all else {
        // Two may have been found before.
        return assert!(found.is_err(), "{found:?} though one stands where none is read");
    };
    match (found, all.first()) {
        (Ok(None), None) => {}
        (Err(PresentedTokenError::Conflicting), Some(first)) => {
            assert!(all.iter().any(|text| text != first), "two in {all:?}")
        }
        (Ok(Some(found)), Some(first)) => {
            assert!(all.iter().all(|text| text == first), "one of {all:?}");
            let token = Token::parse(first).ok().map(|token| token.to_text().expose().to_owned());
            assert_eq!(found.token.as_ref().map(|token| token.to_text().expose().to_owned()), token);
            assert_eq!(found.in_cookie, !in_cookies.is_empty());
            assert_eq!(found.from_cookie, all.len() == in_cookies.len());
        }
        _ => panic!("{found:?} instead of {all:?}"),
    }
}

/// No octets of a token reach the upstream, nor what is the gateway's own; all else does.
fn goes_no_further(headers: &HeaderMap, name: &CookieName) {
    let mut left = headers.clone();
    strip_token(&mut left, name);
    for place in PLACES {
        for value in left.get_all(&place) {
            let text = chars(value.as_bytes());
            assert!(tokens(&text).is_empty(), "a token is left in {place}: {text:?}");
        }
    }
    let none = PresentedToken::of(&left, name, false).is_ok_and(|found| found.is_none());
    assert!(none, "something is shown still: {left:?}");
    let own = |item: &str| {
        let cookie = item.split_once('=').map(|(own, _)| trim(own).to_ascii_lowercase());
        [name.plain(), name.secure()].iter().any(|name| cookie.as_deref() == Some(&*name.to_ascii_lowercase()))
    };
    let kept = |items: Vec<String>, own: &dyn Fn(&str) -> bool| -> Vec<String> {
        let items = items.into_iter().filter(|item| !own(item) && tokens(item).is_empty());
        items.map(|item| trim(&item).to_owned()).filter(|item| !item.is_empty()).collect()
    };
    assert_eq!(kept(listed(headers, &COOKIE, ';'), &own), kept(listed(&left, &COOKIE, ';'), &|_| false));
    assert!(left.get_all(COOKIE).iter().count() <= 1, "several fields: {left:?}");
    let own = |item: &str| trim(item).to_ascii_lowercase().starts_with("tenure.bearer.");
    let protocols = |headers: &HeaderMap| listed(headers, &SEC_WEBSOCKET_PROTOCOL, ',');
    assert_eq!(kept(protocols(headers), &own), kept(protocols(&left), &|_| false));
    let mut again = left.clone();
    strip_token(&mut again, name);
    assert_eq!(again, left);
}

/// What a browser sends back for a `Set-Cookie` (RFC 6265bis section 5.7) is not read as the gateway's, unless that is
/// kept from it.
fn comes_back_as_no_other(set: &HeaderValue, name: &CookieName, secure: bool) {
    if sets_token_cookie(set, name) {
        return;
    }
    let text = chars(set.as_bytes());
    let pair = text.split(';').next().unwrap_or_default();
    let (own, value) = pair.split_once('=').unwrap_or(("", pair));
    let (own, value) = (trim(own), trim(value));
    let sent = if own.is_empty() { value.to_owned() } else { format!("{own}={value}") };
    let octets: Vec<u8> = sent.chars().filter_map(|octet| u8::try_from(u32::from(octet)).ok()).collect();
    let Ok(sent) = HeaderValue::from_bytes(&octets) else { return };
    let headers = HeaderMap::from_iter([(COOKIE, sent)]);
    let found = PresentedToken::of(&headers, name, secure);
    assert!(found.is_ok_and(|found| found.is_none()), "{set:?} comes back as the gateway's own");
}
