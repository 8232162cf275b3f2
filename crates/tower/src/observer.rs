//! Observers: what enforcement tells a program that counts and measures.

use std::time::Duration;

use tenure_domain::Refusal;

use crate::problem::{Problem, TokenRejection};

/// Receives counts and times from an [`Enforcer`](crate::Enforcer), for example to export them as metrics.
///
/// Called on the path of every request, so a method must return at once. Nothing that it receives was chosen by a
/// client: no token, session, device or path. A method that an observer does not implement does nothing.
pub trait Observer: Send + Sync + 'static {
    /// Receives the outcome of a request.
    fn on_request(&self, outcome: Outcome) {
        let _ = outcome;
    }

    /// Receives the reason why a token was refused.
    fn on_refusal(&self, refusal: Refusal) {
        let _ = refusal;
    }

    /// Receives how long the verification of one token took, the look-up in the store included.
    fn on_verification(&self, took: Duration) {
        let _ = took;
    }

    /// Receives one failure of the store: sessions could not be read or changed.
    fn on_store_failure(&self) {}

    /// Receives how many sessions' activity was written to the store, about once a second.
    fn on_flush(&self, sessions: usize) {
        let _ = sessions;
    }
}

/// The observer that ignores everything.
impl Observer for () {}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request's token is valid.
    Admitted,
    /// The request's path needs no token.
    Public,
    /// The request had no token and needed one.
    NoToken,
    /// The request's token was refused.
    Refused,
    /// The client made too many failed attempts or too many calls.
    Limited,
    /// The request was invalid or forbidden.
    Rejected,
    /// The sessions could not be read.
    StoreDown,
    /// The upstream did not answer, or answered nonsense.
    UpstreamFailed,
    /// The request failed for a reason within the server.
    Failed,
}

impl Outcome {
    /// Returns every outcome, in the order of the variants.
    pub const ALL: [Self; 9] = [
        Self::Admitted,
        Self::Public,
        Self::NoToken,
        Self::Refused,
        Self::Limited,
        Self::Rejected,
        Self::StoreDown,
        Self::UpstreamFailed,
        Self::Failed,
    ];

    const fn of(problem: &Problem) -> Self {
        match problem {
            Problem::Unauthorized(TokenRejection::Missing) => Self::NoToken,
            Problem::Unauthorized(TokenRejection::Token(_) | TokenRejection::Cookie(_)) | Problem::Secret => {
                Self::Refused
            }
            Problem::TooMany(_) => Self::Limited,
            Problem::BadRequest(_)
            | Problem::Forbidden(_)
            | Problem::NotFound(_)
            | Problem::MethodNotAllowed
            | Problem::Conflict(_)
            | Problem::MediaType(_)
            | Problem::TooLarge(_) => Self::Rejected,
            Problem::Store(_) => Self::StoreDown,
            Problem::BadGateway(_) | Problem::GatewayTimeout(_) => Self::UpstreamFailed,
            Problem::Uncertain(_) | Problem::Internal(_) => Self::Failed,
        }
    }
}

/// Tells an observer of a request that is answered with a problem.
pub(crate) fn observe_problem(observer: &dyn Observer, problem: &Problem) {
    observer.on_request(Outcome::of(problem));
    if let Some(refusal) = problem.refusal() {
        observer.on_refusal(refusal);
    }
    if matches!(problem, Problem::Store(_) | Problem::Uncertain(_)) {
        observer.on_store_failure();
    }
}
