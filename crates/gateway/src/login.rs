//! Where a person is sent whose browser has no token.

use axum::response::{IntoResponse as _, Response};
use http::header::{ACCEPT, CACHE_CONTROL, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};

use crate::api::LOGIN;
use crate::problem::Problem;

/// The parameter of the login page that says where to go afterwards.
pub(crate) const RETURN: &str = "return";
/// The parameter that says why the token of the browser was refused: the refusal's code.
pub(crate) const REASON: &str = "reason";

/// The login page in place of a 401, where a person follows a link or types an address.
pub(crate) fn redirect<B>(request: &Request<B>, problem: &Problem) -> Option<Response> {
    let back = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut response = go(address(request.method(), request.headers(), back, problem)?);
    problem.mark(&mut response);
    Some(response)
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
    if !matches!(problem, Problem::Unauthorized(_)) || !is_navigation(method, headers) {
        return None;
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair(RETURN, back);
    if let Some(refusal) = problem.refusal() {
        query.append_pair(REASON, refusal.code());
    }
    HeaderValue::try_from(format!("{LOGIN}?{}", query.finish())).ok()
}

/// Whether a browser asks for a page to show, and not a script of a page for data.
pub(crate) fn is_navigation(method: &Method, headers: &HeaderMap) -> bool {
    if ![Method::GET, Method::HEAD].contains(method) {
        return false;
    }
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let html = text(ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/html"));
    html && text("sec-fetch-mode").is_none_or(|mode| mode == "navigate")
}

#[cfg(test)]
mod tests {
    use tenure_domain::{EndReason, Refusal};

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
        let revoked = Problem::from(Refusal::Ended(EndReason::Revoked));
        let response = redirect(&request, &revoked).unwrap();
        assert_eq!(response.headers()[LOCATION], "/_tenure/login?return=%2F&reason=revoked");
        assert!(redirect(&request, &Problem::Store("down".to_owned())).is_none());
    }
}
