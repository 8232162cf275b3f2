//! A browser's token, renewed on the way: it cannot do that itself, since no script of its pages sees the cookie.

use std::sync::Arc;

use http::HeaderMap;
use tenure_domain::SessionId;
use tenure_service::RotateError;

use crate::cookie;
use crate::credential::Credential;
use crate::enforce::Gate;

/// Rotates a due token that came in a cookie, and gives the new one with the answer. Of several requests at once one
/// does so; the others were let in already and change nothing. What still travels with the old cookie is refused, or
/// taken for `session.rotation_overlap`; shown later than `session.replay_tolerance` after that, it ends the session.
pub(crate) async fn renew(
    gate: &Arc<Gate>,
    session: SessionId,
    credential: &Credential,
    secure: bool,
    headers: &mut HeaderMap,
) {
    let (true, Some(token)) = (credential.from_cookie, credential.token.clone()) else { return };
    // Goes on if the client leaves, so that no store is left in the middle of a change.
    let rotating = {
        let gate = gate.clone();
        gate.tasks().clone().spawn(async move { gate.sessions().rotate(&token).await })
    };
    let rotated = match rotating.await {
        Ok(Ok(rotated)) => rotated,
        // Made, perhaps: the browser is better off with a token that may hold than with one that may not.
        Ok(Err(RotateError::Write(unacknowledged))) if unacknowledged.intended.is_some() => {
            tracing::warn!(error = %unacknowledged.error, "the outcome of a cookie's rotation is uncertain");
            match unacknowledged.intended {
                Some(rotated) => *rotated,
                None => return,
            }
        }
        Ok(Err(error)) => {
            tracing::debug!(%session, %error, "a due cookie was not rotated");
            return;
        }
        Err(error) => {
            tracing::error!(%error, "rotating a cookie failed");
            return;
        }
    };
    let lives = rotated.session.expires_at.since(gate.sessions().now());
    cookie::give(headers, &gate.options().cookie_name, &rotated.token.to_text(), lives, secure);
    // Nobody keeps an answer that carries a token.
    headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
}
