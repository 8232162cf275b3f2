//! What the examples share: sessions in memory, and a token to try the service with.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use tenure_adapter_memory::MemoryStore;
use tenure_domain::{ClientInfo, DeviceId, Policy, Subject};
use tenure_ports::{SystemClock, SystemRandom};
use tenure_service::{IssueRequest, Sessions};

/// The address to listen on: the first argument, or 127.0.0.1:3000.
pub(crate) fn address() -> Result<SocketAddr, Box<dyn Error>> {
    Ok(std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:3000").parse()?)
}

/// Makes the use cases of sessions. A real service opens the JSON store or the Redis store here.
pub(crate) fn sessions() -> Arc<Sessions> {
    let clock = Arc::new(SystemClock);
    let store = MemoryStore::new(clock.clone());
    Arc::new(Sessions::new(store, clock, Arc::new(SystemRandom), Policy::default()))
}

/// Issues a session for a laptop of Anna's, and returns its token as text.
pub(crate) async fn issue_token(sessions: &Sessions) -> Result<String, Box<dyn Error>> {
    let request = IssueRequest {
        device: DeviceId::new("laptop")?,
        subject: Subject::new("anna")?,
        client: ClientInfo::default(),
        ttl: None,
    };
    Ok(sessions.issue(request).await?.token.to_text().expose().to_owned())
}
