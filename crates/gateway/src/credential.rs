//! The token of a request, wherever it stands.

use http::header::{AUTHORIZATION, COOKIE, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};
use tenure_domain::Token;
use zeroize::Zeroizing;

/// The cookie's name where the browser came over TLS.
pub(crate) const SECURE_COOKIE: &str = "__Host-tenure";
/// The cookie's name where it came in clear.
pub(crate) const PLAIN_COOKIE: &str = "tenure";
/// What stands before the token in the name of a WebSocket subprotocol.
pub(crate) const SUBPROTOCOL: &str = "tenure.bearer.";
/// What each token starts with. An `Authorization` without it is somebody else's.
const PREFIX: &str = "tnr_";

/// What a request presents.
#[derive(Debug)]
pub struct Credential {
    /// The token; `None` where its text is none.
    pub token: Option<Token>,
    /// Whether it came in a cookie, which a browser sends whoever asks it to.
    pub from_cookie: bool,
}

/// Why a request's token cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// It presents two that differ.
    #[error("the request carries two different tokens: send one")]
    Two,
}

impl Credential {
    /// The token of a request: `Authorization: Bearer`, the cookie, or the WebSocket subprotocol. `None` where there
    /// is none; an `Authorization` that is no Tenure token is no credential.
    ///
    /// # Errors
    /// [`CredentialError::Two`].
    pub fn of(headers: &HeaderMap) -> Result<Option<Self>, CredentialError> {
        let mut found: Option<(Zeroizing<String>, bool)> = None;
        let bearers = bearers(headers).map(|text| (text, false));
        let protocols = protocols(headers).map(|text| (text, false));
        let cookies = cookies(headers).map(|text| (text, true));
        for (text, from_cookie) in bearers.chain(protocols).chain(cookies) {
            match &mut found {
                None => found = Some((Zeroizing::new(text.to_owned()), from_cookie)),
                Some((known, _)) if known.as_str() != text => return Err(CredentialError::Two),
                // Shown in a header too, it is no longer only what a browser sent by itself.
                Some((_, cookie)) => *cookie &= from_cookie,
            }
        }
        Ok(found.map(|(text, from_cookie)| Self { token: Token::parse(&text).ok(), from_cookie }))
    }
}

fn bearers(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(AUTHORIZATION).iter().filter_map(bearer)
}

fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, rest) = value.to_str().ok()?.trim().split_once(' ')?;
    let text = rest.trim();
    (scheme.eq_ignore_ascii_case("bearer") && text.starts_with(PREFIX)).then_some(text)
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(protocol)
}

fn protocol(name: &str) -> Option<&str> {
    name.trim().strip_prefix(SUBPROTOCOL)
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(';')).filter_map(cookie)
}

fn cookie(pair: &str) -> Option<&str> {
    let (name, text) = pair.split_once('=')?;
    [SECURE_COOKIE, PLAIN_COOKIE].contains(&name.trim()).then_some(text.trim())
}

/// Whether an `Authorization` carries a Tenure token.
pub(crate) fn is_token_scheme(value: &HeaderValue) -> bool {
    bearer(value).is_some()
}

/// Whether a cookie pair carries a Tenure token.
pub(crate) fn is_token_cookie(pair: &str) -> bool {
    cookie(pair).is_some()
}

/// Whether a WebSocket subprotocol carries a Tenure token.
pub(crate) fn is_token_protocol(name: &str) -> bool {
    protocol(name).is_some()
}

#[cfg(test)]
mod tests {
    use tenure_domain::{Bucket, DeviceId, Family, Fresh, Secret, SessionId};

    use super::*;

    fn token(n: u8) -> String {
        let id = SessionId::new(Bucket::of(&DeviceId::new("laptop").unwrap()), [n; 12]);
        let secret = Secret::new(&Family::new([n; 16]), &Fresh::new([n; 16]));
        Token::new(id, secret).to_text().expose().to_owned()
    }

    fn headers(pairs: &[(http::HeaderName, String)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::try_from(value).unwrap())).collect()
    }

    #[test]
    fn a_token_is_found_in_each_of_its_places() {
        let text = token(1);
        for (name, value) in [
            (AUTHORIZATION, format!("Bearer {text}")),
            (AUTHORIZATION, format!("bearer  {text} ")),
            (COOKIE, format!("a=b; __Host-tenure={text}; c=d")),
            (COOKIE, format!("tenure={text}")),
            (SEC_WEBSOCKET_PROTOCOL, format!("chat, tenure.bearer.{text}")),
        ] {
            let found = Credential::of(&headers(&[(name.clone(), value.clone())])).unwrap().unwrap();
            assert!(found.token.is_some(), "{name}: {value}");
            assert_eq!(found.from_cookie, name == COOKIE);
        }
    }

    #[test]
    fn what_is_no_tenure_token_is_no_credential_in_an_authorization_and_malformed_elsewhere() {
        for value in ["Basic YTpi", "Bearer eyJhbGciOi", "Bearer", "tnr_"] {
            assert!(Credential::of(&headers(&[(AUTHORIZATION, value.to_owned())])).unwrap().is_none(), "{value}");
        }
        let found = Credential::of(&headers(&[(COOKIE, "tenure=nonsense".to_owned())])).unwrap().unwrap();
        assert!(found.token.is_none());
    }

    #[test]
    fn the_same_token_twice_is_one_and_two_are_an_error() {
        let (one, two) = (token(1), token(2));
        let same = headers(&[(AUTHORIZATION, format!("Bearer {one}")), (COOKIE, format!("tenure={one}"))]);
        assert!(!Credential::of(&same).unwrap().unwrap().from_cookie);
        let differing = headers(&[(AUTHORIZATION, format!("Bearer {one}")), (COOKIE, format!("tenure={two}"))]);
        assert_eq!(Credential::of(&differing).unwrap_err(), CredentialError::Two);
    }
}
