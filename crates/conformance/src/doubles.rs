//! Doubles for the clock and the random source.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tenure_domain::{Millis, Timestamp};
use tenure_ports::{Clock, RandomSource, RandomSourceError};

/// The time at which the test clocks start: 2025-11-24T16:00:00Z.
pub const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

/// A clock that stands still until it is moved.
#[derive(Debug)]
pub struct TestClock {
    passed: AtomicU64,
}

impl TestClock {
    /// Makes a clock that stands at [`START`].
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { passed: AtomicU64::new(0) })
    }

    /// Makes a clock that stands at this instant.
    #[must_use]
    pub fn at(start: Timestamp) -> Arc<Self> {
        let clock = Self::new();
        clock.pass_to(start);
        clock
    }

    /// Returns how much time has passed since [`START`].
    #[must_use]
    pub fn elapsed(&self) -> Millis {
        Millis::new(self.passed.load(Ordering::SeqCst))
    }

    /// Moves the clock forward by this span.
    pub fn pass(&self, span: Millis) {
        self.passed.fetch_add(span.get(), Ordering::SeqCst);
    }

    /// Moves the clock forward to `at`. A clock that is past `at` stays where it is.
    pub fn pass_to(&self, at: Timestamp) {
        self.passed.fetch_max(at.since(START).get(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        START.plus(self.elapsed())
    }
}

/// A random source for tests: the same seed gives the same bytes, so they are not secret.
#[derive(Debug)]
pub struct SeededRandom(AtomicU64);

impl SeededRandom {
    /// Makes the source of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// Returns the next number (splitmix64).
    pub fn number(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns the next `N` bytes.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.write(&mut bytes);
        bytes
    }

    fn write(&self, buffer: &mut [u8]) {
        for part in buffer.chunks_mut(8) {
            part.copy_from_slice(&self.number().to_le_bytes()[..part.len()]);
        }
    }
}

impl RandomSource for SeededRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomSourceError> {
        self.write(buffer);
        Ok(())
    }
}

/// A clock that advances by a second each time it is read, so that no two decisions share an instant.
#[derive(Debug)]
pub struct TickingClock(AtomicU64);

impl TickingClock {
    /// Makes a clock that shows [`START`] first.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(START.as_millis())))
    }
}

impl Clock for TickingClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.fetch_add(1_000, Ordering::SeqCst))
    }
}

/// A clock that starts at [`START`] and follows the time of the tokio runtime, which tests can pause and advance
/// (`tokio::time::pause`).
#[derive(Debug)]
pub struct RuntimeClock(tokio::time::Instant);

impl RuntimeClock {
    /// Makes a clock that shows [`START`] now. Must be called within a tokio runtime.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self(tokio::time::Instant::now()))
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Timestamp {
        START.plus(Millis::new(self.0.elapsed().as_millis() as u64))
    }
}

/// A random source that always fails.
#[derive(Clone, Copy, Debug)]
pub struct FailingRandom;

impl RandomSource for FailingRandom {
    fn fill(&self, _buffer: &mut [u8]) -> Result<(), RandomSourceError> {
        Err(RandomSourceError::new("made to fail"))
    }
}
