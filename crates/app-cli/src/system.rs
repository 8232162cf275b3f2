//! The operating system behind the ports: its clock and its randomness.

use std::time::{SystemTime, UNIX_EPOCH};

use tenure_domain::Timestamp;
use tenure_ports::{Clock, RandomSource, RandomSourceError};

/// The wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the implementation of the Clock port")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The system's random source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SystemRandom;

impl RandomSource for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "this is the implementation of the random source port")]
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomSourceError> {
        getrandom::fill(buffer).map_err(|error| RandomSourceError(error.to_string()))
    }
}
