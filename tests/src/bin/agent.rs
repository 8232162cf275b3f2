//! One process over a store, that does what it is told a line at a time: for experiments with several of them.
//!
//! `agent STORE`, where STORE is a file or the URL of a Redis; then on standard input `issue DEVICE`, `verify TOKEN`,
//! `revoke ID`, `rotate TIMES TOKEN` (as many at once), and on standard output a line for each.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tenure_adapter_json::JsonStore;
use tenure_adapter_redis::RedisStore;
use tenure_conformance::{SystemClock, SystemRandom};
use tenure_domain::{ClientInfo, DeviceId, Millis, Policy, Refusal, Subject, Token};
use tenure_ports::Backend as _;
use tenure_service::{ActivityMode, IssueRequest, RotateError, Sessions, Target, VerifyError};
use tokio::task::JoinSet;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let store = std::env::args().nth(1);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(serve(&store.ok_or("usage: agent STORE")?)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("agent: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn open(store: &str) -> Result<Arc<Sessions>, Failure> {
    let wall = Arc::new(SystemClock);
    // A machine that is busy with the tests must not be taken for a store that is stuck or gone.
    let long = Millis::seconds(20);
    let sessions = |store, clock| Arc::new(Sessions::new(store, clock, Arc::new(SystemRandom), Policy::default()));
    if !store.starts_with("redis://") {
        let options = tenure_adapter_json::Options { lock_timeout: long, ..tenure_adapter_json::Options::default() };
        let store = JsonStore::open(Path::new(store), wall, options)?;
        return Ok(sessions(store.clone(), store.clock()));
    }
    let options = tenure_adapter_redis::Options {
        response_timeout: long,
        connect_timeout: long,
        operation_timeout: long,
        ..tenure_adapter_redis::Options::new(store)
    };
    let store = RedisStore::connect(options, wall).await?;
    Ok(sessions(store.clone(), store.clock()))
}

async fn serve(store: &str) -> Result<(), Failure> {
    let sessions = open(store).await?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["issue", device] => issue(&sessions, device).await?,
            ["verify", token] => verify(&sessions, token).await,
            ["revoke", id] => {
                let target = Target::Ids(vec![id.parse()?]);
                let done = sessions.revoke(&target, None, &Sessions::revocation(None, None)).await?;
                format!("ended {}", done.ended.len())
            }
            ["rotate", times, token] => rotate(&sessions, times.parse()?, token).await?,
            _ => return Err(format!("{line:?} is nothing to do").into()),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

async fn issue(sessions: &Sessions, device: &str) -> Result<String, Failure> {
    let (device, subject) = (DeviceId::new(device)?, Subject::default());
    let request = IssueRequest { device, subject, client: ClientInfo::default(), ttl: None };
    Ok(sessions.issue(request).await?.token.to_text().expose().to_owned())
}

async fn verify(sessions: &Sessions, token: &str) -> String {
    match sessions.verify_text(token, ActivityMode::Record).await {
        Ok(_) => "active".to_owned(),
        Err(VerifyError::Refused(refusal)) => refusal.code().to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

/// Answers how many were made, how many were refused as rotated, and the new token or `-`.
async fn rotate(sessions: &Arc<Sessions>, times: u32, token: &str) -> Result<String, Failure> {
    let token = Token::parse(token)?;
    let mut tasks = JoinSet::new();
    for _ in 0..times {
        let (sessions, token) = (Arc::clone(sessions), token.clone());
        tasks.spawn(async move { sessions.rotate(&token).await });
    }
    let (mut made, mut refused, mut new) = (0, 0, "-".to_owned());
    while let Some(outcome) = tasks.join_next().await {
        match outcome? {
            Ok(rotated) => {
                made += 1;
                new = rotated.token.to_text().expose().to_owned();
            }
            Err(RotateError::Refused(Refusal::Rotated)) => refused += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(format!("{made} {refused} {new}"))
}
