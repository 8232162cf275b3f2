//! The reasons why there is no response to pass on, and the problems that the client gets.

use std::io;

use super::upstream;
use tenure_tower::{CloseReason, Problem};

/// The reason why there is no response to pass on.
pub(super) enum NoResponse {
    /// The request failed.
    Failed(hyper_util::client::legacy::Error),
    /// The response is no longer waited for.
    Ended(Problem),
}

impl From<Problem> for NoResponse {
    fn from(problem: Problem) -> Self {
        Self::Ended(problem)
    }
}

impl From<NoResponse> for Problem {
    fn from(none: NoResponse) -> Self {
        match none {
            NoResponse::Failed(error) => failure_problem(&error),
            NoResponse::Ended(problem) => problem,
        }
    }
}

/// Returns the problem for a client whose session ended before the response. `None` if the response may still come.
pub(super) fn close_problem(reason: CloseReason) -> Option<Problem> {
    match reason {
        CloseReason::Ended(refusal) => Some(refusal.into()),
        CloseReason::StoreLost => {
            Some(Problem::Store("the sessions cannot be read at the moment: try again".to_owned()))
        }
        // Requests in progress may end.
        CloseReason::Shutdown => None,
    }
}

pub(super) fn timeout_problem(pieces: Option<u64>) -> Problem {
    match pieces {
        None => Problem::GatewayTimeout("the upstream did not answer in time".to_owned()),
        Some(_) => Problem::BadRequest("the request body did not arrive, or was not accepted, in time".to_owned()),
    }
}

pub(super) fn failure_problem(error: &hyper_util::client::legacy::Error) -> Problem {
    // The body that hyper reads comes from the client, so this error is the client's.
    if upstream::cause(error).is_some_and(hyper::Error::is_user) {
        return Problem::BadRequest("the request body was cut off, or is framed wrongly".to_owned());
    }
    if error.is_connect() {
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return connect_problem(error);
            }
            cause = error.source();
        }
    }
    let cause = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(%error, cause, "the upstream gave no answer");
    Problem::BadGateway("the upstream closed the connection without a response".to_owned())
}

pub(super) fn connect_problem(error: &io::Error) -> Problem {
    tracing::warn!(%error, "the upstream cannot be reached");
    if error.kind() == io::ErrorKind::TimedOut {
        Problem::GatewayTimeout("the upstream cannot be reached in time".to_owned())
    } else {
        Problem::BadGateway("the upstream cannot be reached".to_owned())
    }
}
