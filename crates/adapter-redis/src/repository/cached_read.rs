//! Reading a session into the client cache.

use redis::{Cmd, Pipeline, Value};
use tenure_domain::{Session, SessionId};
use tenure_ports::StoreError;
use tokio::time::{timeout, timeout_at};

use crate::cache::client_cache::ClientCache;
use crate::cache::sharded_cache::ShardedCache;
use crate::client::request_error::{NO_ANSWER, RequestError};
use crate::repository::RedisStore;

impl RedisStore {
    /// Reads a session over the tracked connection and keeps it, or over the usual connection where that cannot be done.
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

    /// Reads a session over the tracked connection and keeps it; `None` where that cannot be done, and the session
    /// is to be read as if there were no near cache.
    async fn find_and_cache(&self, cache: &ClientCache, id: SessionId) -> Option<Result<Session, StoreError>> {
        let (ticket, mut connection) = cache.begin(id)?;
        let mut reads = Pipeline::with_capacity(3);
        // Activity first: what was read of it before is never later than the record's own.
        reads.add_command(get(self.keys.activity(id)));
        reads.add_command(redis::cmd("CLIENT").arg("CACHING").arg("YES").clone());
        reads.add_command(get(self.keys.session(id)));
        let answers = timeout(self.limits.response, connection.send_all(&reads)).await;
        let Ok(Ok(answers)) = answers else {
            // In doubt until the server answers again; the other connection may be better.
            cache.suspend();
            return None;
        };
        // Else it may be that of a server which is the primary no more.
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
        // What has ended is never accepted, and so need not be kept.
        if session.end.is_none() && !self.recent_ends.contradict(&session) {
            ticket.store(session.clone());
        }
        Some(Ok(session))
    }
}

/// MGET, which answers nothing for a key of another type, so that the two ways of reading cannot differ.
fn get(key: String) -> Cmd {
    let mut command = redis::cmd("MGET");
    command.arg(key);
    command
}
