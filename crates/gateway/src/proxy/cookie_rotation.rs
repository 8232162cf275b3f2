//! A browser's token, renewed on the way: it cannot do that itself, since no script of its pages sees the cookie.

use std::sync::Arc;

use http::HeaderMap;
use tenure_domain::SessionId;
use tenure_service::RotateError;

use crate::gateway::Gateway;
use tenure_tower::request::cookie;
use tenure_tower::request::presented_token::PresentedToken;

/// Rotates a due token that came in a cookie, and gives the new one with the answer. Of several requests at once one
/// does so; the others were let in already and change nothing. What still travels with the old cookie is refused, or
/// taken for `session.rotation_overlap`; shown later than `session.replay_tolerance` after that, it ends the session.
pub(crate) async fn rotate_due_cookie(
    gateway: &Gateway,
    session: SessionId,
    presented: &PresentedToken,
    secure: bool,
    headers: &mut HeaderMap,
) {
    let (true, Some(token)) = (presented.from_cookie, presented.token.clone()) else { return };
    // Goes on if the client leaves, so that no store is left in the middle of a change.
    let rotating = {
        let sessions = Arc::clone(gateway.sessions());
        gateway.enforcer().tasks().spawn(async move { sessions.rotate(&token).await })
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
    let valid_for = rotated.session.expires_at.since(gateway.sessions().now());
    cookie::set_token(headers, &gateway.options().cookie_name, &rotated.token.to_text(), valid_for, secure);
    // Nobody keeps an answer that carries a token.
    headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
}
