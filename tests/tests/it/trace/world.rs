//! The stores of a trace, side by side, and what a trace knows of their sessions.

use std::sync::Arc;

use tempfile::TempDir;
use tenure_adapter_json::JsonStore;
use tenure_adapter_memory::MemoryStore;
use tenure_adapter_redis::RedisStore;
use tenure_conformance::{SeededRandom, TestClock};
use tenure_domain::{
    Decision, Device, DeviceId, EndCause, Family, Filter, Millis, NewSession, Policy, PolicySettings, RotationSecret,
    Scope, Selection, Session, SessionId, SortKey, Timestamp, Token,
};
use tenure_ports::prelude::*;
use tenure_ports::{Clock, FindOptions, SessionRepository};
use tenure_redis_test_server::{Server, patient};
use tenure_service::Sessions;

use super::asking::{Answer, client, device_id, nth, subject_of};
use super::steps::{Edge, Nth, Shown, Step};

/// Two of them lie in one bucket.
pub(super) const DEVICES: [&str; 4] = ["laptop", "twin-1879", "tablet \u{1f4f1}", "{pi}"];
/// Nothing ends within so short a time of the trace's own, lest a slow machine's time overtake it.
const MARGIN: Millis = Millis::minutes(1);

enum Opened {
    MemoryStore(Arc<MemoryStore>),
    Json(Arc<JsonStore>),
    Redis(Arc<RedisStore>),
}

/// One store in two processes.
struct Side {
    name: &'static str,
    opened: [Opened; 2],
    sessions: [Sessions; 2],
    entropy: Arc<SeededRandom>,
}

/// What the trace knows of a session.
pub(super) struct Known {
    pub(super) id: SessionId,
    pub(super) tokens: Vec<Token>,
}

pub(super) struct World {
    time: Arc<TestClock>,
    model: Arc<MemoryStore>,
    folder: TempDir,
    redis: tenure_adapter_redis::Options,
    sides: Vec<Side>,
    process: usize,
    pub(super) known: Vec<Known>,
    exports: Vec<Vec<Session>>,
    policy: Policy,
    /// Of what comes from elsewhere.
    foreign: SeededRandom,
    taken: usize,
}

impl World {
    pub(super) async fn new(server: &Server, number: usize, seed: u64) -> Self {
        let time = TestClock::new();
        let model = MemoryStore::new(time.clone());
        let redis = tenure_adapter_redis::Options { prefix: format!("trace{number}"), ..patient(&server.url()) };
        let mut world = Self {
            time,
            model,
            folder: TempDir::new().unwrap(),
            redis,
            sides: Vec::new(),
            process: 0,
            known: Vec::new(),
            exports: Vec::new(),
            policy: Policy::new(&PolicySettings { max_sessions_per_device: Some(2), ..Default::default() }).unwrap(),
            foreign: SeededRandom::new(!seed),
            taken: 0,
        };
        for name in ["model", "json", "redis"] {
            let entropy = Arc::new(SeededRandom::new(seed));
            let opened = [world.open(name).await, world.open(name).await];
            let sessions = [0, 1].map(|n| world.sessions(&opened[n], &entropy));
            world.sides.push(Side { name, opened, sessions, entropy });
        }
        world
    }

    async fn open(&self, name: &str) -> Opened {
        match name {
            "model" => Opened::MemoryStore(self.model.clone()),
            "json" => {
                // Written anew as often as can be.
                let options = tenure_adapter_json::Options {
                    lock_timeout: Millis::minutes(1),
                    boot: Arc::new(tenure_tests::fixtures::TestBoot(self.time.clone())),
                    compaction_threshold: 4_096,
                    ..tenure_adapter_json::Options::default()
                };
                let path = self.folder.path().join("sessions.jsonl");
                Opened::Json(JsonStore::open(&path, self.time.clone(), options).unwrap())
            }
            _ => {
                let time = self.time.clone();
                Opened::Redis(RedisStore::connect_with_clock(self.redis.clone(), time).await.unwrap())
            }
        }
    }

    fn sessions(&self, opened: &Opened, entropy: &Arc<SeededRandom>) -> Sessions {
        let (store, clock) = opened.parts(&self.time);
        Sessions::new(store, clock, entropy.clone(), self.policy)
    }

    fn now(&self) -> Timestamp {
        self.time.now()
    }

