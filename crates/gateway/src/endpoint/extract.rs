//! Extractors of the gateway's own endpoints: bodies with a bound, queries and forms.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::header::AUTHORIZATION;
use http::request::Parts;
use http::{Extensions, HeaderMap};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use tenure_tower::Problem;
use tenure_tower::request::list::has_media_type;
use tenure_tower::request::peer::Peer;

/// The most bytes of a body: more than any request to Tenure itself needs.
pub(crate) const BODY_MAX: usize = 16 * 1024;

/// How long a body may take to arrive.
const BODY_LIMIT: Duration = Duration::from_secs(15);

/// A JSON body. A field that does not fit is a [`Problem`] that names it.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        // A page of another site cannot send this type without asking first.
        if !has_media_type(request.headers(), "application/json") {
            return Err(Problem::MediaType("send the body as Content-Type: application/json".to_owned()));
        }
        let bytes = bounded(request.into_body()).await?;
        let mut reader = serde_json::Deserializer::from_slice(&bytes);
        let body = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            let what = error.into_inner();
            Problem::BadRequest(if path == "." { format!("the body: {what}") } else { format!("{path}: {what}") })
        })?;
        reader.end().map_err(|error| Problem::BadRequest(format!("the body: {error}")))?;
        Ok(Self(body))
    }
}

/// The query of a request. A parameter that does not fit is a [`Problem`] that names it.
pub(crate) struct QueryParams<T>(pub(crate) T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for QueryParams<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let pairs = form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let reader = serde::de::value::MapDeserializer::<_, serde::de::value::Error>::new(
            pairs.map(|(name, value)| (name.into_owned(), Loose(value.into_owned()))),
        );
        let query = serde_path_to_error::deserialize(reader).map_err(|error| {
            let path = error.path().to_string();
            let what = error.into_inner();
            Problem::BadRequest(if path == "." { format!("the query: {what}") } else { format!("{path}: {what}") })
        })?;
        Ok(Self(query))
    }
}

/// A deserializer of one text into any type of field.
struct Loose(String);

impl<'de> serde::de::IntoDeserializer<'de, serde::de::value::Error> for Loose {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident => $visit:ident),*) => {$(
        fn $method<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            match self.0.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => Err(serde::de::Error::invalid_value(serde::de::Unexpected::Str(&self.0), &visitor)),
            }
        }
    )*};
}

impl<'de> serde::Deserializer<'de> for Loose {
    type Error = serde::de::value::Error;

    parsed!(deserialize_bool => visit_bool, deserialize_u32 => visit_u32, deserialize_u64 => visit_u64);

    fn deserialize_any<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_string(self.0)
    }

    fn deserialize_option<V: serde::de::Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: serde::de::Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(serde::de::IntoDeserializer::<Self::Error>::into_deserializer(self.0))
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf unit unit_struct newtype_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// The fields of a form (`application/x-www-form-urlencoded`). No field may come twice (RFC 6749 section 3.2).
#[derive(Default)]
pub(crate) struct Form(BTreeMap<String, Zeroizing<String>>);

impl Form {
    /// Reads a form.
    ///
    /// # Errors
    /// [`Problem`] if the body is not a form, is too large, or has a field twice.
    pub(crate) async fn read(request: Request) -> Result<Self, Problem> {
        if !has_media_type(request.headers(), "application/x-www-form-urlencoded") {
            let text = "send the body as Content-Type: application/x-www-form-urlencoded";
            return Err(Problem::MediaType(text.to_owned()));
        }
        let bytes = bounded(request.into_body()).await?;
        let mut fields = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(&bytes) {
            let name: String = name.chars().take(64).collect();
            if fields.insert(name.clone(), Zeroizing::new(value.into_owned())).is_some() {
                return Err(Problem::BadRequest(format!("{name:?} appears twice: send it once")));
            }
        }
        Ok(Self(fields))
    }

    /// Returns a field that is present and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }
}

async fn bounded(body: Body) -> Result<bytes::Bytes, Problem> {
    let late = |_| Problem::BadRequest("the body did not arrive in time".to_owned());
    tokio::time::timeout(BODY_LIMIT, to_bytes(body, BODY_MAX)).await.map_err(late)?.map_err(|error| {
        let mut cause: Option<&dyn std::error::Error> = Some(&error);
        while let Some(error) = cause {
            if error.is::<http_body_util::LengthLimitError>() {
                return Problem::TooLarge(format!("the body is too large: at most {BODY_MAX} bytes are accepted here"));
            }
            cause = error.source();
        }
        Problem::BadRequest("the body was cut off".to_owned())
    })
}

/// Returns the text after `Bearer` in `Authorization`, if there is exactly one such field.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, rest) = value.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(rest.trim())
}

/// Returns the client, which the listener put among the extensions.
///
/// # Errors
/// [`Problem::Internal`] if a router is used without a listener.
pub(crate) fn peer(extensions: &Extensions) -> Result<Peer, Problem> {
    let nobody = || Problem::Internal("the client is unknown: put a Peer into the request's extensions".to_owned());
    extensions.get::<Peer>().cloned().ok_or_else(nobody)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Query {
        device_id: Option<String>,
        limit: Option<u32>,
        #[serde(default)]
        dry_run: bool,
    }

    async fn query(text: &str) -> Result<Query, Problem> {
        let (mut parts, ()) = http::Request::builder().uri(format!("/?{text}")).body(()).unwrap().into_parts();
        QueryParams::from_request_parts(&mut parts, &()).await.map(|QueryParams(query)| query)
    }

    #[tokio::test]
    async fn a_query_is_read_and_what_is_wrong_with_it_is_named() {
        let whole = Query { device_id: Some("a b".to_owned()), limit: Some(3), dry_run: true };
        assert_eq!(query("deviceId=a+b&limit=3&dryRun=true").await, Ok(whole));
        for (text, part) in [("limit=x", "limit: "), ("nonsense=1", "nonsense"), ("limit=1&limit=2", "limit")] {
            match query(text).await {
                Err(Problem::BadRequest(detail)) => assert!(detail.contains(part), "{text}: {detail}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let begun = tokio::time::Instant::now();
        let never = Body::from_stream(futures_util::stream::pending::<Result<bytes::Bytes, std::io::Error>>());
        let text = "the body did not arrive in time".to_owned();
        assert_eq!(bounded(never).await, Err(Problem::BadRequest(text)));
        assert_eq!(begun.elapsed(), BODY_LIMIT);
    }

    #[test]
    fn a_bearer_is_told_from_other_schemes_and_must_be_one() {
        let headers = |values: &[&str]| -> HeaderMap {
            values.iter().map(|value| (AUTHORIZATION, HeaderValue::from_str(value).unwrap())).collect()
        };
        assert_eq!(bearer(&headers(&["bearer  abc "])), Some("abc"));
        assert_eq!(bearer(&headers(&["Basic abc"])), None);
        assert_eq!(bearer(&headers(&["Bearer a", "Bearer b"])), None);
    }
}
