//! The token that a request presents: in a header field, a subprotocol or a cookie.
//!
//! Header values are octets, and any octet may come before or after a token. A token in a place where it cannot be read
//! is never treated as absent: the request is refused, and nothing of it reaches an upstream.

use http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};
use memchr::{memchr, memmem};
use tenure_domain::Token;

use super::cookie::CookieName;
use super::list::split;

/// The prefix of a WebSocket subprotocol whose name carries a token.
const SUBPROTOCOL: &[u8] = b"tenure.bearer.";

/// A token as a request presents it.
#[derive(Debug)]
pub struct PresentedToken {
    /// The token. `None` if the text is not a token.
    pub token: Option<Token>,
    /// Whether the token came in a cookie alone. A browser sends a cookie even if another site asked for the request.
    pub from_cookie: bool,
    /// Whether a cookie carries the token.
    pub in_cookie: bool,
}

/// The reason why a request's token cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresentedTokenError {
    /// The request presents two different tokens.
    #[error("the request carries two different tokens: send one")]
    Conflicting,
    /// The request has a token in a place that is not read.
    #[error("the request carries a token in an unsupported place or form: send it as Authorization: Bearer")]
    Misplaced,
}

impl PresentedToken {
    /// Reads the token of a request from `Authorization: Bearer`, the WebSocket subprotocol, or the cookie of this
    /// name. Returns `None` if there is none. An `Authorization` without a Tenure token is ignored.
    ///
    /// Over TLS (`secure`) only the cookie with the prefix `__Host-` counts, which no other host and no plain
    /// connection can set. Over plain HTTP it counts only if it is the only one.
    ///
    /// # Errors
    /// [`PresentedTokenError`].
    pub fn of(headers: &HeaderMap, name: &CookieName, secure: bool) -> Result<Option<Self>, PresentedTokenError> {
        let mut found = SingleText::default();
        for value in headers.get_all(AUTHORIZATION) {
            match bearer(value.as_bytes()) {
                Some(text) => found.add(text)?,
                None if holds_token(value.as_bytes()) => return Err(PresentedTokenError::Misplaced),
                None => {}
            }
        }
        for item in items(headers.get_all(SEC_WEBSOCKET_PROTOCOL), b',') {
            match item.trim_ascii().strip_prefix(SUBPROTOCOL) {
                Some(text) => found.add(text)?,
                None if holds_token(item) => return Err(PresentedTokenError::Misplaced),
                None => {}
            }
        }
        let in_header = found.text;
        if let Some(text) = cookie(headers, name, secure)? {
            found.add(text)?;
            let token = parse(text);
            return Ok(Some(Self { token, from_cookie: in_header.is_none(), in_cookie: true }));
        }
        Ok(in_header.map(|text| Self { token: parse(text), from_cookie: false, in_cookie: false }))
    }
}

fn parse(text: &[u8]) -> Option<Token> {
    Token::parse(std::str::from_utf8(text).ok()?).ok()
}

/// Returns the one text that is presented, however often.
#[derive(Default)]
struct SingleText<'a> {
    text: Option<&'a [u8]>,
}

impl<'a> SingleText<'a> {
    fn add(&mut self, text: &'a [u8]) -> Result<(), PresentedTokenError> {
        let known = *self.text.get_or_insert(text);
        if known == text { Ok(()) } else { Err(PresentedTokenError::Conflicting) }
    }
}

/// Returns the items of a list header, from all its fields.
fn items<'a>(values: impl IntoIterator<Item = &'a HeaderValue>, separator: u8) -> impl Iterator<Item = &'a [u8]> {
    values.into_iter().flat_map(move |value| split(value.as_bytes(), separator))
}

/// Returns the text after `Bearer` if it is, or looks like, a Tenure token.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let value = value.trim_ascii();
    let (scheme, rest) = value.split_at(value.iter().position(u8::is_ascii_whitespace)?);
    let text = rest.trim_ascii();
    (scheme.eq_ignore_ascii_case(b"bearer") && text.starts_with(Token::PREFIX.as_bytes())).then_some(text)
}

