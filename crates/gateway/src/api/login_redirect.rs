//! The redirect to the login page, for a person whose browser has no valid token.

use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, LOCATION};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};

use tenure_tower::Problem;
use tenure_tower::csrf::is_navigation;

/// The path of the login page.
pub(crate) const PATH: &str = "/_tenure/login";
/// The most bytes of a return path.
const RETURN_MAX: usize = 2_048;
/// The parameter of the login page that says where to go afterwards.
pub(crate) const RETURN: &str = "return";
/// The parameter that says why the token of the browser was refused: the refusal's code.
pub(crate) const REASON: &str = "reason";

/// Returns a redirect to the login page instead of a 401 if a person followed a link or typed an address.
pub(crate) fn redirect<B>(request: &Request<B>, problem: &Problem) -> Option<Response> {
    let back = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut response = see_other(location(request.method(), request.headers(), back, problem)?);
    problem.mark_response(&mut response);
    Some(response)
}

/// Returns a redirect (303) to this location.
pub(crate) fn see_other(location: HeaderValue) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Returns the address of the login page, for a person whose browser asked for `back` and was refused.
pub(crate) fn location(method: &Method, headers: &HeaderMap, back: &str, problem: &Problem) -> Option<HeaderValue> {
    if !matches!(problem, Problem::Unauthorized(_)) || !is_navigation(method, headers) {
        return None;
    }
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair(RETURN, back);
    if let Some(refusal) = problem.refusal() {
        query.append_pair(REASON, refusal.code());
    }
    HeaderValue::try_from(format!("{PATH}?{}", query.finish())).ok()
}

/// Whether a path stays on this host: one slash, then printable ASCII without a backslash, which browsers read as a
/// slash.
pub(crate) fn is_local(path: &str) -> bool {
    let mut bytes = path.bytes();
    path.len() <= RETURN_MAX
        && bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use tenure_domain::{EndReason, Refusal};

    use super::*;
    use tenure_tower::TokenRejection;

    fn location(method: Method, path: &str, pairs: &[(&'static str, &str)]) -> Option<String> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in pairs {
            request = request.header(*name, *value);
        }
        let response = redirect(&request.body(()).unwrap(), &Problem::Unauthorized(TokenRejection::Missing))?;
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

    #[test]
    fn only_a_path_of_this_host_is_a_return_path() {
        for path in ["/", "/a/b?c=d#e", "/a//b", "/%2f/evil.test"] {
            assert!(is_local(path), "{path}");
        }
        for path in [
            "",
            "a",
            "//evil.test",
            "/\\evil.test",
            "\\/evil.test",
            "https://evil.test",
            "/a\nb",
            "/\t/evil.test",
            "/é",
        ] {
            assert!(!is_local(path), "{path:?}");
        }
        assert!(!is_local(&format!("/{}", "a".repeat(RETURN_MAX))));
    }
}
