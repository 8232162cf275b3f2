//! A server that may use no more memory.

use std::sync::Arc;

use tenure_conformance::SystemRandom;
use tenure_domain::{ClientInfo, DeviceId, Millis, Policy, Subject};
use tenure_ports::StoreError;
use tenure_ports::prelude::*;
use tenure_redis_test_server::Server;
use tenure_service::{ActivityMode, IssueError, IssueRequest, Sessions, Target, WriteError};

use crate::Failure;
use crate::load::connect;

/// Room for some thousands of sessions.
const MORE: u64 = 3_000_000;

fn request(number: usize) -> Result<IssueRequest, Failure> {
    let device = DeviceId::new(&format!("device {number}"))?;
    Ok(IssueRequest { device, subject: Subject::default(), client: ClientInfo::default(), ttl: None })
}

pub(crate) async fn full() -> Result<(), Failure> {
    let server = Server::start();
    let store = connect(&server.url()).await?;
    let clock = store.clock();
    let sessions = Sessions::new(store, clock, Arc::new(SystemRandom), Policy::default());
    let info: String = server.ask(&["INFO", "memory"]);
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).ok_or("no used_memory")?;
    let most = used.trim().parse::<u64>()? + MORE;
    server.ask::<()>(&["CONFIG", "SET", "maxmemory", &most.to_string()]);
    let mut issued = Vec::new();
    let error = loop {
        match sessions.issue(request(issued.len())?).await {
            Ok(done) => issued.push(done),
            Err(IssueError::Write(interrupted)) => match interrupted.error {
                WriteError::Store(error @ StoreError::Full { .. }) => break error,
                error => return Err(format!("another error than that there is no room: {error}").into()),
            },
            Err(error) => return Err(error.into()),
        }
        if issued.len() > 100_000 {
            return Err("maxmemory was never reached".into());
        }
    };
    println!("{} sessions issued until there was no more room: {error}", issued.len());
    for done in issued.iter().take(500) {
        sessions.verify(&done.token, ActivityMode::Ignore).await?;
        let target = Target::Ids(vec![done.session.id]);
        let revoked = sessions.revoke(&target, None, &Sessions::revocation(None, None)).await;
        let revoked = revoked.map_err(|error| format!("without room, a revocation fails: {}", error.error))?;
        if revoked.ended.len() != 1 || sessions.verify(&done.token, ActivityMode::Ignore).await.is_ok() {
            return Err("without room, a revocation does not hold".into());
        }
    }
    let cleaned = sessions.cleanup(Millis::ZERO, false, |_| {}).await;
    let cleaned = cleaned.map_err(|error| format!("without room, a cleanup fails: {error}"))?;
    let again = sessions.issue(request(issued.len())?).await;
    println!("without room 500 sessions were revoked, {cleaned} cleaned up; then issuing works: {}", again.is_ok());
    again.map(drop).map_err(|error| format!("after a cleanup there is still no room: {error}").into())
}
