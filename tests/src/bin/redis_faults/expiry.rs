//! What is left when every process was killed and every session is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tenure_conformance::SystemRandom;
use tenure_domain::{ClientInfo, DeviceId, Millis, Policy, PolicySettings, Subject};
use tenure_ports::prelude::*;
use tenure_redis_test_server::Server;
use tenure_service::{ActivityMode, IssueRequest, Sessions, Target};
use tokio::time::sleep;

use crate::Failure;
use crate::load::connect;

/// The buckets: each may leave its counter.
const BUCKETS: usize = 1_024;
const TTL: Millis = Millis::seconds(2);
const RETENTION: Millis = Millis::seconds(1);
/// Redis looks for expired keys a few times a second, and takes some of them each time.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) async fn run(count: u64) -> Result<(), Failure> {
    let server = Server::start();
    let store = connect(&server.url()).await?;
    let policy = Policy::new(&PolicySettings {
        token_ttl: Some(TTL),
        max_lifetime: Some(Millis::minutes(1)),
        retention: Some(RETENTION),
        ..PolicySettings::default()
    })?;
    let clock = store.clock();
    let sessions = Sessions::new(store, clock, Arc::new(SystemRandom), policy);
    for number in 0..count {
        let device = DeviceId::new(&format!("device {}", number / 3))?;
        let subject = Subject::new(&format!("subject {}", number / 3 % 50))?;
        let issued = sessions.issue(IssueRequest { device, subject, client: ClientInfo::default(), ttl: None }).await?;
        sessions.verify(&issued.token, ActivityMode::Record).await?;
        match number % 4 {
            0 => drop(sessions.rotate(&issued.token).await?),
            1 => {
                let target = Target::Ids(vec![issued.session.id]);
                let done = sessions.revoke(&target, None, &Sessions::revocation(None, None)).await;
                done.map_err(|error| error.error)?;
            }
            _ => {}
        }
        if number % 100 == 99 {
            sessions.flush_activity().await?;
        }
    }
    sessions.flush_activity().await?;
    // Nobody tidies up: as if every process had been killed.
    drop(sessions);
    let keys = || server.ask::<Vec<String>>(&["KEYS", "*"]);
    let (most, ended) = (keys().len(), Instant::now());
    let left = loop {
        let left = keys();
        if left.iter().all(|key| key.ends_with("}:n")) {
            break left.len();
        }
        if ended.elapsed() > PATIENCE {
            let other = left.iter().find(|key| !key.ends_with("}:n"));
            return Err(format!("after {PATIENCE:?} there is still {other:?} and more").into());
        }
        sleep(Duration::from_millis(50)).await;
    };
    println!(
        "{count} sessions: of {most} keys {left} were left {:.1?} after the last call, each a bucket's counter; a \
         session lived 2 s, and was kept for 1 s",
        ended.elapsed()
    );
    if left > BUCKETS { Err(format!("{left} keys are more than there are buckets").into()) } else { Ok(()) }
}
