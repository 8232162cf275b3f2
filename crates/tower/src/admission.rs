//! Admission: the one path on which a request gets in. The proxy, the tower layer, forward authentication, the
//! gateway's own API and its login form all use it.
//!
//! public path? ─> find the presented token ─> CSRF check ─> verify ─> count a guess, or record where the session is used

pub(crate) mod admit;
pub mod forward_auth;

use std::time::Instant;

use http::header::COOKIE;
use http::{HeaderMap, Method, Uri};
use tenure_domain::Refusal;
use tenure_service::{ActivityMode, Verified};

use crate::config::EnforcementConfig;
use crate::csrf;
use crate::enforcer::Enforcer;
use crate::lockout::LockoutScope;
use crate::observer::Outcome;
use crate::problem::{Problem, TokenRejection};
use crate::request::peer::Peer;
use crate::request::presented_token::{PresentedToken, PresentedTokenError};
use forward_auth::AppendedTarget;

/// A request for admission.
pub struct AdmissionRequest<'a> {
    /// The settings in force.
    pub config: &'a EnforcementConfig,
    /// The client. If it is invalid, only requests that need a token are refused.
    pub peer: Result<&'a Peer, &'a Problem>,
    /// The method that the client used.
    pub method: &'a Method,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The target that tells whether the request needs a token.
    pub target: RequestTarget<'a>,
    /// Whether a request without a token may present it later, in the WebSocket that it opens.
    pub may_defer: bool,
}

/// The source of a request's target.
#[derive(Clone, Copy)]
pub enum RequestTarget<'a> {
    /// The request's own target.
    Own(&'a Uri),
    /// The target that another proxy names in header fields, or appends to its own path.
    Forwarded(Option<AppendedTarget<'a>>),
}

/// The way in which a request got in.
#[expect(clippy::large_enum_variant, reason = "it is matched at once: a box would cost each request an allocation")]
#[derive(Debug)]
pub enum Admission {
    /// The request's path needs no token.
    Public,
    /// The request's token is valid.
    Session(Admitted),
    /// The request presents its token later, in the WebSocket that it opens.
    Deferred,
}

/// A request whose token is valid.
#[derive(Debug)]
pub struct Admitted {
    /// The session, and what else the verification found.
    pub verified: Verified,
    /// The token as it was presented.
    pub presented: PresentedToken,
}

type Presented = Result<Option<PresentedToken>, PresentedTokenError>;

impl AdmissionRequest<'_> {
    fn is_public(&self) -> bool {
        self.config.may_be_public(self.headers)
            && match self.target {
                RequestTarget::Own(uri) => self.config.is_public_uri(uri),
                RequestTarget::Forwarded(appended) => forward_auth::is_public(self.headers, appended, self.config),
            }
    }
}

impl Enforcer {
    /// Decides whether a request gets in.
    ///
    /// # Errors
    /// [`Problem`], as [`Enforcer::require_session`].
    pub async fn admit(&self, request: AdmissionRequest<'_>) -> Result<Admission, Problem> {
        let AdmissionRequest { config, method, headers, .. } = request;
        if request.is_public() {
            if matches!(request.target, RequestTarget::Own(_)) {
                self.observer().on_request(Outcome::Public);
            }
            return Ok(Admission::Public);
        }
        let peer = request.peer.map_err(Clone::clone)?;
        let start = Instant::now();
        let presented = PresentedToken::of(headers, &config.cookie_name, peer.secure);
        if request.may_defer && matches!(presented, Ok(None)) {
            return Ok(Admission::Deferred);
        }
        let admitted = self.admit_presented(start, presented, LockoutScope::Tokens, peer, method, headers).await?;
        Ok(Admission::Session(admitted))
    }

