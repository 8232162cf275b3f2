//! A small store in memory for the tests of this crate, which name no adapter.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tenure_domain::{ClientInfo, Device, DeviceId, Millis, Policy, Revision, Session, SessionId, Subject, Timestamp};
use tenure_domain::{PolicySettings, Token};
use tenure_ports::{ChangeKind, Clock, MockSessionRepository, RandomSource, RandomSourceError, StoreError, StoreEvent};
use tenure_service::{IssueRequest, Issued, Sessions, Target};
use tokio::sync::broadcast;
use tokio::time::Instant;

/// A store that can be made to fail, and its use cases. Its clock is tokio's, so that paused time moves it.
pub(crate) struct SessionsFixture {
    pub(crate) sessions: Arc<Sessions>,
    inner: Arc<Inner>,
}

struct Inner {
    records: Mutex<HashMap<SessionId, Session>>,
    events: broadcast::Sender<StoreEvent>,
    down: Mutex<bool>,
    lost: Mutex<Option<SessionId>>,
    silent: Mutex<bool>,
    finds: AtomicU64,
}

struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_000_000 + self.0.elapsed().as_millis() as u64)
    }
}

struct CountingRandom(AtomicU64);

impl RandomSource for CountingRandom {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), RandomSourceError> {
        for byte in buffer {
            *byte = ((self.0.fetch_add(1, Ordering::Relaxed) * 37) >> 3) as u8;
        }
        Ok(())
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable { location: "the store".to_owned(), message: "is down".to_owned() }
}

impl Inner {
    fn up(&self) -> Result<(), StoreError> {
        if *self.down.lock() { Err(gone()) } else { Ok(()) }
    }

    fn device(&self, id: &DeviceId) -> Device {
        let sessions = self.records.lock().values().filter(|session| session.device == *id).cloned().collect();
        Device::new(id.clone(), Revision::new(1), sessions, None)
    }
}

fn repository(inner: &Arc<Inner>) -> MockSessionRepository {
    let mut repository = MockSessionRepository::new();
    let shared = Arc::clone(inner);
    let find = move |id, _| {
        shared.finds.fetch_add(1, Ordering::Relaxed);
        shared.up()?;
        if *shared.lost.lock() == Some(id) { Err(gone()) } else { Ok(shared.records.lock().get(&id).cloned()) }
    };
    repository.expect_find().returning(find);
    repository.expect_find_cached().returning(|_| None);
    let shared = Arc::clone(inner);
    repository.expect_load().returning(move |id| shared.up().map(|()| shared.device(id)));
    let shared = Arc::clone(inner);
    repository.expect_load_by_session().returning(move |id| {
        shared.up()?;
        let device = shared.records.lock().get(&id).map(|session| session.device.clone());
        Ok(device.map(|device| shared.device(&device)))
    });
    let shared = Arc::clone(inner);
    repository.expect_commit().returning(move |commit| {
        shared.up()?;
        for change in &commit.changes {
            let session = change.session().clone();
            let (id, kind) = (session.id, ChangeKind::of(change));
            shared.records.lock().insert(id, session);
            if !*shared.silent.lock() {
                let _ = shared.events.send(StoreEvent::Changed { session: id, kind, at: Timestamp::EPOCH });
            }
        }
        Ok(Revision::new(1))
    });
    let shared = Arc::clone(inner);
    repository.expect_touch().returning(move |touches| {
        shared.up()?;
        let mut records = shared.records.lock();
        for touch in touches {
            if let Some(session) = records.get_mut(&touch.session) {
                *session = session.clone().touched(touch.at);
            }
        }
        Ok(())
    });
    let shared = Arc::clone(inner);
    repository.expect_subscribe().returning(move || {
        shared.up()?;
        let events = futures_util::stream::unfold(shared.events.subscribe(), |mut events| async move {
            let item = events.recv().await;
            Some((item.unwrap_or(StoreEvent::Lagged), events))
        });
        Ok(Box::pin(events))
    });
    repository
}

impl SessionsFixture {
    pub(crate) fn new() -> Self {
        Self::with(Policy::default())
    }

    /// A world in which sessions end when they are left unused for so long.
    pub(crate) fn idling(timeout: Millis) -> Self {
        let settings = PolicySettings { idle_timeout: Some(timeout), ..PolicySettings::default() };
        Self::with(Policy::new(&settings).unwrap())
    }

    fn with(policy: Policy) -> Self {
        let inner = Arc::new(Inner {
            records: Mutex::default(),
            events: broadcast::channel(4096).0,
            down: Mutex::new(false),
            lost: Mutex::default(),
            silent: Mutex::new(false),
            finds: AtomicU64::new(0),
        });
        let clock = Arc::new(TokioClock(Instant::now()));
        let sessions =
            Sessions::new(Arc::new(repository(&inner)), clock, Arc::new(CountingRandom(AtomicU64::new(7))), policy);
        Self { sessions: Arc::new(sessions), inner }
    }

    pub(crate) async fn issue(&self, device: &str, ttl: Duration) -> Issued {
        let request = IssueRequest {
            device: DeviceId::new(device).unwrap(),
            subject: Subject::default(),
            client: ClientInfo::default(),
            ttl: Some(Millis::new(ttl.as_millis() as u64)),
        };
        self.sessions.issue(request).await.unwrap()
    }

    pub(crate) async fn revoke(&self, id: SessionId) {
        let target = Target::Ids(vec![id]);
        self.sessions.revoke(&target, None, &Sessions::revocation(None, None)).await.unwrap();
    }

    pub(crate) async fn rotate(&self, token: &Token) -> Token {
        self.sessions.rotate(token).await.unwrap().token
    }

    /// Whether calls fail from now on.
    pub(crate) fn set_down(&self, down: bool) {
        *self.inner.down.lock() = down;
    }

    /// This session cannot be read from now on.
    pub(crate) fn make_unreadable(&self, id: SessionId) {
        *self.inner.lost.lock() = Some(id);
    }

    /// Whether changes make no news from now on.
    pub(crate) fn suppress_events(&self, silent: bool) {
        *self.inner.silent.lock() = silent;
    }

    /// The news that some may have been missed.
    pub(crate) fn send_lagged(&self) {
        let _ = self.inner.events.send(StoreEvent::Lagged);
    }

    /// How often a session was looked for.
    pub(crate) fn finds(&self) -> u64 {
        self.inner.finds.load(Ordering::Relaxed)
    }

    /// What is recorded of a session.
    pub(crate) fn record(&self, id: SessionId) -> Session {
        self.inner.records.lock()[&id].clone()
    }
}
