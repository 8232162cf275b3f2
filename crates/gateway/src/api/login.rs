//! `/_tenure/login`: where a browser gets its cookie, and gives it back.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, LOCATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tenure_domain::{EndReason, Refusal, Token};
use tenure_service::Verified;

use super::{Api, peer};
use crate::credential::Credential;
use crate::exchange::Form;
use crate::login::{REASON, RETURN};
use crate::origin::{self, Sender};
use crate::peer::Peer;
use crate::problem::{Problem, Refused};
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
pub(super) async fn page(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let back = wanted(parts.uri.query().unwrap_or_default());
    let secure = parts.extensions.get::<Peer>().is_some_and(|peer| peer.secure);
    if !matches!(Credential::of(&parts.headers, &api.gate.options().cookie_name, secure), Ok(Some(_))) {
        // The cookie is gone by now, but where the browser was sent here from its token was judged.
        let refusal = parameter(parts.uri.query().unwrap_or_default(), REASON).and_then(|code| code.parse().ok());
        return show(StatusCode::OK, &back, refusal.map(in_words), None);
    }
    match admit(&api, &parts, &parts.headers).await {
        Ok(verified) => show(StatusCode::OK, &back, None, Some(&verified)),
        Err(problem @ Problem::Unauthorized(_)) => {
            // What needs a token says so by being this page.
            let mut response = show(StatusCode::OK, &back, problem.refusal().map(in_words), None);
            problem.mark(&mut response);
            response
        }
        // The page itself needs none, however many were guessed from there.
        Err(problem @ Problem::TooMany(_)) => show(StatusCode::OK, &back, Some(&problem.detail()), None),
        Err(problem) => show(problem.status(), &back, Some(&problem.detail()), None),
    }
}

/// Why a browser has to log in anew, for whoever sits before it.
const fn in_words(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Malformed | Refusal::Unknown => "this browser's token is not known here: log in again",
        Refusal::Expired => "your session has expired: log in again",
        Refusal::Rotated => "this browser sent an old token: reload the page, or log in again",
        Refusal::Ended(EndReason::Revoked) => "your session was revoked: log in again with a new token",
        Refusal::Ended(EndReason::Evicted) => {
            "your session has ended, because this device has too many sessions: log in again"
        }
        Refusal::Ended(EndReason::Replayed) => {
            "your session has ended, because an old copy of its token was used: somebody else may have one"
        }
        Refusal::Ended(EndReason::LoggedOut) => "you have logged out",
        Refusal::Ended(EndReason::Idle) => "your session was unused for too long: log in again",
    }
}

/// Takes a pasted token, and gives it back as a cookie.
pub(super) async fn log_in(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let secure = match ours(&parts) {
        Ok(peer) => peer.secure,
        Err(problem) => return show(problem.status(), "/", Some(&problem.detail()), None),
    };
    let form = match Form::read(Request::from_parts(parts.clone(), body)).await {
        Ok(form) => form,
        Err(problem) => return show(problem.status(), "/", Some(&problem.detail()), None),
    };
    let back = form.get(RETURN).filter(|path| is_local(path)).unwrap_or("/");
    let text = form.get("token").unwrap_or_default().trim();
    match verify(&api, &parts, text).await {
        Ok((token, verified)) => {
            let mut response = go(back);
            let lives = verified.session.expires_at.since(verified.at);
            cookie::give(response.headers_mut(), &api.gate.options().cookie_name, &token.to_text(), lives, secure);
            response
        }
        Err(_) if text.is_empty() => show(StatusCode::BAD_REQUEST, back, Some("paste a token first"), None),
        Err(problem) => show(problem.status(), back, Some(&problem.detail()), None),
    }
}

async fn verify(api: &Api, parts: &Parts, text: &str) -> Result<(Token, Verified), Problem> {
    let peer = peer(&parts.extensions)?;
    let Ok(token) = Token::parse(text) else {
        let problem = api.gate.refused(&api.gate.lockouts().forms, &peer, Refusal::Malformed, None);
        api.gate.metrics().answered(&problem);
        return Err(problem);
    };
    // As a request that carries it and nothing else.
    let mut headers = parts.headers.clone();
    headers.remove(header::COOKIE);
    let bearer = zeroize::Zeroizing::new(format!("Bearer {}", token.to_text().expose()));
    let value = HeaderValue::try_from(bearer.as_str()).map_err(|_| Problem::from(Refusal::Malformed))?;
    headers.insert(header::AUTHORIZATION, value);
    Ok((token, api.gate.admit_form(&peer, &parts.method, &headers).await?.verified))
}

/// Lets a request in as any other.
async fn admit(api: &Api, parts: &Parts, headers: &HeaderMap) -> Result<Verified, Problem> {
    let peer = peer(&parts.extensions)?;
    Ok(api.gate.admit(&peer, &parts.method, headers).await?.verified)
}

/// Ends the session of the cookie, and takes the cookie.
pub(super) async fn log_out(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let secure = match ours(&parts) {
        Ok(peer) => peer.secure,
        Err(problem) => return show(problem.status(), "/", Some(&problem.detail()), None),
    };
    let ended = match admit(&api, &parts, &parts.headers).await {
        Ok(verified) => api.gate.sessions().log_out(&verified.session).await.map_err(|error| error.error.into()),
        Err(problem) => Err(problem),
    };
    let mut response = match ended {
        // There was nothing left to end.
        Ok(_) | Err(Problem::Unauthorized(Refused::Missing)) => go(PATH),
        Err(problem) if problem.refusal().is_some_and(Refusal::is_final) => go(PATH),
        // The session lives on, and so does the token that took this one's place, perhaps in this browser by now.
        Err(problem) if problem.refusal() == Some(Refusal::Rotated) => {
            let text = "the session has a newer token and has not ended: log out again";
            return show(problem.status(), "/", Some(text), None);
        }
        Err(problem) => {
            let text = format!("this browser is logged out, but the session may still exist: {}", problem.detail());
            show(problem.status(), "/", Some(&text), None)
        }
    };
    cookie::clear(response.headers_mut(), &api.gate.options().cookie_name, secure);
    response
}

/// The style of the page.
pub(super) async fn style() -> Response {
    html::file("text/css; charset=utf-8", include_str!("../../static/login.css"))
}

/// Who sent the form, if a page of ours did: a browser says so with every form.
fn ours(parts: &Parts) -> Result<Peer, Problem> {
    let peer = peer(&parts.extensions)?;
    match origin::sender(&parts.headers, peer.host().or_else(|| origin::host(parts)), peer.secure) {
        Sender::Same => Ok(peer),
        Sender::Other | Sender::Person | Sender::Unknown => {
            Err(Problem::Forbidden("the form must be sent from this page: open it and try again".to_owned()))
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
    parameter(query, RETURN).filter(|path| is_local(path)).unwrap_or_else(|| "/".to_owned())
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let found = form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name);
    found.map(|(_, value)| value.into_owned())
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