    /// Lets a request in if its token is valid. A cookie is not accepted for a change that another site may have
    /// requested. A guess counts against the client's address in this scope. The session records where it is used from.
    ///
    /// # Errors
    /// [`Problem`]. After too many guesses it is 429 instead of 401, but not for a person who asks for a page, and not
    /// for a token that once belonged to a session. A valid token is always let in.
    pub async fn require_session(
        &self,
        scope: LockoutScope,
        peer: &Peer,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Admitted, Problem> {
        let start = Instant::now();
        let presented = PresentedToken::of(headers, &self.config().cookie_name, peer.secure);
        self.admit_presented(start, presented, scope, peer, method, headers).await
    }

    /// Verifies the token that a request presents. This counts as use of its session. `secure` says whether the client
    /// came over TLS, which decides which cookie counts. It neither checks for cross-site requests nor counts guesses.
    ///
    /// # Errors
    /// [`Problem`].
    pub async fn authenticate(&self, headers: &HeaderMap, secure: bool) -> Result<(Verified, PresentedToken), Problem> {
        let start = Instant::now();
        let presented = PresentedToken::of(headers, &self.config().cookie_name, secure);
        let outcome = self.verify_presented(&presented, |_| Ok(())).await;
        self.observer().on_verification(start.elapsed());
        match &outcome {
            Ok(_) => self.record_outcome(Outcome::Admitted),
            Err(problem) => self.record_problem(problem),
        }
        match (outcome?, presented) {
            (verified, Ok(Some(presented))) => Ok((verified, presented)),
            (_, Ok(None) | Err(_)) => Err(Problem::Unauthorized(TokenRejection::Missing)),
        }
    }

    async fn admit_presented(
        &self,
        start: Instant,
        presented: Presented,
        scope: LockoutScope,
        peer: &Peer,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Admitted, Problem> {
        let check = |presented: &PresentedToken| match presented.from_cookie && csrf::may_change_state(method, headers)
        {
            true => csrf::check(headers, peer.host(), peer.secure),
            false => Ok(()),
        };
        let outcome = self.verify_presented(&presented, check).await;
        self.observer().on_verification(start.elapsed());
        let outcome = match (outcome, presented) {
            (Ok(verified), Ok(Some(presented))) => {
                self.client_recorder().record_if_changed(&verified.session, peer, headers);
                Ok(Admitted { verified, presented })
            }
            (Ok(_), Ok(None) | Err(_)) => Err(Problem::Unauthorized(TokenRejection::Missing)),
            (Err(problem), presented) => Err(self.count_guess(problem, &presented, scope, peer, method, headers)),
        };
        match &outcome {
            Ok(_) => self.record_outcome(Outcome::Admitted),
            Err(problem) => self.record_problem(problem),
        }
        outcome
    }

    async fn verify_presented(
        &self,
        presented: &Presented,
        check: impl FnOnce(&PresentedToken) -> Result<(), Problem>,
    ) -> Result<Verified, Problem> {
        let presented = presented.as_ref().map_err(|error| Problem::BadRequest(error.to_string()))?;
        let presented = presented.as_ref().ok_or(Problem::Unauthorized(TokenRejection::Missing))?;
        check(presented)?;
        let token = presented.token.as_ref().ok_or(Problem::from(Refusal::Malformed))?;
        let verified = self.sessions().verify(token, ActivityMode::Record).await;
        verified.map_err(|error| Problem::from(error).with_cookie(presented.in_cookie))
    }

    /// Counts a refused token that may be a guess, and returns the problem that its client gets.
    fn count_guess(
        &self,
        problem: Problem,
        presented: &Presented,
        scope: LockoutScope,
        peer: &Peer,
        method: &Method,
        headers: &HeaderMap,
    ) -> Problem {
        let Some(refusal) = problem.refusal() else { return problem };
        let fingerprint = presented.as_ref().ok().and_then(Option::as_ref);
        let fingerprint = fingerprint.and_then(|presented| self.fingerprint(presented, headers));
        let answer = self.count_refusal(scope, peer, refusal, fingerprint);
        // For a person, the login page says in words what happened.
        if csrf::is_navigation(method, headers) || !matches!(answer, Problem::TooMany(_)) {
            return problem;
        }
        self.observer().on_refusal(refusal);
        answer
    }

    /// Returns a fingerprint of a refused token that a browser sends by itself. A tab that keeps asking with the cookie
    /// of a session that is long gone must not count as a new guess each time.
    fn fingerprint(&self, presented: &PresentedToken, headers: &HeaderMap) -> Option<u32> {
        if !presented.from_cookie {
            return None;
        }
        Some(match &presented.token {
            Some(token) => self.lockouts().fingerprint(token.to_text().expose().as_bytes()),
            None => self.lockouts().fingerprint(headers.get(COOKIE)?.as_bytes()),
        })
    }
}
