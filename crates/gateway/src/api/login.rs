//! The login page, `/_tenure/login`: it exchanges a token for a cookie, and removes the cookie at log-out.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tenure_domain::{EndReason, Refusal, Token};
use tenure_service::Verified;

use super::Api;
use super::login_redirect::{PATH, REASON, RETURN, is_local, see_other};
use crate::endpoint::extract::{Form, peer};
use crate::endpoint::html;
use tenure_tower::csrf::{self, RequestOrigin};
use tenure_tower::lockout::LockoutScope;
use tenure_tower::problem::{Problem, TokenRejection};
use tenure_tower::request::cookie;
use tenure_tower::request::peer::Peer;
use tenure_tower::request::presented_token::PresentedToken;

/// The content security policy: the page's own style, and forms to this host only.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'none'; form-action 'self'; base-uri 'none'; \
                      frame-ancestors 'none'";

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage<'a> {
    /// The path to go to afterwards.
    return_to: &'a str,
    /// The reason why the last attempt failed.
    error: Option<&'a str>,
    /// The session that is logged in.
    session: Option<LoggedIn>,
}

struct LoggedIn {
    id: String,
    device: String,
    subject: String,
    remaining: String,
}

/// Shows the page: a form for a token, or the session that is logged in and a button to log out.
pub(super) async fn page(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let return_to = return_path(parts.uri.query().unwrap_or_default());
    let secure = parts.extensions.get::<Peer>().is_some_and(|peer| peer.secure);
    if !matches!(PresentedToken::of(&parts.headers, &api.gateway.options().cookie_name, secure), Ok(Some(_))) {
        // The cookie has been removed, but the page that sent the browser here has judged its token.
        let refusal = parameter(parts.uri.query().unwrap_or_default(), REASON).and_then(|code| code.parse().ok());
        return show(StatusCode::OK, &return_to, refusal.map(explanation), None);
    }
    match admit(&api, &parts, &parts.headers).await {
        Ok(verified) => show(StatusCode::OK, &return_to, None, Some(&verified)),
        Err(problem @ Problem::Unauthorized(_)) => {
            // A page that needs a token says so by showing this page.
            let mut response = show(StatusCode::OK, &return_to, problem.refusal().map(explanation), None);
            problem.mark_response(&mut response);
            response
        }
        // This page needs no token, so it is shown however many guesses came from the address.
        Err(problem @ Problem::TooMany(_)) => show(StatusCode::OK, &return_to, Some(&problem.detail()), None),
        Err(problem) => show(problem.status(), &return_to, Some(&problem.detail()), None),
    }
}

/// Returns the reason why the browser has to log in again, in words for a person.
const fn explanation(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::Malformed | Refusal::Unknown => "this browser's token is not known here: log in again",
        Refusal::Expired => "your session has expired: log in again",
        Refusal::Rotated => "this browser sent an old token: reload the page, or log in again",
        Refusal::Ended(EndReason::Revoked) => "your session was revoked: log in again with a new token",
        Refusal::Ended(EndReason::Evicted) => {
            "your session has ended, because this device has too many sessions: log in again"
        }
        Refusal::Ended(EndReason::Replayed) => {
            "your session has ended, because an old copy of its token was used: it may have been stolen"
        }
        Refusal::Ended(EndReason::LoggedOut) => "you have logged out",
        Refusal::Ended(EndReason::Idle) => "your session was unused for too long: log in again",
    }
}

/// Sets a pasted token as the browser's cookie.
pub(super) async fn log_in(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let secure = match own_form(&parts) {
        Ok(peer) => peer.secure,
        Err(problem) => return show(problem.status(), "/", Some(&problem.detail()), None),
    };
    let form = match Form::read(Request::from_parts(parts.clone(), body)).await {
        Ok(form) => form,
        Err(problem) => return show(problem.status(), "/", Some(&problem.detail()), None),
    };
    let return_to = form.get(RETURN).filter(|path| is_local(path)).unwrap_or("/");
    let text = form.get("token").unwrap_or_default().trim();
    match verify(&api, &parts, text).await {
        Ok((token, verified)) => {
            let mut response = see_other_path(return_to);
            let valid_for = verified.session.expires_at.since(verified.at);
            cookie::set_token(
                response.headers_mut(),
                &api.gateway.options().cookie_name,
                &token.to_text(),
                valid_for,
                secure,
            );
            response
        }
        Err(_) if text.is_empty() => show(StatusCode::BAD_REQUEST, return_to, Some("paste a token first"), None),
        Err(problem) => show(problem.status(), return_to, Some(&problem.detail()), None),
    }
}

