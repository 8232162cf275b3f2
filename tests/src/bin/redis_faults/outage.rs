//! Servers that stop, die and come back, or are taken the place of.

use std::time::{Duration, Instant};

use tenure_redis_test_server::{Sentinels, Server};
use tokio::time::sleep;

use crate::Failure;
use crate::load::{Load, count, margin};

/// How soon everything works again once the server is back.
const RECOVERY: Duration = Duration::from_millis(1_000);
/// How long an outage lasts: longer than any deadline.
const OUTAGE: Duration = Duration::from_millis(1_500);
/// The longest that a failover may take here: the sentinels call a primary down after half a second.
const FAILOVER: Duration = Duration::from_secs(60);

pub(crate) async fn stop(rounds: u64) -> Result<(), Failure> {
    let mut server = Server::start();
    let load = Load::start(&server.url(), 4, 6).await?;
    let mut slowest = Duration::ZERO;
    for round in 0..2 * rounds {
        load.goes_on(FAILOVER).await?;
        sleep(Duration::from_millis(300)).await;
        let killed = round % 2 == 1;
        if killed {
            server.kill()
        } else {
            server.freeze()
        }
        // What the server had answered before may still arrive.
        sleep(Duration::from_millis(50)).await;
        load.outage();
        sleep(OUTAGE).await;
        load.recovers();
        if killed {
            tokio::task::block_in_place(|| server.restart())
        } else {
            server.thaw()
        }
        let took = load.goes_on(FAILOVER).await?;
        slowest = slowest.max(took);
        if took > RECOVERY + margin() {
            return Err(format!("it took {took:?} after the server's return until everything worked again").into());
        }
    }
    let ended = load.end().await?;
    let tally = ended.as_ref().as_ref();
    println!("{rounds} stops and {rounds} kills: {tally}");
    println!(
        "{} accepted while no server could answer; everything worked again at most {} ms after its return",
        count(&tally.accepted_in_outage),
        slowest.as_millis()
    );
    tally.check_answers()
}

pub(crate) async fn failover(rounds: u64) -> Result<(), Failure> {
    let mut sentinels = Sentinels::start();
    let load = Load::start(&sentinels.url(), 4, 6).await?;
    let (mut gaps, mut slowest) = (Vec::new(), Duration::ZERO);
    for _ in 0..rounds {
        load.goes_on(FAILOVER).await?;
        sleep(Duration::from_millis(500)).await;
        let primary = tokio::task::block_in_place(|| sentinels.primary());
        let killed = Instant::now();
        sentinels.server_mut(primary).kill();
        sleep(Duration::from_millis(50)).await;
        load.goes_on(FAILOVER).await?;
        gaps.push(killed.elapsed());
        slowest = slowest.max(killed.elapsed());
        tokio::task::block_in_place(|| {
            sentinels.server_mut(primary).restart();
            sentinels.wait_until_settled();
        });
    }
    let ended = load.end().await?;
    let tally = ended.as_ref().as_ref();
    gaps.sort_unstable();
    println!("{rounds} failovers: {tally}");
    println!(
        "writers went on by themselves {} ms after the kill in the middle, {} ms at most (the sentinels wait \
         500 ms before they call a primary down); with redis.durability = local {} acknowledged revocations came \
         undone and {} acknowledged sessions vanished",
        gaps.get(gaps.len() / 2).copied().unwrap_or_default().as_millis(),
        slowest.as_millis(),
        count(&tally.undone),
        count(&tally.vanished),
    );
    tally.check()
}
