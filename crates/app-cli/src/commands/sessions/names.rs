//! Names where a session's id is wanted: people know their devices by heart, and no id.

use tenure_domain::{DeviceId, Filter, IdPrefix, Scope, SessionId, SortKey, Subject};
use tenure_service::{ResolveError, Sessions};

use crate::error::CliError;

/// Refuses what cannot be the start of an id.
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

/// The session that the start of an id stands for.
///
/// # Errors
/// [`CliError`]; where a device or a subject has that name, it says so.
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
