//! The cookie that a browser's token lives in.

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue};
use tenure_domain::{Millis, TokenText};

use crate::credential::{PLAIN_COOKIE, SECURE_COOKIE};

/// What every cookie of ours has: no script reads it, and no other site's form or frame sends it.
const ATTRIBUTES: &str = "Path=/; HttpOnly; SameSite=Lax";

/// Gives the browser a token for as long as it holds. Where the browser came over TLS the cookie never leaves it in
/// clear and cannot be planted from another host (`__Host-`).
pub(crate) fn give(headers: &mut HeaderMap, token: &TokenText, lives: Millis, secure: bool) {
    let seconds = (lives.get() / 1_000).max(1);
    let token = token.expose();
    let text = if secure {
        format!("{SECURE_COOKIE}={token}; Max-Age={seconds}; {ATTRIBUTES}; Secure")
    } else {
        format!("{PLAIN_COOKIE}={token}; Max-Age={seconds}; {ATTRIBUTES}")
    };
    // A token is made of letters, digits and underscores.
    if let Ok(mut value) = HeaderValue::try_from(text) {
        value.set_sensitive(true);
        headers.append(SET_COOKIE, value);
    }
}

/// Takes the token from the browser, under whichever name it has it.
pub(crate) fn clear(headers: &mut HeaderMap, secure: bool) {
    let mut expire = |text: String| {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.append(SET_COOKIE, value);
        }
    };
    if secure {
        expire(format!("{SECURE_COOKIE}=; Max-Age=0; {ATTRIBUTES}; Secure"));
    }
    expire(format!("{PLAIN_COOKIE}=; Max-Age=0; {ATTRIBUTES}"));
}
