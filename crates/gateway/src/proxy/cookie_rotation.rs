//! Rotation of a browser's token by the proxy. A page cannot rotate it, because its scripts cannot read the cookie.

use std::sync::Arc;

use http::HeaderMap;
use tenure_domain::SessionId;
use tenure_service::RotateError;

use crate::gateway::Gateway;
use tenure_tower::request::cookie;
use tenure_tower::request::presented_token::PresentedToken;

/// Rotates a token that is due and came in a cookie, and sets the new one with the response. Of several requests at
/// once, one rotates the token; the others were let in already and change nothing. A request that still carries the old
/// cookie is refused, or accepted during `session.rotation_overlap`. If the old cookie is used later than
/// `session.replay_tolerance` after that, the session ends.
pub(crate) async fn rotate_due_cookie(
    gateway: &Gateway,
    session: SessionId,
    presented: &PresentedToken,
    secure: bool,
    headers: &mut HeaderMap,
) {
    let (true, Some(token)) = (presented.from_cookie, presented.token.clone()) else { return };
    // The task continues if the client leaves, so that the change is not cancelled halfway.
    let rotating = {
        let sessions = Arc::clone(gateway.sessions());
        gateway.enforcer().tasks().spawn(async move { sessions.rotate(&token).await })
    };
    let rotated = match rotating.await {
        Ok(Ok(rotated)) => rotated,
        // The rotation may have been made: a token that may be valid is better for the browser than one that may not
        // be.
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
    // A response that carries a token is not cached.
    headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
}
