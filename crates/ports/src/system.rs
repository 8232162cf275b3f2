//! The operating system's clock and random source.

use std::time::{SystemTime, UNIX_EPOCH};

use tenure_domain::Timestamp;

use crate::{Clock, ErrorSource, RandomSource, RandomSourceError};

/// The wall clock of this machine. A store may have a clock of its own, which is then the one to use: see
/// [`Backend::clock`](crate::Backend::clock).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the implementation of the Clock port")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The random source of the operating system (`getrandom`).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl RandomSource for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "this is the implementation of the RandomSource port")]
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomSourceError> {
        getrandom::fill(buffer)
            .map_err(|error| RandomSourceError::new(error.to_string()).with_source(ErrorSource::new(error)))
    }
}
