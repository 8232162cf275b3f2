//! The limit on how often one session may ask for answers that need a walk through sessions.

use std::num::NonZeroU32;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use tenure_domain::SessionId;

use tenure_tower::problem::Problem;

/// The most calls at once.
const BURST: NonZeroU32 = NonZeroU32::new(20).expect("20 is not 0");
/// The most calls per second on average.
const RATE: NonZeroU32 = NonZeroU32::new(1).expect("1 is not 0");
/// The number of sessions from which on the ones that may call at full speed again are dropped.
const MAX_REMEMBERED: usize = 10_000;

/// A rate limit per session.
pub(super) struct RateLimit {
    limiter: DefaultKeyedRateLimiter<SessionId>,
}

impl RateLimit {
    pub(super) fn new() -> Self {
        Self { limiter: RateLimiter::keyed(Quota::per_second(RATE).allow_burst(BURST)) }
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// [`Problem::TooMany`] with the seconds to wait.
    pub(super) fn check(&self, session: SessionId) -> Result<(), Problem> {
        if self.limiter.len() > MAX_REMEMBERED {
            self.limiter.retain_recent();
        }
        self.limiter.check_key(&session).map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            Problem::TooMany(wait.as_secs() + 1)
        })
    }
}
