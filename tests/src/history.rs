//! Histories of concurrent use, judged by stateright's linearizability tester: whatever many clients in several
//! processes were answered must be what one client could have been answered, one call after the other, in an order
//! that agrees with who was answered before whom began.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use tempfile::TempDir;
use tenure_adapter_json::JsonStore;
use tenure_adapter_redis::RedisStore;
use tenure_domain::{ClientInfo, DeviceId, Millis, Policy, PolicySettings, SessionId, Subject, Token};
use tenure_ports::SessionRepository;
use tenure_redis_test_server::patient;
use tenure_service::{
    ActivityMode, IssueError, IssueRequest, PreparedIssue, RotateError, Sessions, Target, VerifyError,
};

use tenure_conformance::{SeededRandom, TestClock};

/// Clients of a history, and calls of each.
const CLIENTS: usize = 4;
const CALLS: usize = 6;
/// Sessions that a history may issue, on one device.
const SLOTS: usize = 5;
const CAP: usize = 2;

/// Whose the session with this number is.
const fn subject_of(number: usize) -> &'static str {
    if number % 3 == 2 { "bert" } else { "anna" }
}

/// A call. Sessions and tokens go by number; a token has its number before it is anybody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// Issues this session; its first token is number 0.
    Issue(usize),
    /// Shows a token.
    Verify {
        /// Of which session.
        session: usize,
        /// Which of its tokens.
        token: usize,
    },
    /// Shows a token for a new one.
    Rotate {
        /// Of which session.
        session: usize,
        /// Which of its tokens.
        shown: usize,
        /// The number of the new one.
        new: usize,
    },
    /// Ends this session.
    Revoke(usize),
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ret {
    /// Issued, and these were evicted.
    Issued(Vec<usize>),
    /// The device is another subject's.
    NotOwner,
    /// The token holds.
    Accepted,
    /// It does not.
    Refused(&'static str),
    /// It has a successor now.
    Rotated,
    /// It has ended now.
    Ended,
    /// It had ended before.
    Already,
    /// There is no such session.
    Unknown,
}

/// One device as a single client would see it, while time stands still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spec {
    /// In the order of their issue.
    sessions: Vec<Held>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Held {
    number: usize,
    current: usize,
    rotations: usize,
    end: Option<&'static str>,
}

impl Spec {
    fn of(&mut self, number: usize) -> Option<&mut Held> {
        self.sessions.iter_mut().find(|held| held.number == number)
    }
}

impl Held {
    /// Why the token does not hold, if it does not. A secret of the family that is not the current one was replaced,
    /// as far as anybody can tell, once there was a rotation.
    fn refuses(&self, token: usize) -> Option<&'static str> {
        match (self.current == token, self.rotations) {
            (false, 0) => Some("unknown"),
            (current, _) => self.end.or((!current).then_some("rotated")),
        }
    }
}

impl SequentialSpec for Spec {
    type Op = Op;
    type Ret = Ret;

    fn invoke(&mut self, op: &Op) -> Ret {
        match *op {
            Op::Issue(number) => {
                let mut active = self.sessions.iter().filter(|held| held.end.is_none());
                if active.any(|held| subject_of(held.number) != subject_of(number)) {
                    return Ret::NotOwner;
                }
                self.sessions.push(Held { number, current: 0, rotations: 0, end: None });
                let active = self.sessions.iter().filter(|held| held.end.is_none()).count();
                let oldest = self.sessions.iter_mut().filter(|held| held.end.is_none());
                let evicted = oldest.take(active.saturating_sub(CAP)).map(|held| {
                    held.end = Some("evicted");
                    held.number
                });
                Ret::Issued(evicted.collect())
            }
            Op::Verify { session, token } => match self.of(session).map(|held| held.refuses(token)) {
                None => Ret::Refused("unknown"),
                Some(None) => Ret::Accepted,
                Some(Some(refusal)) => Ret::Refused(refusal),
            },
            Op::Rotate { session, shown, new } => match self.of(session) {
                None => Ret::Refused("unknown"),
                Some(held) => match held.refuses(shown) {
                    Some(refusal) => Ret::Refused(refusal),
                    None => {
                        held.current = new;
                        held.rotations += 1;
                        Ret::Rotated
                    }
                },
            },
            Op::Revoke(session) => match self.of(session) {
                None => Ret::Unknown,
                Some(Held { end: Some(_), .. }) => Ret::Already,
                Some(held) => {
                    held.end = Some("revoked");
                    Ret::Ended
                }
            },
        }
    }
}

