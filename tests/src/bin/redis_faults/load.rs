//! Writers that issue and revoke, and verifiers that hold every answer against what was acknowledged.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tenure_adapter_redis::{Options, RedisStore};
use tenure_conformance::SeededRandom;
use tenure_conformance::SystemClock;
use tenure_domain::{
    ClientInfo, DeviceId, EndCause, EndReason, Family, NewSession, Policy, RotationSecret, Selection, SessionId,
    Subject, Token, Verdict,
};
use tenure_ports::prelude::*;
use tenure_ports::{CommitError, StoreError};
use tokio::task::JoinHandle;

use crate::Failure;

/// The longest that any call of the store may take by default.
const DEADLINE: Duration = Duration::from_millis(1_000);
/// Sessions that are held before the oldest is revoked, and revoked ones that are looked at.
const HELD: usize = 60;
const REVOKED: usize = 200;

const ACTIVE: u8 = 0;
const ENDING: u8 = 1;
const ENDED: u8 = 2;

/// What scheduling may add to any bound: `$TEST_MARGIN` in milliseconds for a machine that is busy with other tests.
pub(crate) fn margin() -> Duration {
    let set = std::env::var("TEST_MARGIN").ok().and_then(|text| text.parse().ok());
    Duration::from_millis(set.unwrap_or(300))
}

/// A session, and how far its revocation has got.
pub(crate) struct Entry {
    pub(crate) id: SessionId,
    token: Token,
    state: AtomicU8,
    /// Whether it was already counted as lost.
    lost: AtomicBool,
}

/// What came of all calls.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) held: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) unavailable_reads: AtomicU64,
    pub(crate) unavailable_writes: AtomicU64,
    pub(crate) unknown: AtomicU64,
    /// Revocations that were acknowledged, and came undone.
    pub(crate) undone: AtomicU64,
    /// Sessions that were acknowledged, and are not there.
    pub(crate) vanished: AtomicU64,
    /// Tokens that were accepted by a call that began and ended while no server could answer.
    pub(crate) accepted_in_outage: AtomicU64,
    slowest: AtomicU64,
    unexpected: Mutex<Option<String>>,
}

impl Tally {
    pub(crate) fn slowest(&self) -> Duration {
        Duration::from_micros(self.slowest.load(Ordering::Relaxed))
    }

    fn unexpected(&self, error: &dyn fmt::Display) {
        self.unexpected.lock().get_or_insert_with(|| error.to_string());
    }

    /// Fails for anything but outages, and for calls that took too long.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if let Some(error) = self.unexpected.lock().take() {
            return Err(format!("an error that should not be: {error}").into());
        }
        if self.slowest() > DEADLINE + margin() {
            return Err(format!("a call took {:?}", self.slowest()).into());
        }
        let accepted = count(&self.accepted_in_outage);
        if accepted > 0 {
            return Err(format!("{accepted} tokens were accepted while no server could answer").into());
        }
        Ok(())
    }

    /// Fails for every wrong answer.
    pub(crate) fn check_answers(&self) -> Result<(), Failure> {
        let (undone, vanished) = (count(&self.undone), count(&self.vanished));
        if undone + vanished > 0 {
            return Err(format!("{undone} revocations came undone, {vanished} sessions vanished").into());
        }
        self.check()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} tokens held, {} revoked ones refused, {} sessions written; unavailable: {} reads, {} writes; {} writes \
             of unknown outcome; the slowest call took {} ms",
            count(&self.held),
            count(&self.refused),
            count(&self.written),
            count(&self.unavailable_reads),
            count(&self.unavailable_writes),
            count(&self.unknown),
            self.slowest().as_millis()
        )
    }
}

