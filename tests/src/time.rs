//! A time that tests move and randomness that they can repeat.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tenure_adapter_json::Boot;
use tenure_domain::{Millis, Timestamp};
use tenure_ports::{Clock, RandomSource, RandomSourceError};

/// Where every test's time begins: some day in 2025.
pub const START: Timestamp = Timestamp::from_millis(1_764_000_000_000);

/// One time for the wall and the machine; it stands still until it is moved.
#[derive(Debug)]
pub struct TestTime {
    passed: AtomicU64,
}

impl TestTime {
    /// A time that stands at [`START`].
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { passed: AtomicU64::new(0) })
    }

    /// Lets time pass.
    pub fn pass(&self, span: Millis) {
        self.passed.fetch_add(span.get(), Ordering::SeqCst);
    }

    /// Lets time pass until it is `at`; never goes back.
    pub fn pass_to(&self, at: Timestamp) {
        self.passed.fetch_max(at.since(START).get(), Ordering::SeqCst);
    }
}

impl Clock for TestTime {
    fn now(&self) -> Timestamp {
        START.plus(Millis::new(self.passed.load(Ordering::SeqCst)))
    }
}

impl Boot for TestTime {
    fn id(&self) -> String {
        "testboot".to_owned()
    }

    fn uptime(&self) -> Millis {
        Millis::new(3_600_000 + self.passed.load(Ordering::SeqCst))
    }
}

/// Numbers as good as random where nobody guesses, and the same for the same seed.
#[derive(Debug)]
pub struct SeededEntropy(AtomicU64);

impl SeededEntropy {
    /// The numbers of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }

    /// The next number (splitmix64).
    pub fn number(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// So many bytes.
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

impl RandomSource for SeededEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomSourceError> {
        self.write(buffer);
        Ok(())
    }
}
