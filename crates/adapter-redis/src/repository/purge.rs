//! Removing records of inactive sessions, and checking for writes.

use std::collections::BTreeMap;

use async_trait::async_trait;
use redis::Value;
use tenure_domain::{BUCKETS, Bucket, DeviceId};
use tenure_ports::{Cursor, Purge, Purged, SessionUpkeep, StoreError};

use crate::client::{Invocation, Request};
use crate::repository::RedisStore;
use crate::repository::record::SUM;
use crate::repository::scripts::{PROBE, PURGE};

/// The largest number of buckets in one step. A step ends sooner once it has found [`SESSIONS_A_STEP`] sessions.
const BUCKETS_A_STEP: usize = 64;
const SESSIONS_A_STEP: usize = 4_096;
/// The number of records that are read at a time.
const CHUNK: usize = 8_192;

#[async_trait]
impl SessionUpkeep for RedisStore {
    /// Purges whole buckets at a time, because a device's sessions must go in one step. The cursor is the number of a
    /// bucket.
    async fn purge(&self, purge: &Purge, after: Option<Cursor>) -> Result<Purged, StoreError> {
        let first =
            after.map_or(Ok(0), |Cursor(number)| usize::try_from(number).map_err(|_| self.unexpected_reply()))?;
        let buckets: Vec<Bucket> = Bucket::all().skip(first).take(BUCKETS_A_STEP).collect();
        let ranges = self.ranges(&buckets, None, "-", "+", usize::MAX >> 1).await?;
        let (mut ids, mut done) = (Vec::new(), 0);
        for range in ranges {
            ids.extend(range);
            done += 1;
            if ids.len() >= SESSIONS_A_STEP {
                break;
            }
        }
        let mut devices: BTreeMap<DeviceId, Vec<Inactive>> = BTreeMap::new();
        for chunk in ids.chunks(CHUNK) {
            for (id, record, activity) in self.raw_records(chunk).await? {
                let session = self.decode(id, &record, &activity)?;
                if session.inactive_since(purge.now).is_some_and(|since| since <= purge.inactive_by) {
                    let sum = record.last_chunk::<SUM>().copied().unwrap_or_default();
                    let (used, counts) = (session.last_activity.as_millis(), session.is_retained(purge.now));
                    let inactive = Inactive { id: id.to_ascii(), sum, used, counts };
                    devices.entry(session.device.clone()).or_default().push(inactive);
                }
            }
        }
        let removed = if purge.dry_run {
            devices.values().flatten().filter(|inactive| inactive.counts).count() as u64
        } else {
            self.remove(&devices).await?
        };
        let next = first + done;
        Ok(Purged { removed, next: (next < usize::from(BUCKETS)).then_some(Cursor(next as u128)) })
    }

    /// Runs a script that writes nothing, but that a server only runs if it accepts writes.
    async fn check_writable(&self) -> Result<(), StoreError> {
        let answer = self.client.send_repeatable(&Request::Script(Invocation::new(&PROBE, Vec::new()))).await;
        answer.map(drop).map_err(|failure| self.client.fail(failure, String::new))
    }
}

impl RedisStore {
    async fn remove(&self, devices: &BTreeMap<DeviceId, Vec<Inactive>>) -> Result<u64, StoreError> {
        let calls: Vec<Request> = devices
            .iter()
            .map(|(device, sessions)| {
                let (keys, bucket) = (&self.keys, Bucket::of(device));
                let names =
                    vec![keys.device(device), keys.inactive(device), keys.index(bucket, None), keys.counter(bucket)];
                let mut call = Invocation::new(&PURGE, names);
                call.arg(keys.base(bucket)).arg(keys.channel()).arg(self.script_now());
                for inactive in sessions {
                    call.arg(inactive.id).arg(inactive.sum).arg(inactive.used.to_string()).arg(if inactive.counts {
                        "1"
                    } else {
                        "0"
                    });
                }
                Request::Script(call)
            })
            .collect();
        let answers = self.client.send_all_repeatable(&calls).await;
        let answers = answers.map_err(|failure| self.client.fail(failure, || "of one of the sessions".to_owned()))?;
        answers.into_iter().try_fold(0, |sum, answer| match answer {
            Value::Int(removed) => Ok(sum + removed.unsigned_abs()),
            _ => Err(self.unexpected_reply()),
        })
    }
}

/// An inactive session, to be removed if its record is still the same.
struct Inactive {
    id: [u8; 20],
    sum: [u8; SUM],
    used: u64,
    /// Whether the session is still retained. Only those are counted, since others are not shown to users.
    counts: bool,
}
