//! Use cases over a store that can be made to fail.

use std::sync::Arc;
use std::time::Duration;

use tenure_domain::{ClientInfo, DeviceId, Millis, Policy, Session, SessionId, Subject, Token};
use tenure_ports::{Clock, FindOptions, SessionRepository};
use tenure_service::{IssueRequest, Issued, Sessions, Target};

use crate::doubles::SeededRandom;
use crate::faulty::FaultyStore;

/// The use cases of sessions over a [`FaultyStore`], for tests of what uses them.
pub struct SessionsFixture {
    /// The use cases.
    pub sessions: Arc<Sessions>,
    /// The store, which can be made to fail.
    pub store: Arc<FaultyStore>,
    records: Arc<dyn SessionRepository>,
}

impl SessionsFixture {
    /// Makes use cases over this store, which nothing else may change.
    #[must_use]
    pub fn new(store: Arc<dyn SessionRepository>, clock: Arc<dyn Clock>, policy: Policy) -> Self {
        let (records, store) = (Arc::clone(&store), FaultyStore::new(store));
        let random = Arc::new(SeededRandom::new(7));
        Self { sessions: Arc::new(Sessions::new(store.clone(), clock, random, policy)), store, records }
    }

    /// Issues a session of the default subject.
    pub async fn issue(&self, device: &str, ttl: Duration) -> Issued {
        let request = IssueRequest {
            device: DeviceId::new(device).unwrap(),
            subject: Subject::default(),
            client: ClientInfo::default(),
            ttl: Some(Millis::new(ttl.as_millis() as u64)),
        };
        self.sessions.issue(request).await.unwrap()
    }

    /// Revokes a session.
    pub async fn revoke(&self, id: SessionId) {
        let target = Target::Ids(vec![id]);
        self.sessions.revoke(&target, None, &Sessions::revocation(None, None)).await.unwrap();
    }

    /// Rotates a token, and returns the new one.
    pub async fn rotate(&self, token: &Token) -> Token {
        self.sessions.rotate(token).await.unwrap().token
    }

    /// Returns a session as it is stored, though the store may have been made to fail.
    pub async fn record(&self, id: SessionId) -> Session {
        self.records.find(id, FindOptions::EXACT).await.unwrap().unwrap()
    }
}