type Tester = LinearizabilityTester<usize, Spec>;

/// A store as several processes have it, while time stands still.
pub struct Handles {
    handles: Vec<Arc<Sessions>>,
    /// The store's directory, where it has one.
    _kept: Option<TempDir>,
}

fn policy() -> Policy {
    let settings = PolicySettings { max_sessions_per_device: Some(CAP as u64), ..PolicySettings::default() };
    Policy::new(&settings).unwrap()
}

impl Handles {
    /// The use cases over stores that were opened already, one for each process.
    #[must_use]
    pub fn new(stores: Vec<Arc<dyn SessionRepository>>, time: &Arc<TestClock>, seed: u64) -> Self {
        let random = Arc::new(SeededRandom::new(seed));
        let handles = stores
            .into_iter()
            .map(|store| Arc::new(Sessions::new(store, time.clone(), random.clone(), policy())))
            .collect();
        Self { handles, _kept: None }
    }

    /// One journal, opened by each client.
    #[must_use]
    pub fn json(seed: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let time = TestClock::new();
        let stores = (0..CLIENTS).map(|_| json_store(folder.path(), &time)).collect();
        Self { _kept: Some(folder), ..Self::new(stores, &time, seed) }
    }

    /// One Redis, with a connection of each client.
    pub async fn redis(url: &str, seed: u64) -> Self {
        let time = TestClock::new();
        let mut stores = Vec::new();
        for _ in 0..CLIENTS {
            let store = RedisStore::connect_with_clock(patient(url), time.clone()).await.unwrap();
            stores.push(store as Arc<dyn SessionRepository>);
        }
        Self::new(stores, &time, seed)
    }
}

fn json_store(folder: &Path, time: &Arc<TestClock>) -> Arc<dyn SessionRepository> {
    let options = tenure_adapter_json::Options {
        boot: Arc::new(crate::fixtures::TestBoot(time.clone())),
        compaction_threshold: 1 << 16,
        lock_timeout: Millis::seconds(20),
        ..tenure_adapter_json::Options::default()
    };
    JsonStore::open(&folder.join("sessions.jsonl"), time.clone(), options).unwrap()
}

/// What the clients of one history share.
struct Shared {
    tester: Mutex<Tester>,
    /// The tokens of each session, known before anybody is given them.
    tokens: Vec<Mutex<Vec<Token>>>,
    issuings: Mutex<Vec<(usize, PreparedIssue)>>,
    ids: Vec<SessionId>,
}

impl Shared {
    fn new(sessions: &Sessions, device: &DeviceId) -> Self {
        let mut issuings: Vec<(usize, PreparedIssue)> = (0..SLOTS)
            .map(|slot| {
                let (subject, client) = (Subject::new(subject_of(slot)).unwrap(), ClientInfo::default());
                let request = IssueRequest { device: device.clone(), subject, client, ttl: None };
                (slot, sessions.prepare_issue(request).unwrap())
            })
            .collect();
        let tokens: Vec<Token> = issuings.iter().map(|(_, issuing)| issuing.token()).collect();
        issuings.reverse();
        Self {
            tester: Mutex::new(Tester::new(Spec::default())),
            ids: tokens.iter().map(Token::session).collect(),
            tokens: tokens.into_iter().map(|token| Mutex::new(vec![token])).collect(),
            issuings: Mutex::new(issuings),
        }
    }

    fn number(&self, id: SessionId) -> usize {
        self.ids.iter().position(|known| *known == id).unwrap()
    }

    /// Draws the next call, and what is needed for it.
    fn draw(&self, draw: &SeededRandom) -> (Op, Option<PreparedIssue>, Option<Token>) {
        let pick = |below: usize| (draw.number() % below as u64) as usize;
        let next = self.issuings.lock().last().map(|(slot, _)| *slot);
        if (pick(8) == 0 || next == Some(0))
            && let Some((slot, issuing)) = self.issuings.lock().pop()
        {
            return (Op::Issue(slot), Some(issuing), None);
        }
        // One that was issued, or is about to be.
        let session = pick(next.map_or(SLOTS, |next| next + 1));
        let (token, shown) = {
            let tokens = self.tokens[session].lock();
            let newest = tokens.len() - 1;
            let token = if pick(3) == 0 { pick(tokens.len()) } else { newest };
            (token, tokens[token].clone())
        };
        match pick(10) {
            0..=5 => (Op::Verify { session, token }, None, Some(shown)),
            6 | 7 => (Op::Rotate { session, shown: token, new: 0 }, None, Some(shown)),
            _ => (Op::Revoke(session), None, None),
        }
    }