/// Returns the token in the cookie that counts.
fn cookie<'a>(
    headers: &'a HeaderMap,
    name: &CookieName,
    secure: bool,
) -> Result<Option<&'a [u8]>, PresentedTokenError> {
    let (mut hosts, mut plain) = (Ok(SingleText::default()), Ok(SingleText::default()));
    let add = |found: &mut Result<SingleText<'a>, PresentedTokenError>, text| {
        if let Ok(known) = found
            && let Err(error) = known.add(text)
        {
            *found = Err(error);
        }
    };
    for (own, text) in items(headers.get_all(COOKIE), b';').filter_map(pair) {
        if own == name.secure().as_bytes() {
            add(&mut hosts, text);
        } else if own == name.plain().as_bytes() {
            add(&mut plain, text);
        }
    }
    if !secure && let Some(text) = plain?.text {
        return Ok(Some(text));
    }
    Ok(hosts?.text)
}

/// Splits a cookie into its name and value. The value may be in quotes (RFC 6265 section 4.1.1).
fn pair(item: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, text) = item.split_at(memchr(b'=', item)?);
    let text = text[1..].trim_ascii();
    let bare = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    Some((name.trim_ascii(), bare.unwrap_or(text)))
}

/// Whether the octets contain a token, whatever is around it.
fn holds_token(octets: &[u8]) -> bool {
    memmem::find_iter(octets, Token::PREFIX)
        .any(|at| octets.get(at..at + Token::LENGTH).is_some_and(|text| parse(text).is_some()))
}

/// Whether an `Authorization` value is, or looks like, a Tenure token.
pub fn is_token_scheme(value: &HeaderValue) -> bool {
    bearer(value.as_bytes()).is_some() || holds_token(value.as_bytes())
}

/// Whether a cookie is the gateway's: by its name in any case, or because it contains a token (the cookie may have had
/// another name before, or belong to another gateway on this host).
pub fn is_token_cookie(item: &[u8], name: &CookieName) -> bool {
    pair(item).is_some_and(|(own, _)| name.is(own)) || holds_token(item)
}

/// Whether a `Set-Cookie` would set the gateway's own cookie. A browser that accepts a cookie without a name sends back
/// its value alone, which then reads as a cookie with a name.
pub fn sets_token_cookie(value: &HeaderValue, name: &CookieName) -> bool {
    let item = split(value.as_bytes(), b';').next().unwrap_or_default();
    let start = item.iter().position(|byte| *byte != b'=' && !byte.is_ascii_whitespace()).unwrap_or(item.len());
    pair(&item[start..]).is_some_and(|(own, _)| name.is(own))
}

/// Whether a WebSocket subprotocol carries, or seems to carry, a Tenure token.
pub fn is_token_protocol(item: &[u8]) -> bool {
    let name = item.trim_ascii();
    let own = name.get(..SUBPROTOCOL.len()).is_some_and(|start| start.eq_ignore_ascii_case(SUBPROTOCOL));
    own || holds_token(name)
}

#[cfg(test)]
mod tests {
    use tenure_domain::{Bucket, DeviceId, Family, RotationSecret, Secret, SessionId};

    use super::*;

    fn token(n: u8) -> String {
        let id = SessionId::new(Bucket::of(&DeviceId::new("laptop").unwrap()), [n; 12]);
        let secret = Secret::new(&Family::new([n; 16]), &RotationSecret::new([n; 16]));
        Token::new(id, secret).to_text().expose().to_owned()
    }