    /// Takes a step on every store; what differs is an error.
    pub(super) async fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Pass(span) => self.time.pass(*span),
            Step::PassTo(session, edge) => self.pass_to(*session, *edge).await?,
            Step::Settings(settings) => self.set(settings)?,
            Step::Switch => self.switch(false).await?,
            Step::Restart => self.switch(true).await?,
            Step::ImportForeign { device, count, fate, age } => {
                self.import_foreign(*device, *count, *fate, *age).await?
            }
            Step::Import { export, dry_run } => {
                if let Some(export) = nth(&self.exports, *export).cloned() {
                    self.import(&export, *dry_run).await?;
                }
            }
            other => self.ask(other).await?,
        }
        self.keep_clear_of_the_machines_time().await;
        self.taken += 1;
        self.compare(self.taken.is_multiple_of(32)).await
    }

    pub(super) async fn close(&mut self) -> Result<(), String> {
        self.switch(true).await?;
        self.compare(true).await
    }

    /// Asks every store the same, and learns from the answer that all of them gave.
    async fn ask(&mut self, step: &Step) -> Result<(), String> {
        let mut answers = Vec::new();
        for side in &self.sides {
            answers.push(self.answer(&side.sessions[self.process], step).await);
        }
        let answer = self.agreed(answers)?;
        match step {
            Step::Issue { .. } | Step::TakeOver { .. } | Step::Enrol { .. } => {
                if let (Some(session), Some(token)) = (answer.sessions.first(), answer.tokens.first()) {
                    let tokens = vec![Token::parse(token).unwrap()];
                    self.known.push(Known { id: session.id, tokens });
                }
            }
            Step::Rotate(_) => {
                if let (Some(session), Some(token)) = (answer.sessions.first(), answer.tokens.first()) {
                    let known = self.known.iter_mut().find(|known| known.id == session.id).unwrap();
                    known.tokens.push(Token::parse(token).unwrap());
                }
            }
            Step::Export => self.exports.push(answer.sessions),
            _ => {}
        }
        Ok(())
    }

    fn agreed(&self, answers: Vec<Answer>) -> Result<Answer, String> {
        let mut answers = answers.into_iter();
        let first = answers.next().unwrap();
        for (side, answer) in self.sides[1..].iter().zip(answers) {
            if answer != first {
                return Err(format!("the model answers\n{first:#?}\n{} answers\n{answer:#?}", side.name));
            }
        }
        Ok(first)
    }

    async fn import(&self, incoming: &[Session], dry_run: bool) -> Result<(), String> {
        let mut answers = Vec::new();
        for side in &self.sides {
            let report = side.sessions[self.process].import(incoming.to_vec(), dry_run, |_| {}).await;
            answers.push(Answer::said(report.map(|mut report| {
                report.blocked.sort_unstable();
                report.changed_since.sort_unstable();
                report.over_cap.sort_by(|a, b| a.device.cmp(&b.device));
                report
            })));
        }
        self.agreed(answers).map(drop)
    }

    /// Sessions that were made elsewhere, some time ago.
    async fn import_foreign(&mut self, device: Nth, count: u8, fate: u8, age: Millis) -> Result<(), String> {
        let (at, draw) = (self.now().minus(age), &self.foreign);
        let mut incoming = Vec::new();
        for n in 0..count {
            let new_session = NewSession {
                id: draw.bytes(),
                family: Family::new(draw.bytes()),
                rotation_secret: RotationSecret::new(draw.bytes()),
                subject: subject_of(Nth::from(n)),
                client: Arc::new(client(n)),
                terms: self.policy.terms(None).unwrap(),
                expires_by: None,
            };
            let unknown = Device::unknown(device_id(device));
            let issue = unknown.issue(new_session, &self.policy, at).unwrap();
            let mut known = Known { id: issue.session.id, tokens: vec![issue.token] };
            let mut session = issue.session;
            let there =
                |session: &Session| Device::new(device_id(device), Default::default(), vec![session.clone()], None);
            // Taken over before and after what came of it there.
            if fate & 1 != 0 {
                incoming.push(session.clone());
            }
            if fate >> (1 + n % 3) & 1 != 0 {
                let fresh = RotationSecret::new(draw.bytes());
                let at = at.plus(Millis::seconds(1));
                if let Decision::Accept(rotation) = there(&session).rotate(&known.tokens[0], &fresh, &self.policy, at) {
                    session = rotation.session;
                    known.tokens.push(rotation.token);
                }
            }
            if fate >> (4 + n % 3) & 1 != 0 {
                let cause = EndCause::by_rule(tenure_domain::EndReason::Revoked);
                let end =
                    there(&session).revoke(&Selection::default(), &cause, &self.policy, at.plus(Millis::seconds(2)));
                session = end.ended.into_iter().next().unwrap_or(session);
            }
            incoming.push(session);
            self.known.push(known);
        }
        self.import(&incoming, false).await
    }

    fn set(&mut self, settings: &PolicySettings) -> Result<(), String> {
        match Policy::new(settings) {
            Ok(policy) => {
                self.policy = policy;
                for sessions in self.sides.iter().flat_map(|side| &side.sessions) {
                    sessions.set_policy(policy);
                }
                Ok(())
            }
            // A window that is not shorter than the TTL, say: then all stays as it is.
            Err(_) => Ok(()),
        }
    }

    /// Goes on in the other process, or in the same one started again.
    async fn switch(&mut self, restart: bool) -> Result<(), String> {
        for at in 0..self.sides.len() {
            let side = &self.sides[at];
            side.sessions[self.process].flush_activity().await.map_err(|error| error.to_string())?;
            if let Opened::Json(store) = &side.opened[self.process] {
                store.close().await.map_err(|error| error.to_string())?;
            }
            if restart {
                let opened = self.open(side.name).await;
                let sessions = self.sessions(&opened, &side.entropy);
                let side = &mut self.sides[at];
                side.opened[self.process] = opened;
                side.sessions[self.process] = sessions;
            }
        }
        if !restart {
            self.process = 1 - self.process;
        }
        Ok(())
    }

    async fn pass_to(&mut self, session: Nth, edge: Edge) -> Result<(), String> {
        let Some(id) = self.id(session) else { return Ok(()) };
        let Some(session) = self.model.find(id, FindOptions::EXACT).await.unwrap() else { return Ok(()) };
        let replaced = session.credential.replaced.as_ref();
        let at = match edge {
            Edge::Expiry => Some(session.expires_at),
            Edge::Idle => session.idle_at(),
            Edge::Forgotten => Some(session.retained_until()),
            Edge::Overlap => replaced.map(|replaced| replaced.stops_at),
            Edge::Tolerance => replaced.map(|replaced| replaced.stops_at.plus(replaced.tolerance).plus(Millis::new(1))),
        };
        let Some(at) = at.filter(|at| *at > self.now()) else { return Ok(()) };
        let nth = Nth::try_from(self.known.iter().position(|known| known.id == id).unwrap()).unwrap();
        let shown = match edge {
            Edge::Overlap | Edge::Tolerance => Shown::Previous(nth),
            _ => Shown::Current(nth),
        };
        for instant in [at.minus(Millis::new(1)), at] {
            self.time.pass_to(instant);
            self.ask(&Step::Verify { shown, counts: false }).await?;
            self.compare(false).await?;
        }
        Ok(())
    }

    /// Redis forgets by its server's time, which goes on while the trace's stands still.
    async fn keep_clear_of_the_machines_time(&self) {
        loop {
            let mut ends = Vec::new();
            for known in &self.known {
                ends.extend(
                    self.model
                        .find(known.id, FindOptions::EXACT)
                        .await
                        .unwrap()
                        .map(|session| session.retained_until()),
                );
            }
            for device in DEVICES {
                let loaded = self.model.load(&DeviceId::new(device).unwrap()).await.unwrap();
                ends.extend(loaded.revocation_watermark().map(|watermark| watermark.until));
            }
            let now = self.now();
            let near = ends.into_iter().filter(|end| *end > now && end.since(now) <= MARGIN).max();
            match near {
                Some(end) => self.time.pass_to(end),
                None => return,
            }
        }
    }

    /// All that is retained, by device, or by a walk through everything; and what decisions are made on.
    async fn compare(&self, everything: bool) -> Result<(), String> {
        let now = self.now();
        for device in DEVICES {
            let device = DeviceId::new(device).unwrap();
            let filter = Filter { device: Some(device.clone()), subject: None, scope: Scope::Retained };
            let mut answers = Vec::new();
            for side in &self.sides {
                let (store, _) = side.opened[self.process].parts(&self.time);
                let loaded = store.load(&device).await.map_err(|error| error.to_string())?;
                let decided_on = loaded.sessions().iter().filter(|session| session.is_retained(now)).cloned();
                let watermark = loaded.revocation_watermark().filter(|watermark| now < watermark.until);
                answers.push(Answer::said(watermark).with_unordered(decided_on));
                let listed = walk(&*store, &filter, now, 11).await?;
                let answer = answers.last_mut().unwrap();
                *answer = std::mem::take(answer).with_unordered(listed);
            }
            self.agreed(answers)
                .map_err(|what| format!("device {device}, the loaded and the listed sessions: {what}"))?;
        }
        if !everything {
            return Ok(());
        }
        let mut answers = Vec::new();
        for side in &self.sides {
            let (store, _) = side.opened[self.process].parts(&self.time);
            let filter = Filter { scope: Scope::Retained, ..Filter::default() };
            let mut answer = Answer::default().with_unordered(walk(&*store, &filter, now, 23).await?);
            let sort = [SortKey::LastActivity, SortKey::Created, SortKey::Expires][self.taken / 32 % 3];
            answer = answer.with(store.list_sorted(&filter, now, sort, 50).await.map_err(|error| error.to_string())?);
            answers.push(answer);
        }
        self.agreed(answers).map(drop).map_err(|what| format!("the listing: {what}"))
    }
}

impl Opened {
    fn parts(&self, time: &Arc<TestClock>) -> (Arc<dyn SessionRepository>, Arc<dyn Clock>) {
        match self {
            Self::MemoryStore(model) => (model.clone(), time.clone()),
            Self::Json(store) => (store.clone(), store.clock()),
            Self::Redis(store) => (store.clone(), store.clock()),
        }
    }
}

async fn walk(
    store: &dyn SessionRepository,
    filter: &Filter,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Session>, String> {
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.page(filter, now, cursor, limit).await.map_err(|error| error.to_string())?;
        seen.extend(page.sessions);
        cursor = page.next;
        if cursor.is_none() {
            return Ok(seen);
        }
    }
}
