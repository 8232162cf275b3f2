//! Client authentication of OAuth (RFC 6749 section 2.3.1), with the admin secret as every client's secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use super::Failure;
use crate::exchange::{self, Form};

/// A client that gives itself no name.
const UNNAMED: &str = "oauth2";

/// The client's name for itself and the secret that it presents, by exactly one way; `None` where it presents none.
///
/// # Errors
/// `invalid_request` for a client that authenticates twice.
pub(super) fn presented(headers: &HeaderMap, form: &Form) -> Result<Option<(String, Zeroizing<String>)>, Failure> {
    match (headers.contains_key(AUTHORIZATION), form.get("client_secret")) {
        (true, Some(_)) => Err(Failure::invalid_request("the client authenticates twice: use one way")),
        (true, None) => Ok(from_header(headers)),
        (false, Some(text)) => {
            let name = form.get("client_id").unwrap_or(UNNAMED).to_owned();
            Ok(Some((name, Zeroizing::new(text.to_owned()))))
        }
        (false, None) => Ok(None),
    }
}

fn from_header(headers: &HeaderMap) -> Option<(String, Zeroizing<String>)> {
    if let Some(bearer) = exchange::bearer(headers) {
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
    // As the value of a nameless field; the two characters that would end one are taken as they are.
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
        let shown = presented(&basic(pair), &Form::default()).ok().flatten();
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
