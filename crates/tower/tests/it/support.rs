//! Sessions in memory behind a layer.

use std::sync::Arc;
use std::time::Duration;

use tenure_adapter_memory::MemoryStore;
use tenure_conformance::{SessionsFixture, TestClock};
use tenure_domain::Policy;
use tenure_service::Issued;
use tenure_tower::{EnforcementConfig, Enforcer, TenureLayer};
use tokio::time::{Instant, sleep};

/// How long a test waits at most for what should happen at once. A busy machine takes its time.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Sessions, and an enforcer of them.
pub(crate) struct LayerFixture {
    pub(crate) sessions: SessionsFixture,
    pub(crate) enforcer: Arc<Enforcer>,
}

impl LayerFixture {
    pub(crate) fn new(config: EnforcementConfig) -> Self {
        let clock = TestClock::new();
        let sessions = SessionsFixture::new(MemoryStore::new(clock.clone()), clock, Policy::default());
        let enforcer = Enforcer::new(sessions.sessions.clone(), config);
        Self { sessions, enforcer }
    }

    pub(crate) fn layer(&self) -> TenureLayer {
        TenureLayer::new(self.enforcer.clone())
    }

    /// A session, and its token as text.
    pub(crate) async fn issue(&self, device: &str) -> (Issued, String) {
        let issued = self.sessions.issue(device, Duration::from_secs(3_600)).await;
        let text = issued.token.to_text().expose().to_owned();
        (issued, text)
    }

    pub(crate) async fn revoke(&self, issued: &Issued) {
        self.sessions.revoke(issued.session.id).await;
    }

    /// Waits until so many connections are watched.
    pub(crate) async fn watched(&self, connections: usize) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        while self.enforcer.connections().counts().connections != connections {
            assert!(Instant::now() < deadline, "{:?}", self.enforcer.connections().counts());
            sleep(Duration::from_millis(5)).await;
        }
    }
}
