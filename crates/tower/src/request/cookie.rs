//! The cookie that a browser's token lives in.

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Response};
use tenure_domain::{Millis, TokenText};

/// What every cookie of ours has: no script reads it, and no other site's form or frame sends it.
const ATTRIBUTES: &str = "Path=/; HttpOnly; SameSite=Lax";
/// What stands before the name where the browser came over TLS: browsers take such a cookie only over TLS, from this very
/// host and for the whole of it.
const HOST_PREFIX: &str = "__Host-";
/// The longest name.
const MAX_NAME_LENGTH: usize = 64;

/// The name of the cookie: `tenure` in clear, `__Host-tenure` over TLS, or as the operator called it. Ports of one host
/// share their cookies, so two gateways there need two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName {
    /// The whole, of which the plain name is the end.
    secure: Box<str>,
}

impl CookieName {
    /// A name of 1 to 64 letters, digits, `-` and `_`, not beginning with `__`, which browsers give a meaning.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=MAX_NAME_LENGTH).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !name.starts_with("__");
        fits.then(|| Self { secure: format!("{HOST_PREFIX}{name}").into() })
    }

    /// The name in clear.
    #[must_use]
    pub fn plain(&self) -> &str {
        &self.secure[HOST_PREFIX.len()..]
    }

    /// The name over TLS.
    #[must_use]
    pub fn secure(&self) -> &str {
        &self.secure
    }

    /// Whether these octets are either name for whoever compares without case, as some servers do.
    pub fn is(&self, name: &[u8]) -> bool {
        [self.plain(), self.secure()].iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
    }
}

impl Default for CookieName {
    fn default() -> Self {
        Self { secure: format!("{HOST_PREFIX}tenure").into() }
    }
}

/// Gives the browser a token for as long as it holds. Where the browser came over TLS the cookie never leaves it in
/// clear and cannot be planted from another host; one that could is taken from it.
pub fn set_token(headers: &mut HeaderMap, name: &CookieName, token: &TokenText, valid_for: Millis, secure: bool) {
    let seconds = (valid_for.get() / 1_000).max(1);
    let token = token.expose();
    if secure {
        append(headers, &format!("{}={token}; Max-Age={seconds}; {ATTRIBUTES}; Secure", name.secure()));
        expire_plain(headers, name);
    } else {
        append(headers, &format!("{}={token}; Max-Age={seconds}; {ATTRIBUTES}", name.plain()));
    }
}

/// Takes the token from the browser, under whichever name it has it.
pub fn clear(headers: &mut HeaderMap, name: &CookieName, secure: bool) {
    if secure {
        append(headers, &format!("{}=; Max-Age=0; {ATTRIBUTES}; Secure", name.secure()));
    }
    expire_plain(headers, name);
}

fn expire_plain(headers: &mut HeaderMap, name: &CookieName) {
    append(headers, &format!("{}=; Max-Age=0; {ATTRIBUTES}", name.plain()));
}

fn append(headers: &mut HeaderMap, cookie: &str) {
    // Names and tokens are made of letters, digits, hyphens and underscores.
    if let Ok(mut value) = HeaderValue::try_from(cookie) {
        value.set_sensitive(true);
        headers.append(SET_COOKIE, value);
    }
}

/// Marks an answer to a request whose cookie's session is over: the browser need not keep it.
#[derive(Clone, Copy, Debug)]
pub struct ClearCookie;

/// Takes the cookie from a browser whose session is over, where an answer is marked so.
pub fn clear_if_marked<B>(response: &mut Response<B>, name: &CookieName, secure: bool) {
    if response.extensions_mut().remove::<ClearCookie>().is_some() {
        clear(response.headers_mut(), name, secure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_letters_digits_hyphens_and_underscores() {
        let longest = "x".repeat(64);
        for name in ["tenure", "t", "tenure-2", "Tenure_B", "_t", &longest] {
            let found = CookieName::new(name).unwrap();
            assert_eq!((found.plain(), found.secure()), (name, &*format!("__Host-{name}")));
            assert!(found.is(name.to_ascii_uppercase().as_bytes()));
        }
        let long = "x".repeat(65);
        for name in ["", "a b", "a;b", "a=b", "a.b", "\u{fc}", "__Host-a", "__x", "a,b", "\"a\"", &long] {
            assert_eq!(CookieName::new(name), None, "{name}");
        }
        assert_eq!(CookieName::default(), CookieName::new("tenure").unwrap());
    }
}
