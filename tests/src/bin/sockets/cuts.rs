//! How soon sockets are cut, and what passes afterwards.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tenure_domain::{Millis, Timestamp};
use tenure_service::Issued;
use tokio::task::JoinHandle;

use crate::Failure;
use crate::peers::{Closed, Stamps, connect, until_closed, upstream};
use crate::stand::{Gateway, SUBJECT, Stand};

const HOUR: Millis = Millis::hours(1);
/// How often each client sends something.
const EVERY: Duration = Duration::from_millis(250);
/// What the contract gives a cut.
const BOUND: u64 = 100;

type Clients = Vec<JoinHandle<Result<Closed, Failure>>>;

/// Opens a socket for each session, each sending away, spread over the gateways.
async fn open(gateways: &[&Gateway], issued: &[Issued]) -> Result<Clients, Failure> {
    let one = |n: usize| async move {
        let token = issued[n].token.to_text();
        let gateway = gateways[n % gateways.len()];
        connect(&gateway.address, &format!("/stamps/{n}"), Some(token.expose())).await
    };
    let mut clients = Vec::new();
    for chunk in (0..issued.len()).collect::<Vec<_>>().chunks(100) {
        for stream in try_join_all(chunk.iter().map(|n| one(*n))).await? {
            clients.push(tokio::spawn(until_closed(stream, EVERY)));
        }
    }
    Ok(clients)
}

async fn all(clients: Clients) -> Result<Vec<Closed>, Failure> {
    let mut closed = Vec::with_capacity(clients.len());
    for client in clients {
        closed.push(client.await??);
    }
    Ok(closed)
}

/// Milliseconds from the first to the second of each, in order; early ones count as none.
fn lags(pairs: impl Iterator<Item = (Timestamp, Timestamp)>) -> Vec<u64> {
    let mut lags: Vec<u64> = pairs.map(|(from, to)| to.since(from).get()).collect();
    lags.sort_unstable();
    lags
}

fn spread(lags: &[u64]) -> String {
    let at = |percent: usize| lags[(lags.len() - 1) * percent / 100];
    format!("p50 {} ms, p99 {} ms, longest {} ms", at(50), at(99), at(100))
}

fn check(closed: &[Closed], code: u16, reason: &str, lags: &[u64]) -> Result<(), Failure> {
    if let Some(other) = closed.iter().find(|closed| closed.code != code || closed.reason != reason) {
        return Err(format!("closed with {} {:?}", other.code, other.reason).into());
    }
    let p99 = lags[(lags.len() - 1) * 99 / 100];
    if p99 > BOUND { Err(format!("p99 is {p99} ms, more than {BOUND} ms").into()) } else { Ok(()) }
}

fn passed_afterwards(stamps: &Stamps) -> usize {
    stamps.lock().iter().filter(|(_, stamp)| *stamp == u64::MAX).count()
}

