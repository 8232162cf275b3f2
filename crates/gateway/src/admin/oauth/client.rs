//! Client authentication of OAuth (RFC 6749 section 2.3.1), with the admin secret as every client's secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use crate::endpoint::extract::{self, Form};

/// The name of a client that gives itself none.
const UNNAMED: &str = "oauth2";

/// A client's name for itself, and the secret that it presents.
type ClientCredentials = (String, Zeroizing<String>);

/// Returns the credentials in the header, or an error if they are invalid. `None` if there are none.
pub(super) fn in_header(headers: &HeaderMap) -> Option<Option<ClientCredentials>> {
    headers.contains_key(AUTHORIZATION).then(|| from_header(headers))
}

/// Returns the credentials in the form.
pub(super) fn in_form(form: &Form) -> Option<ClientCredentials> {
    let secret = form.get("client_secret")?;
    let name = form.get("client_id").unwrap_or(UNNAMED).to_owned();
    Some((name, Zeroizing::new(secret.to_owned())))
}

fn from_header(headers: &HeaderMap) -> Option<ClientCredentials> {
    if let Some(bearer) = extract::bearer(headers) {
        return Some((UNNAMED.to_owned(), Zeroizing::new(bearer.to_owned())));
    }
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, rest) = value.to_str().ok()?.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = Zeroizing::new(STANDARD.decode(rest.trim()).ok()?);
    let (name, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some((decoded(name).to_string(), decoded(secret)))
}

/// Undoes the form encoding that both halves have inside the Basic credentials.
fn decoded(text: &str) -> Zeroizing<String> {
    // Decoded as the value of a field without a name. The two characters that would end a value are encoded first.
    let text = Zeroizing::new(text.replace('&', "%26").replace('=', "%3D"));
    let field = form_urlencoded::parse(text.as_bytes()).next();
    Zeroizing::new(field.map(|(name, _)| name.into_owned()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn basic(pair: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(pair));
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::try_from(value).unwrap())])
    }

    fn shown(pair: &str) -> Option<(String, String)> {
        let shown = in_header(&basic(pair)).flatten();
        shown.map(|(name, secret)| (name, secret.to_string()))
    }

    #[test]
    fn both_halves_of_basic_credentials_are_form_encoded() {
        for (pair, name, secret) in [
            ("my%3Aapp:p%3Aw%2Bd+%26%3D%25", "my:app", "p:w+d &=%"),
            ("app:plain", "app", "plain"),
            ("app:a&b=c", "app", "a&b=c"),
            (":s", "", "s"),
        ] {
            assert_eq!(shown(pair), Some((name.to_owned(), secret.to_owned())), "{pair}");
        }
        assert_eq!(shown("plain"), None);
    }
}
