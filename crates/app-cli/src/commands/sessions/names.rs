//! Session ids as people type them: prefixes, and devices or subjects by mistake, since people do not remember ids.

use tenure_domain::{DeviceId, Filter, IdPrefix, Scope, SessionId, SortKey, Subject};
use tenure_service::{ResolveError, Sessions};

use crate::error::CliError;

/// Refuses a text that cannot be the start of a session id.
///
/// # Errors
/// [`CliError::Usage`].
pub(super) fn checked(start: &str) -> Result<(), CliError> {
    start.parse::<IdPrefix>().map(drop).map_err(|error| {
        CliError::Usage(format!(
            "{error}; if you mean a device or a subject, use --device-id {start} or --subject {start} (tenure \
             sessions list and revoke take them)"
        ))
    })
}

/// Finds the session whose id starts with a text.
///
/// # Errors
/// [`CliError`]. If there is a device or a subject with this name, it says so.
pub(super) async fn resolved(start: &str, sessions: &Sessions) -> Result<SessionId, CliError> {
    match sessions.resolve(start).await {
        Err(ResolveError::NoSuchSession(_)) => Err(no_such(start, sessions).await?),
        outcome => Ok(outcome?),
    }
}

async fn no_such(start: &str, sessions: &Sessions) -> Result<CliError, CliError> {
    let by = |device, subject| Filter { device, subject, scope: Scope::Retained };
    let names = [
        (DeviceId::new(start).map(|device| by(Some(device), None)), "device", "--device-id"),
        (Subject::new(start).map(|subject| by(None, Some(subject))), "subject", "--subject"),
    ];
    for (filter, kind, flag) in names {
        if let Ok(filter) = filter
            && !sessions.list(&filter, SortKey::Created, 1).await?.is_empty()
        {
            return Ok(CliError::NoSuchSession(format!(
                "{start}; it is a {kind}: use {flag} {start} (tenure sessions list and revoke take it)"
            )));
        }
    }
    Ok(CliError::NoSuchSession(format!("{start} (tenure sessions list --all shows all sessions)")))
}
