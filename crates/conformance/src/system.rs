//! The machine's own clock and random source, for experiments against real processes.

use std::time::{SystemTime, UNIX_EPOCH};

use tenure_domain::Timestamp;
use tenure_ports::{Clock, RandomSource, RandomSourceError};

/// The wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is a Clock: the one thing that may read the wall clock")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// The operating system's random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl RandomSource for SystemRandom {
    #[expect(clippy::disallowed_methods, reason = "this is an Entropy: the one thing that may draw randomness")]
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomSourceError> {
        getrandom::fill(buffer).map_err(|error| RandomSourceError(error.to_string()))
    }
}
