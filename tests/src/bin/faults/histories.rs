//! Histories of concurrent clients, recorded and judged: on a journal, and on a Redis where there is one.

use std::time::Instant;

use tenure_conformance::SystemRandom;
use tenure_ports::RandomSource as _;
use tenure_redis_test_server::Server;
use tenure_tests::history::{Handles, judge};

use crate::Failure;

/// Records so many on each store.
pub(crate) fn run(histories: u64) -> Result<(), Failure> {
    let mut bytes = [0; 8];
    SystemRandom.fill(&mut bytes)?;
    let seed = u64::from_le_bytes(bytes) >> 8;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build()?;
    runtime.block_on(async {
        let server = Server::start();
        for (store, handles) in [("JSON", Handles::json(seed)), ("Redis", Handles::redis(&server.url(), seed).await)] {
            let began = Instant::now();
            let calls = judge(&handles, histories, seed).await?;
            println!("{store}: {histories} histories, {calls} calls, all linearizable, {:?}", began.elapsed());
        }
        Ok(())
    })
}