    /// One client: some calls, one after the other, each noted before it begins and after it has been answered.
    async fn play(&self, client: usize, sessions: &Sessions, draw: &SeededRandom) -> Result<(), String> {
        let words = |error: &dyn std::fmt::Display| format!("client {client}: {error}");
        for _ in 0..CALLS {
            let (mut op, issuing, shown) = self.draw(draw);
            let rotating = match (&mut op, &shown) {
                (Op::Rotate { session, new, .. }, Some(shown)) => {
                    let rotating = sessions.prepare_rotation(shown).map_err(|error| words(&error))?;
                    let mut tokens = self.tokens[*session].lock();
                    *new = tokens.len();
                    tokens.push(rotating.token());
                    Some(rotating)
                }
                _ => None,
            };
            self.tester.lock().on_invoke(client, op)?;
            let ret = match (op, issuing, shown, rotating) {
                (Op::Issue(_), Some(issuing), _, _) => match sessions.issue_prepared(issuing).await {
                    Ok(issued) => Ret::Issued(issued.evicted.into_iter().map(|id| self.number(id)).collect()),
                    Err(IssueError::Refused(_)) => Ret::NotOwner,
                    Err(error) => return Err(words(&error)),
                },
                (Op::Verify { .. }, _, Some(shown), _) => match sessions.verify(&shown, ActivityMode::Record).await {
                    Ok(_) => Ret::Accepted,
                    Err(VerifyError::Refused(refusal)) => Ret::Refused(refusal.code()),
                    Err(error) => return Err(words(&error)),
                },
                (Op::Rotate { .. }, _, _, Some(rotating)) => match sessions.rotate_prepared(&rotating).await {
                    Ok(_) => Ret::Rotated,
                    Err(RotateError::Refused(refusal)) => Ret::Refused(refusal.code()),
                    Err(error) => return Err(words(&error)),
                },
                (op, ..) => {
                    let Op::Revoke(session) = op else { return Err(format!("nothing to do for {op:?}")) };
                    let target = Target::Ids(vec![self.ids[session]]);
                    let done = sessions.revoke(&target, None, &Sessions::revocation(None, None)).await;
                    let done = done.map_err(|error| words(&error))?;
                    match (done.ended.len(), done.already_ended.len()) {
                        (1, 0) => Ret::Ended,
                        (0, 1) => Ret::Already,
                        _ => Ret::Unknown,
                    }
                }
            };
            self.tester.lock().on_return(client, ret)?;
        }
        Ok(())
    }
}

/// Whether a history, in which each client's calls are given as they began and were answered, is linearizable.
#[must_use]
pub fn is_linearizable(events: &[(usize, Result<Op, Ret>)]) -> bool {
    let mut tester = Tester::new(Spec::default());
    for (client, event) in events {
        match event {
            Ok(op) => drop(tester.on_invoke(*client, *op).unwrap()),
            Err(ret) => drop(tester.on_return(*client, ret.clone()).unwrap()),
        }
    }
    tester.is_consistent()
}

/// Records and judges so many histories; answers how many calls there were in them.
///
/// # Errors
/// The first history that no single client could have seen, or a failure of the store.
pub async fn judge(handles: &Handles, histories: u64, seed: u64) -> Result<u64, String> {
    let mut calls = 0;
    for history in 0..histories {
        let device = DeviceId::new(&format!("history-{history}")).unwrap();
        let shared = Arc::new(Shared::new(&handles.handles[0], &device));
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..CLIENTS {
            let sessions = Arc::clone(&handles.handles[client % handles.handles.len()]);
            let shared = Arc::clone(&shared);
            let draw = SeededRandom::new(seed ^ (history << 8) ^ client as u64);
            clients.spawn(async move { shared.play(client, &sessions, &draw).await });
        }
        while let Some(played) = clients.join_next().await {
            played.map_err(|error| error.to_string()).and_then(|played| played)?;
        }
        let tester = shared.tester.lock();
        calls += tester.len() as u64;
        if !tester.is_consistent() {
            return Err(format!("history {history} of seed {seed} is not linearizable: {tester:#?}"));
        }
    }
    Ok(calls)
}
