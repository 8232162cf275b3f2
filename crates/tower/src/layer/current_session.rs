//! The session of a request, as a service behind the layer reads it.

use std::sync::Arc;

use tenure_domain::Session;

/// The session of a request that [`TenureLayer`](crate::TenureLayer) let through: one of the request's extensions. A
/// request for a public path has none.
///
/// With the feature `axum` it is an extractor. `Option<CurrentSession>` is `None` on public paths.
#[derive(Clone, Debug)]
pub struct CurrentSession(Arc<Session>);

impl CurrentSession {
    pub(crate) fn new(session: Session) -> Self {
        Self(Arc::new(session))
    }

    /// Returns the session as it was when the request began.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.0
    }
}

#[cfg(feature = "axum")]
mod extractors {
    use std::convert::Infallible;

    use axum::extract::{FromRequestParts, OptionalFromRequestParts};
    use http::request::Parts;

    use super::CurrentSession;
    use crate::problem::{Problem, TokenRejection};

    impl<S: Sync> FromRequestParts<S> for CurrentSession {
        type Rejection = Problem;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
            parts.extensions.get::<Self>().cloned().ok_or(Problem::Unauthorized(TokenRejection::Missing))
        }
    }

    impl<S: Sync> OptionalFromRequestParts<S> for CurrentSession {
        type Rejection = Infallible;

        async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
            Ok(parts.extensions.get::<Self>().cloned())
        }
    }
}