pub(crate) fn count(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

fn add(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

#[derive(Default)]
struct Entries {
    held: Vec<Arc<Entry>>,
    revoked: Vec<Arc<Entry>>,
}

struct Shared {
    tally: Tally,
    entries: Mutex<Entries>,
    random: SeededRandom,
    policy: Policy,
    stop: AtomicBool,
    /// Odd while no server can answer.
    outage: AtomicU64,
}

/// The load, until it is ended.
pub(crate) struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

pub(crate) async fn connect(url: &str) -> Result<Arc<RedisStore>, Failure> {
    Ok(RedisStore::connect(Options::new(url), Arc::new(SystemClock)).await?)
}

impl Load {
    /// So many writers and verifiers, each with a connection of its own as if it were another process.
    pub(crate) async fn start(url: &str, writers: usize, verifiers: usize) -> Result<Self, Failure> {
        let shared = Arc::new(Shared {
            tally: Tally::default(),
            entries: Mutex::default(),
            random: SeededRandom::new(7),
            policy: Policy::default(),
            stop: AtomicBool::new(false),
            outage: AtomicU64::new(0),
        });
        let mut tasks = Vec::new();
        for number in 0..writers {
            tasks.push(tokio::spawn(write(Arc::clone(&shared), connect(url).await?, number)));
        }
        for _ in 0..verifiers {
            tasks.push(tokio::spawn(verify(Arc::clone(&shared), connect(url).await?)));
        }
        Ok(Self { shared, tasks })
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.shared.tally
    }

    /// One of the sessions that are held now.
    pub(crate) fn any(&self) -> Option<SessionId> {
        let entries = self.shared.entries.lock();
        let at = usize::try_from(self.shared.random.number()).unwrap_or(0) % entries.held.len().max(1);
        entries.held.get(at).map(|entry| entry.id)
    }

    /// From now on no server can answer, until [`Load::recovers`].
    pub(crate) fn outage(&self) {
        self.shared.outage.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn recovers(&self) {
        self.shared.outage.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits until sessions are written and tokens accepted that were not before, and says how long that took.
    pub(crate) async fn goes_on(&self, limit: Duration) -> Result<Duration, Failure> {
        let (began, written, held) = (Instant::now(), count(&self.tally().written), count(&self.tally().held));
        while count(&self.tally().written) == written || count(&self.tally().held) == held {
            if began.elapsed() > limit {
                return Err(format!("nothing was written and verified again within {limit:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(began.elapsed())
    }

    /// Stops it.
    pub(crate) async fn end(self) -> Result<Arc<impl AsRef<Tally>>, Failure> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await?;
        }
        Ok(self.shared)
    }
}

impl AsRef<Tally> for Shared {
    fn as_ref(&self) -> &Tally {
        &self.tally
    }
}

impl Shared {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    async fn timed<T>(&self, call: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let outcome = call.await;
        let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.tally.slowest.fetch_max(took, Ordering::Relaxed);
        outcome
    }

    fn failed(&self, error: &StoreError, kind: &AtomicU64) {
        match error {
            StoreError::Unavailable { .. } => add(kind),
            error => self.tally.unexpected(error),
        }
    }

    fn new_session(&self) -> NewSession {
        NewSession {
            id: self.random.bytes(),
            family: Family::new(self.random.bytes()),
            rotation_secret: RotationSecret::new(self.random.bytes()),
            subject: Subject::default(),
            client: Arc::new(ClientInfo::default()),
            terms: self.policy.terms(None).unwrap_or_else(|error| panic!("the default terms: {error}")),
            expires_by: None,
        }
    }
}

async fn write(shared: Arc<Shared>, store: Arc<RedisStore>, number: usize) {
    let mut devices = 0_u64;
    while !shared.stopped() {
        devices += 1;
        issue(&shared, &store, &format!("{number}-{devices}")).await;
        let oldest = {
            let mut entries = shared.entries.lock();
            (entries.held.len() > HELD).then(|| entries.held.remove(0))
        };
        if let Some(entry) = oldest {
            revoke(&shared, &store, entry).await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn issue(shared: &Shared, store: &RedisStore, device: &str) {
    let device = DeviceId::new(device).unwrap_or_else(|error| panic!("{device}: {error}"));
    let loaded = match shared.timed(store.load(&device)).await {
        Ok(loaded) => loaded,
        Err(error) => return shared.failed(&error, &shared.tally.unavailable_writes),
    };
    let issue = loaded.issue(shared.new_session(), &shared.policy, store.clock().now());
    let issue = issue.unwrap_or_else(|error| panic!("{device}: {error}"));
    match shared.timed(store.commit(&issue.commit)).await {
        Ok(_) => {
            let (id, token) = (issue.session.id, issue.token);
            let entry = Entry { id, token, state: AtomicU8::new(ACTIVE), lost: AtomicBool::new(false) };
            shared.entries.lock().held.push(Arc::new(entry));
            add(&shared.tally.written);
        }
        Err(error) => refused(shared, error),
    }
}

async fn revoke(shared: &Shared, store: &RedisStore, entry: Arc<Entry>) {
    entry.state.store(ENDING, Ordering::SeqCst);
    let device = match shared.timed(store.load_by_session(entry.id)).await {
        Ok(Some(device)) => device,
        // The verifiers find out whether it should be there.
        Ok(None) => return,
        Err(error) => return shared.failed(&error, &shared.tally.unavailable_writes),
    };
    let (selection, cause) = (Selection::one(entry.id), EndCause::by_rule(EndReason::Revoked));
    let Some(commit) = device.revoke(&selection, &cause, &shared.policy, store.clock().now()).commit else {
        return;
    };
    match shared.timed(store.commit(&commit)).await {
        Ok(_) => {
            entry.state.store(ENDED, Ordering::SeqCst);
            let mut entries = shared.entries.lock();
            entries.revoked.push(entry);
            if entries.revoked.len() > REVOKED {
                entries.revoked.remove(0);
            }
        }
        Err(error) => refused(shared, error),
    }
}

fn refused(shared: &Shared, error: CommitError) {
    match error {
        CommitError::Store(error) => shared.failed(&error, &shared.tally.unavailable_writes),
        CommitError::OutcomeUnknown { .. } => add(&shared.tally.unknown),
        // A decision may grow old on a machine that is busy.
        CommitError::TooLate | CommitError::Conflict => {}
        error => shared.tally.unexpected(&error),
    }
}

async fn verify(shared: Arc<Shared>, store: Arc<RedisStore>) {
    while !shared.stopped() {
        let entry = {
            let entries = shared.entries.lock();
            let dice = usize::try_from(shared.random.number() >> 1).unwrap_or(0);
            let list = if dice % 2 == 0 { &entries.held } else { &entries.revoked };
            list.get(dice / 2 % list.len().max(1)).cloned()
        };
        let Some(entry) = entry else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        look(&shared, &store, &entry).await;
        tokio::task::yield_now().await;
    }
}

async fn look(shared: &Shared, store: &RedisStore, entry: &Entry) {
    let before = (entry.state.load(Ordering::SeqCst), shared.outage.load(Ordering::SeqCst));
    let found = match shared.timed(store.find(entry.id, tenure_ports::FindOptions::EXACT)).await {
        Ok(found) => found,
        Err(error) => return shared.failed(&error, &shared.tally.unavailable_reads),
    };
    let after = (entry.state.load(Ordering::SeqCst), shared.outage.load(Ordering::SeqCst));
    let holds =
        found.is_some_and(|session| matches!(session.verdict(&entry.token, store.clock().now()), Verdict::Valid(_)));
    if holds && before.1 == after.1 && before.1 % 2 == 1 {
        add(&shared.tally.accepted_in_outage);
    }
    match (holds, before.0, after.0) {
        (true, ENDED, _) => {
            if !entry.lost.swap(true, Ordering::Relaxed) {
                add(&shared.tally.undone);
            }
        }
        (false, _, ACTIVE) => {
            if !entry.lost.swap(true, Ordering::Relaxed) {
                add(&shared.tally.vanished);
            }
        }
        (true, ..) => add(&shared.tally.held),
        (false, ..) => add(&shared.tally.refused),
    }
}