    fn headers(pairs: &[(http::HeaderName, Vec<u8>)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value).unwrap())).collect()
    }

    fn of(pairs: &[(http::HeaderName, String)], secure: bool) -> Result<Option<PresentedToken>, PresentedTokenError> {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect();
        PresentedToken::of(&headers(&pairs), &CookieName::default(), secure)
    }

    #[test]
    fn a_token_is_found_in_each_of_its_places() {
        let text = token(1);
        for (name, value) in [
            (AUTHORIZATION, format!("Bearer {text}")),
            (AUTHORIZATION, format!("bearer  {text} ")),
            (AUTHORIZATION, format!("BEARER\t{text}")),
            (COOKIE, format!("a=b; __Host-tenure={text}; c=d")),
            (COOKIE, format!("tenure={text}")),
            (SEC_WEBSOCKET_PROTOCOL, format!("chat, tenure.bearer.{text}")),
        ] {
            let found = of(&[(name.clone(), value.clone())], false).unwrap().unwrap();
            assert!(found.token.is_some(), "{name}: {value}");
            assert_eq!((found.from_cookie, found.in_cookie), (name == COOKIE, name == COOKIE));
        }
    }

    #[test]
    fn octets_around_a_token_hide_it_nowhere() {
        let text = token(1);
        let surround = |before: &[u8], after: &[u8]| [before, text.as_bytes(), after].concat();
        let many = "n=v; ".repeat(200);
        for (name, value) in [
            (COOKIE, surround(b"a=\xff; tenure=", b"")),
            (COOKIE, surround(b"a=\xc3\xa9; tenure=", b"; b=\x80")),
            (COOKIE, surround(b"tenure =", b"")),
            (COOKIE, surround(b"tenure\t= ", b" ;")),
            (COOKIE, surround(b"tenure=\"", b"\"")),
            (COOKIE, surround(b"; ;;tenure=", b";")),
            (COOKIE, surround(b"Tenure=other; TENURE=x; tenure=", b"; tEnure=y")),
            (COOKIE, surround(format!("{many}tenure=").as_bytes(), format!("; {many}").as_bytes())),
            (SEC_WEBSOCKET_PROTOCOL, surround(b"ch\xe9t,tenure.bearer.", b",\xff")),
            (SEC_WEBSOCKET_PROTOCOL, surround(b"a,,\ttenure.bearer.", b" ,")),
        ] {
            let found = PresentedToken::of(&headers(&[(name, value.clone())]), &CookieName::default(), false);
            let found = found.unwrap().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&value)));
            assert_eq!(found.token.unwrap().to_text().expose(), text, "{}", String::from_utf8_lossy(&value));
        }
        // A text that looks like a token and is not one does not count as absent.
        for (name, value) in [
            (COOKIE, surround(b"tenure=", b"\xff")),
            (COOKIE, surround(b"tenure=\"", b"")),
            (COOKIE, b"tenure=\xff".to_vec()),
            (AUTHORIZATION, surround(b"Bearer ", b"\xff")),
            (AUTHORIZATION, surround(b"Bearer ", b", Basic x")),
            (SEC_WEBSOCKET_PROTOCOL, surround(b"tenure.bearer.", b"\xff")),
        ] {
            let found = PresentedToken::of(&headers(&[(name, value.clone())]), &CookieName::default(), false);
            assert!(found.unwrap().unwrap().token.is_none(), "{}", String::from_utf8_lossy(&value));
        }
    }

    #[test]
    fn a_token_that_stands_where_none_is_read_is_refused() {
        let text = token(1);
        let surround = |before: &[u8], after: &[u8]| [before, text.as_bytes(), after].concat();
        for (name, value) in [
            (AUTHORIZATION, surround(b"\xffBearer ", b"")),
            (AUTHORIZATION, surround(b"Bearer \"", b"\"")),
            (AUTHORIZATION, surround(b"Token ", b"")),
            (AUTHORIZATION, surround(b"", b"")),
            (SEC_WEBSOCKET_PROTOCOL, surround(b"\xfftenure.bearer.", b"")),
            (SEC_WEBSOCKET_PROTOCOL, surround(b"TENURE.bearer.", b"")),
            (SEC_WEBSOCKET_PROTOCOL, surround(b"other.", b"")),
        ] {
            let found = PresentedToken::of(&headers(&[(name, value.clone())]), &CookieName::default(), false);
            assert_eq!(found.unwrap_err(), PresentedTokenError::Misplaced, "{}", String::from_utf8_lossy(&value));
        }
    }

    #[test]
    fn over_tls_only_the_cookie_counts_that_nobody_else_can_set() {
        let (host, plain) = (token(1), token(2));
        let both = [(COOKIE, format!("tenure={plain}; __Host-tenure={host}; tenure=x"))];
        let text = |found: Result<Option<PresentedToken>, _>| {
            found.unwrap().unwrap().token.unwrap().to_text().expose().to_owned()
        };
        assert_eq!(text(of(&both, true)), host);
        for planted in ["tenure", "__host-tenure", "__HOST-TENURE", "__Host-Tenure", "__Secure-tenure"] {
            let found = of(&[(COOKIE, format!("{planted}={plain}"))], true);
            assert!(found.unwrap().is_none(), "{planted}");
        }
        let both = [(COOKIE, format!("__Host-tenure={host}; tenure={plain}"))];
        assert_eq!(text(of(&both, false)), plain);
        assert_eq!(text(of(&[(COOKIE, format!("__Host-tenure={host}"))], false)), host);
    }

    #[test]
    fn what_is_no_tenure_token_is_no_credential_in_an_authorization_and_malformed_elsewhere() {
        for value in ["Basic YTpi", "Bearer eyJhbGciOi", "Bearer", "tnr_", "Token tnr_short"] {
            assert!(of(&[(AUTHORIZATION, value.to_owned())], false).unwrap().is_none(), "{value}");
        }
        let found = of(&[(COOKIE, "tenure=nonsense".to_owned())], false).unwrap().unwrap();
        assert!(found.token.is_none());
        assert!(of(&[(COOKIE, "tenure; a".to_owned())], false).unwrap().is_none());
    }

    #[test]
    fn the_same_token_twice_is_one_and_two_are_an_error() {
        let (one, two) = (token(1), token(2));
        let same = [(AUTHORIZATION, format!("Bearer {one}")), (COOKIE, format!("tenure={one}; tenure=\"{one}\""))];
        let found = of(&same, false).unwrap().unwrap();
        assert!(!found.from_cookie && found.in_cookie);
        for differing in [
            [(AUTHORIZATION, format!("Bearer {one}")), (COOKIE, format!("tenure={two}"))],
            [(AUTHORIZATION, format!("Bearer {one}")), (AUTHORIZATION, format!("Bearer {two}"))],
            [(COOKIE, format!("tenure={one}")), (COOKIE, format!("a=b; tenure={two}"))],
            [(COOKIE, format!("tenure={one}; tenure={two}")), (COOKIE, "a=b".to_owned())],
        ] {
            assert_eq!(of(&differing, false).unwrap_err(), PresentedTokenError::Conflicting);
        }
    }

    #[test]
    fn no_upstream_sets_the_gateways_own_cookie() {
        for value in [
            &b"tenure=x"[..],
            b"tenure=\xff; Path=/",
            b" tenure =x",
            b"=tenure=x",
            b" = __Host-tenure=x",
            b"TENURE=x",
            b"__host-Tenure=x; Secure",
        ] {
            let found = sets_token_cookie(&HeaderValue::from_bytes(value).unwrap(), &CookieName::default());
            assert!(found, "{}", String::from_utf8_lossy(value));
        }
        for value in ["tenures=x", "a=tenure=x", "a=b; tenure=x", "tenure", "__Secure-tenure=x", ""] {
            assert!(!sets_token_cookie(&HeaderValue::from_static(value), &CookieName::default()), "{value}");
        }
    }
}
