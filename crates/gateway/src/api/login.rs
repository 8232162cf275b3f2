//! `/_tenure/login`: where a browser gets its cookie, and gives it back.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use tenure_domain::{Refusal, Token};
use tenure_service::Verified;

use super::{Api, Arrival};
use crate::credential::Credential;
use crate::exchange::Form;
use crate::origin::{self, Sender};
use crate::problem::Problem;
use crate::{cookie, html};

/// Where the page is.
pub(crate) const PATH: &str = "/_tenure/login";
/// The longest return path.
const RETURN_MAX: usize = 2_048;
/// Nothing but our own style, and forms to this host only.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'none'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    /// Where to go afterwards.
    back: &'a str,
    /// What went wrong.
    trouble: Option<&'a str>,
    /// Who is logged in.
    session: Option<LoggedIn>,
}

struct LoggedIn {
    id: String,
    device: String,
    subject: String,
    remaining: String,
}

/// The page: a form for a token, or who is logged in and a button to log out.
pub(super) async fn page(State(api): State<Arc<Api>>, headers: HeaderMap, uri: Uri) -> Response {
    let back = wanted(uri.query().unwrap_or_default());
    if !matches!(Credential::of(&headers), Ok(Some(_))) {
        return show(StatusCode::OK, &back, None, None);
    }
    match api.gate.authenticate(&headers).await {
        Ok((verified, _)) => show(StatusCode::OK, &back, None, Some(&verified)),
        // What holds no longer is no news to whoever comes to log in.
        Err(Problem::Unauthorized(_)) => show(StatusCode::OK, &back, None, None),
        Err(problem) => show(problem.status(), &back, Some(&problem.detail()), None),
    }
}

/// Takes a pasted token, and gives it back as a cookie.
pub(super) async fn log_in(State(api): State<Arc<Api>>, arrival: Arrival, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Err(problem) = ours(&parts) {
        return show(problem.status(), "/", Some(&problem.detail()), None);
    }
    let form = match Form::read(Request::from_parts(parts, body)).await {
        Ok(form) => form,
        Err(problem) => return show(problem.status(), "/", Some(&problem.detail()), None),
    };
    let back = form.get("return").filter(|path| is_local(path)).unwrap_or("/");
    let text = form.get("token").unwrap_or_default().trim();
    match verify(&api, text).await {
        Ok((token, verified)) => {
            let mut response = go(back);
            let lives = verified.session.expires_at.since(verified.at);
            cookie::give(response.headers_mut(), &token.to_text(), lives, arrival.secure);
            response
        }
        Err(_) if text.is_empty() => show(StatusCode::BAD_REQUEST, back, Some("paste a token first"), None),
        Err(problem) => show(problem.status(), back, Some(&problem.detail()), None),
    }
}

async fn verify(api: &Api, text: &str) -> Result<(Token, Verified), Problem> {
    let token = Token::parse(text).map_err(|_| Problem::from(Refusal::Malformed))?;
    // As any request that carries it does, so that failures here count with all others.
    let mut headers = HeaderMap::new();
    let bearer = zeroize::Zeroizing::new(format!("Bearer {}", token.to_text().expose()));
    let value = HeaderValue::try_from(bearer.as_str()).map_err(|_| Problem::from(Refusal::Malformed))?;
    headers.insert(header::AUTHORIZATION, value);
    let (verified, _) = api.gate.authenticate(&headers).await?;
    Ok((token, verified))
}

/// Ends the session of the cookie, and takes the cookie.
pub(super) async fn log_out(State(api): State<Arc<Api>>, arrival: Arrival, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if let Err(problem) = ours(&parts) {
        return show(problem.status(), "/", Some(&problem.detail()), None);
    }
    let ended = match api.gate.authenticate(&parts.headers).await {
        Ok((verified, _)) => api.gate.sessions().log_out(&verified.session).await.map_err(|error| error.error.into()),
        Err(problem) => Err(problem),
    };
    let mut response = match ended {
        // There was nothing left to end.
        Ok(_) | Err(Problem::Unauthorized(_)) => go(PATH),
        Err(problem) => {
            let text = format!("this browser is logged out, but the session may still be there: {}", problem.detail());
            show(problem.status(), "/", Some(&text), None)
        }
    };
    cookie::clear(response.headers_mut(), arrival.secure);
    response
}

/// The style of the page.
pub(super) async fn style() -> Response {
    html::file("text/css; charset=utf-8", include_str!("../../static/login.css"))
}

/// Whether a page of ours sent the form. Where no browser says, it must not be one that would: none sends a form
/// without an origin.
fn ours(parts: &Parts) -> Result<(), Problem> {
    match origin::sender(&parts.headers, origin::host(parts)) {
        Sender::Same => Ok(()),
        Sender::Other | Sender::Person | Sender::Unknown => {
            Err(Problem::Forbidden("the form must come from this page: open it and try again".to_owned()))
        }
    }
}

fn show(status: StatusCode, back: &str, trouble: Option<&str>, verified: Option<&Verified>) -> Response {
    let session = verified.map(|verified| LoggedIn {
        id: verified.session.id.to_string(),
        device: verified.session.device.to_string(),
        subject: verified.session.subject.to_string(),
        remaining: verified.session.remaining(verified.at).to_string(),
    });
    html::page(status, &LoginPage { back, trouble, session }, POLICY)
}

/// A redirect to a path of this host that was checked, as a `GET`.
fn go(path: &str) -> Response {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let location = HeaderValue::try_from(path).unwrap_or_else(|_| HeaderValue::from_static("/"));
    response.headers_mut().insert(LOCATION, location);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The checked `return` parameter of a query.
fn wanted(query: &str) -> String {
    let found = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "return");
    found.map(|(_, path)| path.into_owned()).filter(|path| is_local(path)).unwrap_or_else(|| "/".to_owned())
}

/// Whether a browser that is sent there stays on this host: one slash, then printable ASCII without a backslash, which
/// browsers take for a slash.
pub(crate) fn is_local(path: &str) -> bool {
    let mut bytes = path.bytes();
    path.len() <= RETURN_MAX
        && bytes.next() == Some(b'/')
        && !matches!(bytes.next(), Some(b'/' | b'\\'))
        && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(wanted("x=1&return=%2Fa%3Fb"), "/a?b");
        assert_eq!(wanted("return=%2F%2Fevil.test"), "/");
        assert_eq!(wanted(""), "/");
    }
}
