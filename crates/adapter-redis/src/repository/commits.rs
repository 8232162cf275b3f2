//! The core of the port: finding, loading and changing sessions.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use tenure_domain::{Bucket, Commit, Device, DeviceId, Revision, Session, SessionId, Touch};
use tenure_ports::{CommitError, FindOptions, SessionCommits, StoreError};

use crate::client::{Invocation, Request};
use crate::repository::RedisStore;
use crate::repository::scripts::TOUCH;

/// The number of touches in one call of the script.
const TOUCHES: usize = 100;

#[async_trait]
impl SessionCommits for RedisStore {
    /// For [`FindOptions::FOR_USE`], only the record is read, until a session with an idle timeout is seen.
    async fn find(&self, id: SessionId, options: FindOptions) -> Result<Option<Session>, StoreError> {
        if options.stale_activity && self.cache.is_none() && !self.idle_seen.load(Ordering::Relaxed) {
            match self.read_record(id).await? {
                Some(session) if session.depends_on_activity() => self.idle_seen.store(true, Ordering::Relaxed),
                found => return Ok(found.map(|session| self.recent_ends.correct(session))),
            }
        }
        let found = match &self.cache {
            Some(cache) => self.read_through_cache(cache, id).await?,
            None => self.read_session(id).await?,
        };
        Ok(found.map(|session| self.recent_ends.correct(session)))
    }

    /// Where the server has forgotten an end, the session is ended there again before the device is returned.
    async fn load(&self, device: &DeviceId) -> Result<Device, StoreError> {
        let loaded = self.read_device(device).await?;
        if self.restore_ends_of(&loaded).await? { self.read_device(device).await } else { Ok(loaded) }
    }

    /// Where the session has ended and commits must reach a replica, a replica has the end before it is returned, since
    /// users may be told of it.
    async fn load_by_session(&self, session: SessionId) -> Result<Option<Device>, StoreError> {
        let mut loaded = self.read_device_of(session).await?;
        if let Some(device) = &loaded
            && self.restore_ends_of(device).await?
        {
            loaded = self.read_device_of(session).await?;
        }
        if loaded.as_ref().and_then(|device| device.session(session)).is_some_and(|session| session.end.is_some()) {
            self.confirm(session.bucket()).await?;
        }
        Ok(loaded)
    }

    async fn commit(&self, commit: &Commit) -> Result<Revision, CommitError> {
        let outcome = self.submit(commit).await;
        // Whatever the outcome was, what this process keeps in memory may be outdated.
        if let Some(cache) = &self.cache {
            commit.changes.iter().for_each(|change| cache.forget(change.session().id));
        }
        if matches!(outcome, Ok(_) | Err(CommitError::NotDurable { .. })) {
            self.recent_ends.keep(commit);
        }
        outcome
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), StoreError> {
        let mut buckets: BTreeMap<Bucket, Vec<&Touch>> = BTreeMap::new();
        for touch in touches {
            buckets.entry(touch.session.bucket()).or_default().push(touch);
        }
        let calls: Vec<Request> = buckets
            .values()
            .flat_map(|touches| touches.chunks(TOUCHES))
            .map(|touches| {
                let keys = touches
                    .iter()
                    .flat_map(|touch| [self.keys.session(touch.session), self.keys.activity(touch.session)]);
                let mut call = Invocation::new(&TOUCH, keys.collect());
                for touch in touches {
                    call.arg(touch.at.as_millis().to_string());
                }
                Request::Script(call)
            })
            .collect();
        let answer = self.client.send_all_repeatable(&calls).await;
        answer
            .map(drop)
            .map_err(|failure| self.client.fail(failure, || "of the activity of one of the sessions".to_owned()))
    }
}
