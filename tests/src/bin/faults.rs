//! `kill -9` against processes that write, for as long as is asked: run by `cargo xtask faults`, and shortly by the
//! tests.
//!
//! Writers issue, rotate and revoke, and say on their standard output what they are about to do and what was
//! acknowledged. The parent kills one at a random moment, starts another, and asks a process that verifies, and
//! itself with a newly opened store, about everything that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tenure_adapter_json::{JsonStore, Options};
use tenure_domain::{ClientInfo, DeviceId, Policy, SessionId, Subject, Token};
use tenure_service::{IssueRequest, Sessions, Target, Usage, VerifyError};
use tenure_tests::host::{OsEntropy, WallClock};

const WRITERS: u64 = 4;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words[..] {
        ["write", store, name] => write(Path::new(store), name),
        ["verify", store] => verify(Path::new(store)),
        ["kill", rounds] => rounds.parse().map_err(Failure::from).and_then(kill),
        _ => Err("usage: faults kill ROUNDS".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn open(store: &Path) -> Result<Sessions, Failure> {
    let store = JsonStore::open(store, Arc::new(WallClock), Options::default())?;
    let clock = store.clock();
    Ok(Sessions::new(store, clock, Arc::new(OsEntropy), Policy::default()))
}

fn say(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Issues three sessions, rotates one of them and revokes another, for ever.
fn write(store: &Path, name: &str) -> Result<(), Failure> {
    let sessions = open(store)?;
    runtime()?.block_on(async {
        for device in 0_u64.. {
            let device = DeviceId::new(&format!("{name}-{device}"))?;
            let mut tokens = Vec::new();
            for _ in 0..3 {
                let request = IssueRequest {
                    device: device.clone(),
                    subject: Subject::default(),
                    client: ClientInfo::default(),
                    ttl: None,
                };
                let issued = sessions.issue(request).await?;
                say(&format!("issued {} {}", issued.session.id, issued.token.to_text().expose()))?;
                tokens.push(issued.token);
            }
            say(&format!("rotating {} -", tokens[0].session()))?;
            let rotated = sessions.rotate(&tokens[0]).await?;
            say(&format!("rotated {} {}", rotated.session.id, rotated.token.to_text().expose()))?;
            let id = tokens[1].session();
            say(&format!("revoking {id} -"))?;
            sessions.revoke(&Target::Ids(vec![id]), None, &Sessions::revocation(None, None)).await?;
            say(&format!("revoked {id} -"))?;
        }
        Ok(())
    })
}

/// Answers each token on standard input with `active` or the refusal's code.
fn verify(store: &Path) -> Result<(), Failure> {
    let sessions = open(store)?;
    let runtime = runtime()?;
    for line in std::io::stdin().lock().lines() {
        say(&judge(&runtime, &sessions, &line?))?;
    }
    Ok(())
}

fn judge(runtime: &tokio::runtime::Runtime, sessions: &Sessions, token: &str) -> String {
    match runtime.block_on(sessions.verify_text(token, Usage::Ignored)) {
        Ok(_) => "active".to_owned(),
        Err(VerifyError::Refused(refusal)) => refusal.code().to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

/// What the parent knows of a session from the acknowledgements.
struct Known {
    tokens: Vec<String>,
    /// A rotation or revocation was under way when its writer last spoke.
    unsettled: bool,
    revoked: bool,
    /// Which writer speaks of it.
    writer: u64,
}

struct Writer {
    number: u64,
    child: Child,
    lines: Receiver<String>,
}

impl Writer {
    fn start(store: &Path, number: u64) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["write".as_ref(), store.as_os_str(), format!("w{number}").as_ref()])
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().ok_or("no standard output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { number, child, lines })
    }
}

struct Verifier {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Verifier {
    fn start(store: &Path) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["verify".as_ref(), store.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no standard input")?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self { child, input, output })
    }

    fn ask(&mut self, token: &str) -> Result<String, Failure> {
        writeln!(self.input, "{token}")?;
        let mut answer = String::new();
        self.output.read_line(&mut answer)?;
        Ok(answer.trim_end().to_owned())
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Takes in one line of a writer.
fn learn(known: &mut BTreeMap<SessionId, Known>, writer: u64, line: &str) -> Result<Option<SessionId>, Failure> {
    let mut words = line.split(' ');
    let (Some(what), Some(id), Some(token)) = (words.next(), words.next(), words.next()) else {
        return Ok(None); // The kill cut the line.
    };
    let id: SessionId = id.parse()?;
    match what {
        // A token that was cut was not acknowledged to anyone.
        "issued" if Token::parse(token).is_ok() => {
            known.insert(id, Known { tokens: vec![token.to_owned()], unsettled: false, revoked: false, writer });
        }
        "rotating" | "revoking" => known.get_mut(&id).ok_or("unknown session")?.unsettled = true,
        "rotated" if Token::parse(token).is_ok() => {
            let session = known.get_mut(&id).ok_or("unknown session")?;
            session.tokens.push(token.to_owned());
            session.unsettled = false;
        }
        "revoked" => {
            let session = known.get_mut(&id).ok_or("unknown session")?;
            session.unsettled = false;
            session.revoked = true;
        }
        _ => return Ok(None),
    }
    Ok(Some(id))
}

#[derive(Default)]
struct Tally {
    checks: u64,
    lost: u64,
    wrongly_accepted: u64,
    slowest_open: Duration,
}

/// Compares what is answered about a session with what was acknowledged. While its writer lives, the store may be
/// ahead of what it has said: then only what has ended for good can be held against the store.
fn check(
    session: &Known,
    alive: bool,
    mut ask: impl FnMut(&str) -> Result<String, Failure>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    // A replaced token shown late would end the session, by the rules: only the newest one is asked about.
    let Some(token) = session.tokens.last().filter(|_| session.revoked || !alive) else { return Ok(()) };
    let answer = ask(token)?;
    tally.checks += 1;
    if session.revoked && answer != "revoked" {
        tally.wrongly_accepted += 1;
        eprintln!("faults: a revoked session is {answer}: {}", &token[4..24]);
    } else if !session.revoked && !session.unsettled && answer != "active" {
        tally.lost += 1;
        eprintln!("faults: an acknowledged session is {answer}: {}", &token[4..24]);
    }
    Ok(())
}

fn kill(rounds: u64) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let store: PathBuf = folder.path().join("sessions.jsonl");
    let mut known = BTreeMap::new();
    let mut tally = Tally::default();
    let mut writers = (0..WRITERS).map(|number| Writer::start(&store, number)).collect::<Result<Vec<_>, _>>()?;
    let mut verifier = Verifier::start(&store)?;
    for round in 0..rounds {
        std::thread::sleep(Duration::from_micros(2_000 + u64::from(random()?) % 30_000));
        let mut recent = BTreeSet::new();
        let next = Writer::start(&store, WRITERS + round)?;
        let mut victim = std::mem::replace(&mut writers[(round % WRITERS) as usize], next);
        for writer in &writers {
            for line in writer.lines.try_iter() {
                recent.extend(learn(&mut known, writer.number, &line)?);
            }
        }
        recent.extend(end(&mut victim, &mut known)?);
        for id in &recent {
            let alive = known[id].writer != victim.number;
            check(&known[id], alive, |token| verifier.ask(token), &mut tally)?;
        }
        if round % 50 == 49 {
            check_all(&store, &known, &writers, &mut tally)?;
        }
    }
    for writer in &mut writers {
        end(writer, &mut known)?;
    }
    check_all(&store, &known, &[], &mut tally)?;
    report(rounds, known.len(), &tally)
}

/// Kills a writer and takes in all that it still said.
fn end(writer: &mut Writer, known: &mut BTreeMap<SessionId, Known>) -> Result<BTreeSet<SessionId>, Failure> {
    writer.child.kill()?;
    writer.child.wait()?;
    let mut recent = BTreeSet::new();
    for line in writer.lines.iter() {
        recent.extend(learn(known, writer.number, &line)?);
    }
    Ok(recent)
}

/// Asks a newly opened store about everything.
fn check_all(
    store: &Path,
    known: &BTreeMap<SessionId, Known>,
    alive: &[Writer],
    tally: &mut Tally,
) -> Result<(), Failure> {
    let runtime = runtime()?;
    let began = Instant::now();
    let sessions = open(store)?;
    tally.slowest_open = tally.slowest_open.max(began.elapsed());
    for session in known.values() {
        let alive = alive.iter().any(|writer| writer.number == session.writer);
        check(session, alive, |token| Ok(judge(&runtime, &sessions, token)), tally)?;
    }
    Ok(())
}

fn report(rounds: u64, sessions: usize, tally: &Tally) -> Result<(), Failure> {
    let Tally { checks, lost, wrongly_accepted, slowest_open } = tally;
    println!(
        "{rounds} kills, {sessions} sessions acknowledged, {checks} checks: {lost} acknowledged lost, \
         {wrongly_accepted} revoked not refused; slowest open {slowest_open:?}"
    );
    if *checks == 0 {
        return Err("no writer acknowledged anything: nothing was tested".into());
    }
    if lost + wrongly_accepted > 0 {
        return Err("the store broke a promise".into());
    }
    Ok(())
}

fn random() -> Result<u16, Failure> {
    let mut bytes = [0; 2];
    tenure_ports::Entropy::fill(&OsEntropy, &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}
