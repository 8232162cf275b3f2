//! Where a person is sent whose browser has no token.

use axum::response::{IntoResponse as _, Response};
use http::header::{ACCEPT, CACHE_CONTROL, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};

use crate::api::LOGIN;
use crate::problem::Problem;

/// The login page in place of a 401, where a person follows a link or types an address.
pub(crate) fn redirect<B>(request: &Request<B>, problem: &Problem) -> Option<Response> {
    let back = request.uri().path_and_query().map_or("/", |path| path.as_str());
    address(request.method(), request.headers(), back, problem).map(go)
}

/// A redirect to there.
pub(crate) fn go(location: HeaderValue) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The address of the login page, for a person whose browser asked for `back` and was refused.
pub(crate) fn address(method: &Method, headers: &HeaderMap, back: &str, problem: &Problem) -> Option<HeaderValue> {
    let navigation = [Method::GET, Method::HEAD].contains(method) && is_navigation(headers);
    if !navigation || !matches!(problem, Problem::Unauthorized(_)) {
        return None;
    }
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("return", back).finish();
    HeaderValue::try_from(format!("{LOGIN}?{query}")).ok()
}

/// Whether a browser asks for a page to show, and not a script of a page for data.
fn is_navigation(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let html = text(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/html"));
    html && text("sec-fetch-mode").is_none_or(|mode| mode == "navigate")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Refused;

    fn location(method: Method, path: &str, pairs: &[(&'static str, &str)]) -> Option<String> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        let response = redirect(&request.body(()).unwrap(), &Problem::Unauthorized(Refused::Missing))?;
        Some(response.headers()[LOCATION].to_str().unwrap().to_owned())
    }

    #[test]
    fn a_person_is_sent_to_the_login_page_and_a_program_is_not() {
        let html = ("accept", "text/html,*/*;q=0.8");
        let wanted = "/_tenure/login?return=%2Fa%3Fb%3Dc%26d";
        assert_eq!(location(Method::GET, "/a?b=c&d", &[html]).unwrap(), wanted);
        assert_eq!(location(Method::HEAD, "/a?b=c&d", &[html, ("sec-fetch-mode", "navigate")]).unwrap(), wanted);
        assert_eq!(location(Method::GET, "/", &[html, ("sec-fetch-mode", "cors")]), None);
        assert_eq!(location(Method::POST, "/", &[html]), None);
        assert_eq!(location(Method::GET, "/", &[("accept", "*/*")]), None);
        let request = Request::builder().header("accept", "text/html").body(()).unwrap();
        assert!(redirect(&request, &Problem::Store("down".to_owned())).is_none());
    }
}
