//! The cookie that carries a browser's token.

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Response};
use tenure_domain::{Millis, TokenText};

/// The attributes of every cookie: scripts cannot read it, and other sites' forms and frames do not send it.
const ATTRIBUTES: &str = "Path=/; HttpOnly; SameSite=Lax";
/// The prefix of the name over TLS. Browsers accept a cookie with this prefix only over TLS, and only from this host
/// for all its paths.
const HOST_PREFIX: &str = "__Host-";
/// The most characters of a name.
const MAX_NAME_LENGTH: usize = 64;

/// The name of the cookie. By default it is `tenure` over plain HTTP and `__Host-tenure` over TLS. Cookies ignore
/// ports, so two gateways on one host need two names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieName {
    /// Returns the name over TLS. The plain name is its end.
    secure: Box<str>,
}

impl CookieName {
    /// Accepts a name of 1 to 64 letters, digits, `-` and `_`. It must not begin with `__`, which has a meaning to
    /// browsers.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=MAX_NAME_LENGTH).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !name.starts_with("__");
        fits.then(|| Self { secure: format!("{HOST_PREFIX}{name}").into() })
    }

    /// Returns the name over plain HTTP.
    #[must_use]
    pub fn plain(&self) -> &str {
        &self.secure[HOST_PREFIX.len()..]
    }

    /// Returns the name over TLS.
    #[must_use]
    pub fn secure(&self) -> &str {
        &self.secure
    }

    /// Whether these octets are one of the two names. Case does not matter, as for some servers.
    pub fn is(&self, name: &[u8]) -> bool {
        [self.plain(), self.secure()].iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
    }
}

impl Default for CookieName {
    fn default() -> Self {
        Self { secure: format!("{HOST_PREFIX}tenure").into() }
    }
}

/// Sets a token in the browser until it expires. Over TLS the browser never sends the cookie over plain HTTP, no other
/// host can set it, and the cookie for plain HTTP is removed.
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

/// Removes the token from the browser, under both names.
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

/// Marks a response to a request whose cookie is of a session that has ended: the browser need not keep the cookie.
#[derive(Clone, Copy, Debug)]
pub struct ClearCookie;

/// Removes the cookie from the browser if the response is marked with [`ClearCookie`].
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
