//! The connection over which the server tells of changes to the sessions kept in memory.
//!
//! It is asked to (`CLIENT TRACKING` with `OPTIN`) only for the records that are read to be kept: not for activity,
//! which changes all the time, and not for every session of the fleet, as a broadcast would.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, ProtocolVersion, PushInfo, PushKind, Value};
use tenure_domain::{Session, SessionId};
use tenure_ports::StoreError;
use tokio::time::timeout;

use crate::link::Limits;
use crate::near::{LEASE, Near};
use crate::store::RedisStore;
use crate::target::Target;
use crate::time::steady;
use crate::trouble::Trouble;

/// How often a ping is sent; several are lost before the lease runs out.
const PING_EVERY: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(200);

/// Keeps the connection, for as long as somebody keeps `near`.
pub(crate) async fn keep(near: Weak<Near>, target: Target, limits: Limits) {
    let mut told = false;
    while let Some(kept) = near.upgrade() {
        match connect(&kept, &target, limits).await {
            Ok(connection) => {
                told = false;
                kept.connected(connection.clone());
                drop(kept);
                follow(&near, connection).await;
            }
            Err(trouble) => {
                if !told {
                    tracing::warn!(server = %target.place, ?trouble, "the near cache is off for now");
                    told = true;
                }
                drop(kept);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connect(near: &Arc<Near>, target: &Target, limits: Limits) -> Result<MultiplexedConnection, Trouble> {
    let told = Arc::downgrade(near);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(limits.connect))
        .set_response_timeout(Some(limits.response))
        // Called between two answers, in the order in which the server sent them.
        .set_push_sender(move |push: PushInfo| {
            if let Some(near) = told.upgrade() {
                learn(&near, &push);
            }
            Ok::<_, ()>(())
        });
    let of = |error: redis::RedisError| Trouble::of(&error, false);
    let settings = target.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    let client = Client::open(target.info.clone().set_redis_settings(settings)).map_err(of)?;
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(of)?;
    let mut tracking = redis::cmd("CLIENT");
    tracking.arg("TRACKING").arg("ON").arg("OPTIN");
    match connection.send_packed_command(&tracking).await.map_err(of)? {
        Value::ServerError(error) => Err(Trouble::of_server(&error)),
        _ => Ok(connection),
    }
}

/// Renews the lease while pings are answered.
async fn follow(near: &Weak<Near>, mut connection: MultiplexedConnection) {
    let ping = redis::cmd("PING");
    loop {
        let sent = steady();
        let answer = timeout(LEASE, connection.send_packed_command(&ping)).await;
        let Some(near) = near.upgrade() else {
            return;
        };
        match answer {
            Ok(Ok(value)) if !matches!(value, Value::ServerError(_)) => near.renew(sent),
            _ => {
                near.disconnected();
                return;
            }
        }
        drop(near);
        tokio::time::sleep(PING_EVERY).await;
    }
}

/// Takes in what the server says unasked.
fn learn(near: &Near, push: &PushInfo) {
    match (&push.kind, &push.data[..]) {
        (PushKind::Invalidate, [Value::Array(keys)]) => {
            for key in keys {
                match session_of(key) {
                    Some(id) => near.forget(id),
                    None => near.forget_all(),
                }
            }
        }
        // Nothing named: the server forgot all its keys.
        (PushKind::Invalidate, _) => near.forget_all(),
        (PushKind::Disconnection, _) => near.suspend(),
        _ => {}
    }
}

/// Every tracked key ends with a session's id.
fn session_of(key: &Value) -> Option<SessionId> {
    match key {
        Value::BulkString(key) => SessionId::from_ascii(key.last_chunk::<20>()?).ok(),
        _ => None,
    }
}

impl RedisStore {
    /// Reads a session over the tracked connection and keeps it; `None` where that cannot be done, and the session
    /// is to be read as if there were no near cache.
    pub(crate) async fn find_and_keep(&self, near: &Near, id: SessionId) -> Option<Result<Session, StoreError>> {
        let (ticket, mut connection) = near.begin(id)?;
        let mut reads = Pipeline::with_capacity(3);
        // Activity first: what was read of it before is never later than the record's own.
        reads.add_command(get(self.keys.activity(id)));
        reads.add_command(redis::cmd("CLIENT").arg("CACHING").arg("YES").clone());
        reads.add_command(get(self.keys.session(id)));
        let answers = timeout(self.limits.response, connection.send_packed_commands(&reads, 0, 3)).await;
        let Ok(Ok(answers)) = answers else {
            // In doubt until a ping is answered again; the other connection may be better.
            near.suspend();
            return None;
        };
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
        if session.end.is_none() {
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