async fn verify(api: &Api, parts: &Parts, text: &str) -> Result<(Token, Verified), Problem> {
    let peer = peer(&parts.extensions)?;
    let Ok(token) = Token::parse(text) else {
        let problem = api.gateway.enforcer().count_refusal(LockoutScope::LoginForm, &peer, Refusal::Malformed, None);
        api.gateway.enforcer().record_problem(&problem);
        return Err(problem);
    };
    // The token is verified as if a request had presented it alone.
    let mut headers = parts.headers.clone();
    headers.remove(header::COOKIE);
    let bearer = zeroize::Zeroizing::new(format!("Bearer {}", token.to_text().expose()));
    let value = HeaderValue::try_from(bearer.as_str()).map_err(|_| Problem::from(Refusal::Malformed))?;
    headers.insert(header::AUTHORIZATION, value);
    let enforcer = api.gateway.enforcer();
    let admitted = enforcer.require_session(LockoutScope::LoginForm, &peer, &parts.method, &headers).await?;
    Ok((token, admitted.verified))
}

/// Admits the request like any other.
async fn admit(api: &Api, parts: &Parts, headers: &HeaderMap) -> Result<Verified, Problem> {
    let peer = peer(&parts.extensions)?;
    let enforcer = api.gateway.enforcer();
    Ok(enforcer.require_session(LockoutScope::Tokens, &peer, &parts.method, headers).await?.verified)
}

/// Ends the session of the cookie, and removes the cookie.
pub(super) async fn log_out(State(api): State<Arc<Api>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let secure = match own_form(&parts) {
        Ok(peer) => peer.secure,
        Err(problem) => return show(problem.status(), "/", Some(&problem.detail()), None),
    };
    let ended = match admit(&api, &parts, &parts.headers).await {
        Ok(verified) => api.gateway.sessions().log_out(&verified.session).await.map_err(|error| error.error.into()),
        Err(problem) => Err(problem),
    };
    let mut response = match ended {
        // The session had already ended.
        Ok(_) | Err(Problem::Unauthorized(TokenRejection::Missing)) => see_other_path(PATH),
        Err(problem) if problem.refusal().is_some_and(Refusal::is_final) => see_other_path(PATH),
        // The session continues, and so does the token that replaced this one, which this browser may already have.
        Err(problem) if problem.refusal() == Some(Refusal::Rotated) => {
            let text = "the session has a newer token and has not ended: log out again";
            return show(problem.status(), "/", Some(text), None);
        }
        Err(problem) => {
            let text = format!("this browser is logged out, but the session may still exist: {}", problem.detail());
            show(problem.status(), "/", Some(&text), None)
        }
    };
    cookie::clear(response.headers_mut(), &api.gateway.options().cookie_name, secure);
    response
}

/// The style of the page.
pub(super) async fn style() -> Response {
    html::text_file("text/css; charset=utf-8", include_str!("../../static/login.css"))
}

/// Returns the client that sent the form, if a page of this host did: a browser sends its origin with every form.
fn own_form(parts: &Parts) -> Result<Peer, Problem> {
    let peer = peer(&parts.extensions)?;
    match csrf::request_origin(&parts.headers, peer.host().or_else(|| csrf::host(parts)), peer.secure) {
        RequestOrigin::SameOrigin => Ok(peer),
        RequestOrigin::CrossOrigin | RequestOrigin::UserInitiated | RequestOrigin::Unknown => {
            Err(Problem::Forbidden("the form must be sent from this page: open it and try again".to_owned()))
        }
    }
}

fn show(status: StatusCode, return_to: &str, error: Option<&str>, verified: Option<&Verified>) -> Response {
    let session = verified.map(|verified| LoggedIn {
        id: verified.session.id.to_string(),
        device: verified.session.device.to_string(),
        subject: verified.session.subject.to_string(),
        remaining: verified.session.remaining(verified.at).to_string(),
    });
    html::page(status, &LoginPage { return_to, error, session }, POLICY)
}

/// Redirects to a path of this host, which was checked, with the method `GET`.
fn see_other_path(path: &str) -> Response {
    see_other(HeaderValue::try_from(path).unwrap_or_else(|_| HeaderValue::from_static("/")))
}

/// Returns the parameter `return` of a query if it is a path of this host.
fn return_path(query: &str) -> String {
    parameter(query, RETURN).filter(|path| is_local(path)).unwrap_or_else(|| "/".to_owned())
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let found = form_urlencoded::parse(query.as_bytes()).find(|(known, _)| known == name);
    found.map(|(_, value)| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_path_that_is_not_local_is_the_root() {
        assert_eq!(return_path("x=1&return=%2Fa%3Fb"), "/a?b");
        assert_eq!(return_path("return=%2F%2Fevil.test"), "/");
        assert_eq!(return_path(""), "/");
    }
}
