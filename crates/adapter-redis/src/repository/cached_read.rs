//! Reading a session and keeping it in the client cache.

use redis::{Cmd, Pipeline, Value};
use tenure_domain::{Session, SessionId};
use tenure_ports::StoreError;
use tokio::time::{timeout, timeout_at};

use crate::cache::client_cache::ClientCache;
use crate::cache::sharded_cache::ShardedCache;
use crate::client::request_error::{NO_ANSWER, RequestError};
use crate::repository::RedisStore;

impl RedisStore {
    /// Reads a session over the tracked connection and caches it. Where that is not possible, reads it over the usual
    /// connection.
    pub(crate) async fn read_through_cache(
        &self,
        cache: &ShardedCache,
        id: SessionId,
    ) -> Result<Option<Session>, StoreError> {
        let deadline = self.client.deadline();
        if let Some(cache) = cache.of(id)
            && let Some(found) = self.find_and_cache(&cache, id).await
        {
            return found.map(Some);
        }
        let late = |_| Err(self.client.fail(RequestError::outcome_unknown(NO_ANSWER), String::new));
        timeout_at(deadline, self.read_session(id)).await.unwrap_or_else(late)
    }

    /// Reads a session over the tracked connection and caches it. Returns `None` where that is not possible, or the
    /// session does not exist.
    async fn find_and_cache(&self, cache: &ClientCache, id: SessionId) -> Option<Result<Session, StoreError>> {
        let (ticket, mut connection) = cache.begin(id)?;
        let mut reads = Pipeline::with_capacity(3);
        // The activity comes first, so that it is never newer than the record.
        reads.add_command(get(self.keys.activity(id)));
        reads.add_command(redis::cmd("CLIENT").arg("CACHING").arg("YES").clone());
        reads.add_command(get(self.keys.session(id)));
        let answers = timeout(self.limits.response, connection.send_all(&reads)).await;
        let Ok(Ok(answers)) = answers else {
            // The tracked connection is in doubt until the server answers on it again. The usual one may still work.
            cache.suspend();
            return None;
        };
        // Otherwise the answer may be that of a server that is no longer the primary.
        if !cache.is_usable() {
            return None;
        }
        let [activity, allowed, record] = <[Value; 3]>::try_from(answers).ok()?;
        let (Value::Array(activity), Value::Okay, Value::Array(record)) = (activity, allowed, record) else {
            return None;
        };
        let (Some(activity), Some(Value::BulkString(record))) = (activity.first(), record.first()) else {
            return None;
        };
        let session = match self.decode(id, record, activity) {
            Ok(session) => session,
            Err(error) => return Some(Err(error)),
        };
        // A session that has ended is never accepted, so there is no use in caching it.
        if session.end.is_none() && !self.recent_ends.contradict(&session) {
            ticket.store(session.clone());
        }
        Some(Ok(session))
    }
}

/// Makes an `MGET` of one key. Unlike `GET`, it returns nil for a key of another type, as the uncached read does.
fn get(key: String) -> Cmd {
    let mut command = redis::cmd("MGET");
    command.arg(key);
    command
}
