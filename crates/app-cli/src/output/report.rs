//! The end of a command: its error, and the exit code.

use std::process::ExitCode;

use tenure_domain::{EndReason, Refusal};

use crate::error::CliError;

/// Prints the error of a command, if there is one, and returns the exit code.
pub(crate) fn report(outcome: Result<(), CliError>) -> ExitCode {
    let Err(failure) = outcome else {
        return ExitCode::SUCCESS;
    };
    if !failure.is_said_already() {
        crate::output::errors(&failure.to_string());
    }
    match &failure {
        CliError::Refused(refusal) => advice(*refusal).into_iter().for_each(crate::output::hint),
        CliError::LookedIn { place, .. } => crate::output::hint(&format!("looked in {place}")),
        _ => {}
    }
    ExitCode::from(failure.code())
}

/// Returns what the owner of a refused token should know, if the refusal alone does not say it.
const fn advice(refusal: Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::Malformed => Some("tenure token inspect shows what is wrong with it"),
        Refusal::Rotated => Some("a newer token has replaced it"),
        Refusal::Ended(EndReason::Replayed) => {
            Some("a replaced token was used again, so the token was copied: the session has ended")
        }
        Refusal::Unknown | Refusal::Expired | Refusal::Ended(_) => None,
    }
}