async fn revoke(stand: &Stand) -> Result<Duration, Failure> {
    let start = Instant::now();
    let mut command = stand.command(&["sessions", "revoke", "--subject", SUBJECT, "--yes", "--quiet"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(start.elapsed())
}

async fn ends(stand: &Stand, issued: &[Issued]) -> Result<Vec<Timestamp>, Failure> {
    let mut ends = Vec::new();
    for issued in issued {
        let session = stand.sessions.get(issued.session.id).await?.ok_or("a session is gone")?;
        ends.push(session.ended_at());
    }
    Ok(ends)
}

async fn cut(stand: &Stand, gateways: &[&Gateway], stamps: &Stamps, count: usize) -> Result<String, Failure> {
    let issued = stand.issue(count, 1, HOUR).await?;
    let clients = open(gateways, &issued).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let took = revoke(stand).await?;
    let closed = all(clients).await?;
    let lags = lags(ends(stand, &issued).await?.into_iter().zip(closed.iter().map(|closed| closed.at)));
    check(&closed, 4401, "revoked", &lags)?;
    let after = passed_afterwards(stamps);
    if after > 0 {
        return Err(format!("{after} messages passed after a close frame").into());
    }
    Ok(format!(
        "every one closed 4401 revoked, after its session's end: {}; 0 messages passed afterwards; the command took \
         {took:.0?}",
        spread(&lags)
    ))
}

/// All sockets of one subject, each of a session of its own, when another process revokes them.
pub(crate) async fn revocation(tenure: &str, redis: bool, count: usize) -> Result<(), Failure> {
    let stand = Stand::new(tenure, redis).await?;
    let (address, stamps) = upstream().await?;
    let gateway = stand.gateway(address, &[])?;
    let outcome = cut(&stand, &[&gateway], &stamps, count).await?;
    println!("revoke, {}, {count} sockets: {outcome}", stand.name());
    Ok(())
}

/// The same on two gateways over one Redis.
pub(crate) async fn fleet(tenure: &str, count: usize) -> Result<(), Failure> {
    let stand = Stand::new(tenure, true).await?;
    let (address, stamps) = upstream().await?;
    let gateways = [stand.gateway(address, &[])?, stand.gateway(address, &[])?];
    let outcome = cut(&stand, &[&gateways[0], &gateways[1]], &stamps, count).await?;
    println!("revoke, two gateways on one Redis, {count} sockets: {outcome}");
    Ok(())
}

/// Sockets whose sessions expire one after the other while they send.
pub(crate) async fn expiry(tenure: &str, redis: bool, count: usize) -> Result<(), Failure> {
    let stand = Stand::new(tenure, redis).await?;
    let (address, stamps) = upstream().await?;
    let gateway = stand.gateway(address, &[])?;
    let issued = stand.issue(count, 1, Millis::seconds(12)).await?;
    let clients = open(&[&gateway], &issued).await?;
    let closed = all(clients).await?;
    let expiries = issued.iter().map(|issued| issued.session.expires_at);
    let lags = lags(expiries.zip(closed.iter().map(|closed| closed.at)));
    check(&closed, 4401, "expired", &lags)?;
    let late = stamps.lock().iter().filter(|(n, at)| *at >= issued[*n as usize].session.expires_at.as_millis()).count();
    if late > 0 {
        return Err(format!("{late} messages sent after the expiry were forwarded").into());
    }
    let before = stamps.lock().len();
    println!(
        "expiry, {}, {count} sockets: every one closed 4401 expired, after expires_at: {}; of those sent later 0 were \
         forwarded, of those before {before}",
        stand.name(),
        spread(&lags)
    );
    Ok(())
}

/// Sockets while their Redis is stopped.
pub(crate) async fn loss(tenure: &str, count: usize) -> Result<(), Failure> {
    let stand = Stand::new(tenure, true).await?;
    let (address, _) = upstream().await?;
    let gateway = stand.gateway(address, &["--store-loss-grace", "5s"])?;
    let issued = stand.issue(count, 1, HOUR).await?;
    let clients = open(&[&gateway], &issued).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let server = stand.server.as_ref().ok_or("no server")?;
    server.freeze();
    let (start, lost) = (Instant::now(), stand.sessions.now());
    let token = issued[0].token.to_text();
    let refused = connect(&gateway.address, "/stamps/0", Some(token.expose())).await;
    let answered = start.elapsed();
    let status = refused.err().map(|error| error.to_string()).unwrap_or_default();
    let closed = all(clients).await?;
    server.thaw();
    if !status.contains("503") || closed.iter().any(|closed| closed.code != 1013) {
        return Err(format!("a new socket got {status:?}, old ones {}", closed[0].code).into());
    }
    let stayed = lags(closed.iter().map(|closed| (lost, closed.at)));
    println!(
        "Redis stopped, {count} sockets, grace 5 s: a new one got 503 after {answered:.0?}; old ones stayed and then \
         got 1013: first {} ms, last {} ms after the stop",
        stayed[0],
        stayed[stayed.len() - 1]
    );
    Ok(())
}
