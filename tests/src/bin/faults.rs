//! `kill -9` against processes that write, for as long as is asked: run by `cargo xtask faults`, and shortly by the
//! tests.
//!
//! Writers issue, rotate and revoke, and say on their standard output what they are about to do and what was
//! acknowledged. The parent kills one at a random moment, starts another, and asks a process that verifies, and
//! itself with a newly opened store, about everything that was acknowledged.

use std::collections::BTreeMap;
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

const WRITERS: usize = 4;

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
}

struct Writer {
    child: Child,
    lines: Receiver<String>,
}

impl Writer {
    fn start(store: &Path, name: &str) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["write".as_ref(), store.as_os_str(), name.as_ref()])
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
        Ok(Self { child, lines })
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
fn learn(known: &mut BTreeMap<SessionId, Known>, line: &str) -> Result<Option<SessionId>, Failure> {
    let mut words = line.split(' ');
    let (Some(what), Some(id), Some(token)) = (words.next(), words.next(), words.next()) else {
        return Ok(None); // The kill cut the line.
    };
    let id: SessionId = id.parse()?;
    match what {
        // A token that was cut was not acknowledged to anyone.
        "issued" if Token::parse(token).is_ok() => {
            known.insert(id, Known { tokens: vec![token.to_owned()], unsettled: false, revoked: false });
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

/// Compares what is answered about a session with what was acknowledged.
fn check(
    session: &Known,
    mut ask: impl FnMut(&str) -> Result<String, Failure>,
    tally: &mut Tally,
) -> Result<(), Failure> {
    // A replaced token shown late would end the session, by the rules: only the newest one is asked about.
    let Some(token) = session.tokens.last() else { return Ok(()) };
    let answer = ask(token)?;
    tally.checks += 1;
    if session.revoked && answer == "active" {
        tally.wrongly_accepted += 1;
        eprintln!("faults: a revoked session was accepted: {}", &token[4..24]);
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
    let mut writers = Vec::new();
    for n in 0..WRITERS {
        writers.push(Writer::start(&store, &format!("w{n}"))?);
    }
    let mut verifier = Verifier::start(&store)?;
    let runtime = runtime()?;
    for round in 0..rounds {
        std::thread::sleep(Duration::from_micros(2_000 + u64::from(random()?) % 30_000));
        let victim = (round as usize) % WRITERS;
        writers[victim].child.kill()?;
        writers[victim].child.wait()?;
        let mut recent = Vec::new();
        for line in writers[victim].lines.iter() {
            recent.extend(learn(&mut known, &line)?);
        }
        for writer in &writers {
            for line in writer.lines.try_iter() {
                recent.extend(learn(&mut known, &line)?);
            }
        }
        writers[victim] = Writer::start(&store, &format!("r{round}"))?;
        for id in &recent {
            check(&known[id], |token| verifier.ask(token), &mut tally)?;
        }
        if round % 50 == 49 || round + 1 == rounds {
            let began = Instant::now();
            let sessions = open(&store)?;
            tally.slowest_open = tally.slowest_open.max(began.elapsed());
            for session in known.values() {
                check(session, |token| Ok(judge(&runtime, &sessions, token)), &mut tally)?;
            }
        }
    }
    for writer in &mut writers {
        writer.child.kill()?;
        writer.child.wait()?;
    }
    println!(
        "{rounds} kills, {} sessions acknowledged, {} checks: {} acknowledged lost, {} revoked accepted; slowest open {:?}",
        known.len(),
        tally.checks,
        tally.lost,
        tally.wrongly_accepted,
        tally.slowest_open
    );
    if known.is_empty() {
        return Err("no writer acknowledged anything: nothing was tested".into());
    }
    if tally.lost + tally.wrongly_accepted > 0 {
        return Err("the store broke a promise".into());
    }
    Ok(())
}

fn random() -> Result<u16, Failure> {
    let mut bytes = [0; 2];
    tenure_ports::Entropy::fill(&OsEntropy, &mut bytes)?;
    Ok(u16::from_le_bytes(bytes))
}
