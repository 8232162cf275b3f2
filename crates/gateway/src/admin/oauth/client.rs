//! Client authentication of OAuth (RFC 6749 section 2.3.1), with the admin secret as every client's secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use super::Failure;
use crate::exchange::{self, Form};
use crate::secret::SharedSecret;

/// A client that gives itself no name.
const UNNAMED: &str = "oauth2";

/// What the client presents, by one of the three ways.
struct Presented {
    name: Option<String>,
    secret: Zeroizing<String>,
}

/// The name of a client that presents the secret, by exactly one way.
///
/// # Errors
/// `invalid_client`; `invalid_request` for a client that authenticates twice.
pub(super) fn authenticate(secret: &SharedSecret, headers: &HeaderMap, form: &Form) -> Result<String, Failure> {
    let in_header = headers.contains_key(AUTHORIZATION);
    let in_form = form.get("client_secret");
    let presented = match (in_header, in_form) {
        (true, Some(_)) => return Err(Failure::invalid_request("the client authenticates twice: use one way")),
        (true, None) => from_header(headers),
        (false, Some(text)) => {
            Some(Presented { name: form.get("client_id").map(str::to_owned), secret: Zeroizing::new(text.to_owned()) })
        }
        (false, None) => None,
    };
    let presented = presented.ok_or_else(Failure::invalid_client)?;
    if !secret.is(presented.secret.as_bytes()) {
        return Err(Failure::invalid_client());
    }
    Ok(presented.name.unwrap_or_else(|| UNNAMED.to_owned()))
}

fn from_header(headers: &HeaderMap) -> Option<Presented> {
    if let Some(bearer) = exchange::bearer(headers) {
        return Some(Presented { name: None, secret: Zeroizing::new(bearer.to_owned()) });
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
    Some(Presented { name: Some(decoded(name).to_string()), secret: decoded(secret) })
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

    fn outcome(secret: &str, headers: &HeaderMap) -> Option<String> {
        authenticate(&SharedSecret::new(secret).unwrap(), headers, &Form::default()).ok()
    }

    #[test]
    fn both_halves_of_basic_credentials_are_form_encoded() {
        assert_eq!(outcome("p:w+d &=%", &basic("my%3Aapp:p%3Aw%2Bd+%26%3D%25")).as_deref(), Some("my:app"));
        assert_eq!(outcome("plain", &basic("app:plain")).as_deref(), Some("app"));
        assert_eq!(outcome("a&b=c", &basic("app:a&b=c")).as_deref(), Some("app"));
        assert_eq!(outcome("plain", &basic("app:wrong")), None);
        assert_eq!(outcome("plain", &basic("plain")), None);
    }
}
