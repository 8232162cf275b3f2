//! What the started processes do, until they are killed.

use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tenure_adapter_json::{JsonStore, Options};
use tenure_conformance::{SystemClock, SystemRandom};
use tenure_domain::{ClientInfo, DeviceId, Millis, Policy, Subject};
use tenure_ports::Backend as _;
use tenure_service::{ActivityMode, IssueRequest, Issued, Sessions, Target, VerifyError};

use crate::Failure;

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A slow disk or a busy machine must not be taken for a lock that is never let go of.
fn patient() -> Options {
    Options { lock_timeout: Millis::minutes(1), ..Options::default() }
}

/// The use cases over the store at `path`.
pub(crate) fn open(path: &Path) -> Result<Sessions, Failure> {
    open_with(path, patient())
}

pub(crate) fn open_with(path: &Path, options: Options) -> Result<Sessions, Failure> {
    let store = JsonStore::open(path, Arc::new(SystemClock), options)?;
    let clock = store.clock();
    Ok(Sessions::new(store, clock, Arc::new(SystemRandom), Policy::default()))
}

pub(crate) fn request(device: &str) -> Result<IssueRequest, Failure> {
    let device = DeviceId::new(device)?;
    Ok(IssueRequest { device, subject: Subject::default(), client: ClientInfo::default(), ttl: None })
}

fn say(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn say_issued(issued: &Issued) -> Result<(), Failure> {
    say(&format!("issued {} {}", issued.session.id, issued.token.to_text().expose()))
}

/// Issues three sessions, rotates one of them and revokes another, for ever.
pub(crate) fn write(store: &Path, name: &str) -> Result<(), Failure> {
    let sessions = open(store)?;
    runtime()?.block_on(async {
        for device in 0_u64.. {
            let mut tokens = Vec::new();
            for _ in 0..3 {
                let issued = sessions.issue(request(&format!("{name}-{device}"))?).await?;
                say_issued(&issued)?;
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

/// Answers each token on standard input with `active`, the refusal's code or `error`.
pub(crate) fn verify(store: &Path) -> Result<(), Failure> {
    let sessions = open(store)?;
    let runtime = runtime()?;
    for line in std::io::stdin().lock().lines() {
        say(&judge(&runtime, &sessions, &line?))?;
    }
    Ok(())
}

pub(crate) fn judge(runtime: &tokio::runtime::Runtime, sessions: &Sessions, token: &str) -> String {
    match runtime.block_on(sessions.verify_text(token, ActivityMode::Ignore)) {
        Ok(_) => "active".to_owned(),
        Err(VerifyError::Refused(refusal)) => refusal.code().to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

/// Writes the journal anew each second, for ever.
pub(crate) fn compact(path: &Path) -> Result<(), Failure> {
    let store = JsonStore::open(path, Arc::new(SystemClock), patient())?;
    runtime()?.block_on(async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            store.compact().await?;
            say("compacted - -")?;
        }
    })
}

/// Issues sessions until it fails, says why, and goes on when a line comes in; ends with the input.
pub(crate) fn issue(path: &Path) -> Result<(), Failure> {
    let sessions = open(path)?;
    runtime()?.block_on(async {
        // Caught, so that a write beyond the limit is an error and not the end of the process.
        let limit = tokio::signal::unix::SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
        let _caught = tokio::signal::unix::signal(limit)?;
        let mut lines = std::io::stdin().lock().lines();
        for device in 0_u64.. {
            match sessions.issue(request(&format!("issue-{device}"))?).await {
                Ok(issued) => say_issued(&issued)?,
                Err(error) => {
                    say(&format!("failed - {error}"))?;
                    if lines.next().is_none() {
                        break;
                    }
                }
            }
        }
        Ok(())
    })
}
