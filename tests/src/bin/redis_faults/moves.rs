//! Slots that move to other nodes, and scripts that are forgotten.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure_redis_test_server::{Cluster, Server};
use tokio::time::sleep;

use crate::Failure;
use crate::load::{Load, count};

pub(crate) async fn slots(length: Duration) -> Result<(), Failure> {
    let cluster = Arc::new(Cluster::start());
    let load = Load::start(&cluster.url(), 4, 6).await?;
    let (began, mut moved) = (Instant::now(), 0_u64);
    while began.elapsed() < length {
        let Some(id) = load.any() else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        let (moving, rest) = (Arc::clone(&cluster), Duration::from_millis(moved % 4 * 10));
        tokio::task::spawn_blocking(move || {
            let slot = moving.slot(&format!("{{{}}}", id.bucket()));
            moving.move_slot(slot, (moving.owner(slot) + 1) % 3, 1, rest);
        })
        .await?;
        moved += 1;
        if moved % 10 == 0 {
            for node in cluster.nodes() {
                node.ask::<()>(&["SCRIPT", "FLUSH"]);
            }
        }
    }
    let ended = load.end().await?;
    let tally = ended.as_ref().as_ref();
    println!("{moved} slots moved: {tally}");
    println!("{} revocations came undone, {} sessions vanished", count(&tally.undone), count(&tally.vanished));
    tally.check_answers()
}

pub(crate) async fn flush(length: Duration) -> Result<(), Failure> {
    let server = Server::start();
    let load = Load::start(&server.url(), 4, 6).await?;
    let (began, mut flushed) = (Instant::now(), 0_u64);
    while began.elapsed() < length {
        server.ask::<()>(&["SCRIPT", "FLUSH"]);
        flushed += 1;
        sleep(Duration::from_millis(100)).await;
    }
    let ended = load.end().await?;
    let tally = ended.as_ref().as_ref();
    println!("{flushed} times SCRIPT FLUSH: {tally}");
    tally.check_answers()?;
    let errors = count(&tally.unavailable_reads) + count(&tally.unavailable_writes) + count(&tally.unknown);
    if errors > 0 { Err(format!("{errors} errors").into()) } else { Ok(()) }
}
