//! What a release wrote opens in every later one and behaves alike: a journal, an index, an image of Redis, an export.
//!
//! The files and how they were made: `tests/fixtures/0.1.0/README.md`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;
use tenure_adapter_json::{Boot, JsonStore};
use tenure_adapter_redis::RedisStore;
use tenure_conformance::{SeededRandom, TestClock};
use tenure_domain::{
    ClientField, ClientInfo, DeviceId, EndReason, Filter, IssueRefusal, Millis, Policy, PolicySettings, Refusal, Scope,
    Session, SessionId, SortKey, State, Subject, Timestamp, Token,
};
use tenure_ports::prelude::*;
use tenure_ports::{Clock as _, SessionRepository};
use tenure_redis_test_server::{Server, patient};
use tenure_service::{
    ActivityMode, IssueError, IssueRequest, RotateError, SessionRecord, Sessions, Target, VerifyError, parse_rfc3339,
};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/0.1.0").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(fixture(name)).unwrap()
}

/// The fixture's bytes, in a file as a store wants it.
fn put(bytes: &[u8], to: &Path) {
    fs::write(to, bytes).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o600)).unwrap();
}

fn unpacked(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(fs::File::open(fixture(name)).unwrap()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The settings that the fixtures were made with.
fn policy() -> Policy {
    let settings = PolicySettings {
        retention: Some(Millis::days(90)),
        max_sessions_per_device: Some(3),
        ..PolicySettings::default()
    };
    Policy::new(&settings).unwrap()
}

/// A copy of a store of that release, at the time of its last change.
struct Old {
    name: &'static str,
    sessions: Sessions,
    time: Arc<TestClock>,
    tokens: BTreeMap<String, Token>,
    json: Option<Arc<JsonStore>>,
    _kept: (TempDir, Option<Server>),
}

impl Old {
    async fn open(name: &'static str) -> Self {
        let (time, folder) = (TestClock::new(), TempDir::new().unwrap());
        let tokens: BTreeMap<String, Token> = text("tokens.txt")
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter_map(|(of, token)| Some((of.strip_prefix(name)?.strip_prefix('.')?, token)))
            .map(|(name, token)| (name.to_owned(), Token::parse(token).unwrap()))
            .collect();
        let last = export(name).iter().map(|session| session.last_activity).max().unwrap();
        // What was left for 30 s is not idle yet; what lived for a second is over.
        time.pass_to(last.plus(Millis::seconds(2)));
        let (store, json, server): (Arc<dyn SessionRepository>, _, _) = if name == "json" {
            let path = folder.path().join("sessions.jsonl");
            put(text("sessions.jsonl").as_bytes(), &path);
            let store = open_json(&path, &time);
            (store.clone(), Some(store), None)
        } else {
            fs::copy(fixture("redis.rdb"), folder.path().join("redis.rdb")).unwrap();
            let folder = folder.path().to_str().unwrap();
            let server = Server::start_with(&["--appendonly", "no", "--dir", folder, "--dbfilename", "redis.rdb"]);
            let store = RedisStore::connect_with_clock(patient(&server.url()), time.clone()).await.unwrap();
            (store, None, Some(server))
        };
        let entropy = Arc::new(SeededRandom::new(7));
        let sessions = Sessions::new(store, time.clone(), entropy, policy());
        Self { name, sessions, time, tokens, json, _kept: (folder, server) }
    }

    fn token(&self, name: &str) -> &Token {
        self.tokens.get(name).unwrap_or_else(|| panic!("no token {name}"))
    }

    fn id(&self, name: &str) -> SessionId {
        self.token(name).session()
    }

    async fn verify(&self, name: &str) -> Result<(), Refusal> {
        match self.sessions.verify(self.token(name), ActivityMode::Ignore).await {
            Ok(_) => Ok(()),
            Err(VerifyError::Refused(refusal)) => Err(refusal),
            Err(error) => panic!("{name}: {error}"),
        }
    }

    fn device(&self, name: &str) -> DeviceId {
        DeviceId::recorded(&format!("{} {name}", self.name)).unwrap()
    }

    async fn issue(&self, device: &str, subject: &str) -> Result<tenure_service::Issued, IssueError> {
        let subject = Subject::new(subject).unwrap();
        let request = IssueRequest { device: self.device(device), subject, client: ClientInfo::default(), ttl: None };
        self.sessions.issue(request).await
    }

    async fn exported(&self) -> String {
        let mut bytes = Vec::new();
        self.sessions.export(&mut bytes, |_| {}).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }
}

/// A machine that was just started, which is not the one that wrote the files.
#[derive(Debug)]
struct Started(Arc<TestClock>, Timestamp);

impl Boot for Started {
    fn id(&self) -> String {
        "laterboot".to_owned()
    }

    fn uptime(&self) -> Millis {
        self.0.now().since(self.1)
    }
}

fn open_json(path: &Path, time: &Arc<TestClock>) -> Arc<JsonStore> {
    let boot = Arc::new(Started(time.clone(), time.now()));
    let options = tenure_adapter_json::Options { boot, ..tenure_adapter_json::Options::default() };
    JsonStore::open(path, time.clone(), options).unwrap()
}

fn sessions_of(text: &str) -> Vec<Session> {
    (1..).zip(text.lines()).map(|(number, line)| SessionRecord::parse(number, line).unwrap()).collect()
}

fn export(name: &str) -> Vec<Session> {
    sessions_of(&text(&format!("{name}.export.jsonl")))
}

/// What a release gave for each token, at the time of its last change.
const VERDICTS: [(&str, Result<(), Refusal>); 19] = [
    ("active", Ok(())),
    ("rotated", Ok(())),
    ("rotated0", Err(Refusal::Rotated)),
    ("overlap", Ok(())),
    ("overlap0", Ok(())),
    ("replayed", Err(Refusal::Ended(EndReason::Replayed))),
    ("replayed0", Err(Refusal::Ended(EndReason::Replayed))),
    ("revoked", Err(Refusal::Ended(EndReason::Revoked))),
    ("cap1", Err(Refusal::Ended(EndReason::Evicted))),
    ("cap2", Ok(())),
    ("cap4", Ok(())),
    ("expired", Err(Refusal::Expired)),
    ("left", Ok(())),
    ("shared1", Err(Refusal::Ended(EndReason::Evicted))),
    ("shared2", Ok(())),
    ("shared3", Ok(())),
    ("shared4", Ok(())),
    ("hidden", Ok(())),
    ("horizon", Err(Refusal::Unknown)),
];

/// Reading it changes nothing: what is listed, shown and exported is what that release exported.
async fn it_reads_as_it_was_written(old: &Old) {
    for (name, verdict) in VERDICTS {
        assert_eq!(old.verify(name).await, verdict, "{name}");
    }
    assert_eq!(old.exported().await, text(&format!("{}.export.jsonl", old.name)));
    let mut wanted = export(old.name);
    let all = Filter { scope: Scope::Retained, ..Filter::default() };
    let mut listed = old.sessions.list(&all, SortKey::Created, 100).await.unwrap();
    for session in &wanted {
        assert_eq!(old.sessions.get(session.id).await.unwrap().as_ref(), Some(session));
        assert_eq!(old.sessions.resolve(&session.id.to_string()[..12]).await.unwrap(), session.id);
    }
    for sessions in [&mut wanted, &mut listed] {
        sessions.sort_by_key(|session| session.id);
    }
    assert_eq!(listed, wanted);
    let now = old.time.now();
    let active = wanted.iter().filter(|session| session.state(now) == State::Active).count();
    let listed = old.sessions.list(&Filter::default(), SortKey::LastActivity, 100).await.unwrap();
    assert_eq!((listed.len(), active), (active, 11));
}

/// It goes on where that release left off.
async fn it_is_written_on(old: &Old) {
    // A replaced token that comes back late, and a session that is left unused, end durably.
    old.time.pass(Millis::minutes(6));
    assert_eq!(old.verify("rotated0").await, Err(Refusal::Ended(EndReason::Replayed)));
    assert_eq!(old.verify("rotated").await, Err(Refusal::Ended(EndReason::Replayed)));
    // The other one's tolerance is 10 s.
    assert_eq!(old.verify("overlap0").await, Err(Refusal::Ended(EndReason::Replayed)));
    assert_eq!(old.verify("left").await, Err(Refusal::Ended(EndReason::Idle)));
    // Used, rotated, refused by the former token.
    old.sessions.verify(old.token("active"), ActivityMode::Record).await.unwrap();
    old.sessions.flush_activity().await.unwrap();
    let rotated = old.sessions.rotate(old.token("active")).await.unwrap();
    assert_eq!((rotated.session.generation, rotated.session.last_activity), (2, old.time.now()));
    assert!(matches!(old.sessions.rotate(old.token("active")).await, Err(RotateError::Refused(Refusal::Rotated))));
    // The cap, and the sessions that it counts, are the same.
    assert_eq!(old.issue("cap", "operator").await.unwrap().evicted, [old.id("cap2")]);
    // On a device that several share each displaces its own; somebody new is refused.
    assert_eq!(old.issue("shared", "anna").await.unwrap().evicted, [old.id("shared3")]);
    assert_eq!(old.issue("shared", "bert").await.unwrap().evicted, [old.id("shared2")]);
    match old.issue("shared", "carl").await {
        Err(IssueError::Refused(IssueRefusal::OtherOwner { owners })) => assert_eq!(owners.len(), 2),
        other => panic!("{other:?}"),
    }
    // An export from before an end, whose record was purged, brings nothing back.
    let older = sessions_of(&text(&format!("{}.older.jsonl", old.name)));
    let report = old.sessions.import(older, false, |_| {}).await.unwrap();
    assert_eq!(report.blocked, [old.id("horizon")]);
    assert_eq!(old.verify("horizon").await, Err(Refusal::Unknown));
    // What has ended is cleaned up.
    assert_eq!(old.sessions.cleanup(Millis::ZERO, false, |_| {}).await.unwrap(), 11);
    assert_eq!(old.verify("revoked").await, Err(Refusal::Unknown));
}

/// Names that are not taken any more are read, listed, exported, described and ended.
async fn names_with_what_nobody_sees_stay_usable(old: &Old) {
    let session = old.sessions.get(old.id("hidden")).await.unwrap().unwrap();
    let name = format!(" {} lap\u{200b}top ", old.name);
    assert_eq!((session.device.as_str(), session.subject.as_str()), (name.as_str(), "an\u{200d}na\u{feff}"));
    assert_eq!(session.client.get(ClientField::DisplayName), Some("\u{1f5a5}\u{fe0f} desk "));
    assert!(DeviceId::new(&name).is_err() && Subject::new(session.subject.as_str()).is_err());
    let shown = format!("{} {}", session.device, session.subject);
    assert_eq!(shown, format!("\\u{{20}}{} lap\\u{{200b}}top\\u{{20}} an\\u{{200d}}na\\u{{feff}}", old.name));
    let reason = export(old.name).into_iter().find_map(|session| session.end.clone()?.note).unwrap();
    assert_eq!((reason.as_str(), &*reason.to_string()), ("left in a taxi\u{200b}", "left in a taxi\\u{200b}"));
    for filter in [
        Filter { device: Some(DeviceId::recorded(&name).unwrap()), ..Filter::default() },
        Filter { subject: Some(session.subject.clone()), ..Filter::default() },
    ] {
        assert_eq!(old.sessions.list(&filter, SortKey::Created, 9).await.unwrap(), std::slice::from_ref(&session));
    }
    let seen = ClientInfo::default().with(ClientField::Address, "192.0.2.7").unwrap();
    old.sessions.update_client(session.id, &seen).await.unwrap();
    let rotated = old.sessions.rotate(old.token("hidden")).await.unwrap();
    assert_eq!(rotated.session.client.get(ClientField::Id), Some("b\u{200f}oard"));
    let target = Target::Device(DeviceId::recorded(&name).unwrap());
    let done = old.sessions.revoke(&target, None, &Sessions::revocation(None, None)).await.unwrap();
    assert_eq!(done.ended.iter().map(|session| session.id).collect::<Vec<_>>(), [session.id]);
    // Its owner logs out under the same name.
    let session = old.sessions.get(old.id("active")).await.unwrap().unwrap();
    old.sessions.log_out(&session).await.unwrap();
    assert_eq!(old.verify("active").await, Err(Refusal::Ended(EndReason::LoggedOut)));
}

/// Its export is taken by either backend, and given again as it was.
async fn its_export_moves(old: &Old, to: &Old) {
    let incoming = export(old.name);
    let count = incoming.len() as u64;
    let report = to.sessions.import(incoming.clone(), false, |_| {}).await.unwrap();
    assert_eq!(
        (report.imported, report.already_present, report.over_cap.len(), report.blocked.len()),
        (count, 0, 0, 0)
    );
    for (name, verdict) in VERDICTS {
        let answer = to.sessions.verify(old.token(name), ActivityMode::Ignore).await.map(drop);
        assert_eq!(answer, verdict.map_err(VerifyError::Refused), "{name}");
    }
    let again = to.exported().await;
    let mut lines: Vec<&str> = again.lines().filter(|line| line.contains(&format!("{} ", old.name))).collect();
    let before = text(&format!("{}.export.jsonl", old.name));
    let mut wanted: Vec<&str> = before.lines().collect();
    lines.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(lines, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_of_0_1_0() {
    it_reads_as_it_was_written(&Old::open("json").await).await;
    names_with_what_nobody_sees_stay_usable(&Old::open("json").await).await;
    let old = Old::open("json").await;
    it_is_written_on(&old).await;
    // What was written on stands there for the next process, too.
    let before = old.exported().await;
    old.json.as_ref().unwrap().close().await.unwrap();
    let store = open_json(&old._kept.0.path().join("sessions.jsonl"), &old.time);
    let next = Sessions::new(store, old.time.clone(), Arc::new(SeededRandom::new(8)), policy());
    let mut after = Vec::new();
    next.export(&mut after, |_| {}).await.unwrap();
    assert_eq!(String::from_utf8(after).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_redis_of_0_1_0() {
    it_reads_as_it_was_written(&Old::open("redis").await).await;
    names_with_what_nobody_sees_stay_usable(&Old::open("redis").await).await;
    it_is_written_on(&Old::open("redis").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_of_0_1_0_on_either_backend() {
    let (json, redis) = (Old::open("json").await, Old::open("redis").await);
    // The later one's time is right for both.
    json.time.pass_to(redis.time.now());
    its_export_moves(&json, &redis).await;
    its_export_moves(&redis, &json).await;
}

/// With the index, without it, and with one that is damaged the answers are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_of_0_1_0() {
    let token =
        text("tokens.txt").lines().find_map(|line| Token::parse(line.strip_prefix("bulk.last ")?).ok()).unwrap();
    let (journal, index) = (unpacked("bulk/sessions.jsonl.gz"), unpacked("bulk/sessions.jsonl.index.gz"));
    let mut damaged = index.clone();
    damaged[index.len() / 2] ^= 1;
    let time = TestClock::new();
    time.pass_to(parse_rfc3339("2026-11-30T21:00:00Z").unwrap());
    let mut answers = Vec::new();
    for index in [Some(index), None, Some(damaged)] {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("sessions.jsonl");
        put(&journal, &path);
        if let Some(index) = index {
            put(&index, &folder.path().join("sessions.jsonl.index"));
        }
        let store = open_json(&path, &time);
        let sessions = Sessions::new(store.clone(), time.clone(), Arc::new(SeededRandom::new(7)), policy());
        let verified = sessions.verify(&token, ActivityMode::Ignore).await.unwrap();
        let listed = sessions.list(&Filter::default(), SortKey::Created, 1_000).await.unwrap();
        assert_eq!((listed.len(), &listed[0]), (210, &verified.session));
        let device = store.load(&verified.session.device).await.unwrap();
        // A process that only reads, and one that writes.
        let rotated = sessions.rotate(&token).await.unwrap();
        assert_eq!(sessions.get(token.session()).await.unwrap(), Some(rotated.session));
        answers.push((listed, device));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}
