//! The connection over which the server tells of changes to the sessions kept in memory.
//!
//! It is asked to (`CLIENT TRACKING` with `OPTIN`) only for the records that are read to be kept: not for activity,
//! which changes all the time, and not for every session of the fleet, as a broadcast would.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{Cmd, Pipeline, PushInfo, PushKind, Value};
use tenure_domain::{Session, SessionId};
use tenure_ports::StoreError;
use tokio::time::{Instant, timeout, timeout_at};

use crate::dial::Connection;
use crate::link::Link;
use crate::near::Near;
use crate::role::LEASE;
use crate::store::RedisStore;
use crate::target::Limits;
use crate::time::steady;
use crate::trouble::{NO_ANSWER, Trouble};
use crate::url::Address;

/// How often the server is asked whether it is the primary; several questions are lost before the lease runs out.
const ASK_EVERY: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(200);
/// How long a server is left alone that gave no sign.
const REST: Duration = Duration::from_millis(20);
/// What a node of a cluster says while it is part of the greater part.
const WHOLE: &str = "cluster_state:ok";

/// What shows that a server still tells of every change.
#[derive(Clone, Copy)]
pub(crate) enum Sign {
    /// It says that it is the primary.
    Primary,
    /// It says that, and that the cluster is whole: a node that was cut off from the others takes itself for a primary
    /// while another may have taken its place; it calls the cluster down when it notices, as it does to whoever reads
    /// from it.
    WholeCluster,
}

impl Sign {
    /// Whether the server gives it, to a question that is sent after this.
    async fn is_given(self, connection: &mut Connection) -> bool {
        let whole = match self {
            Self::Primary => true,
            Self::WholeCluster => match connection.send(redis::cmd("CLUSTER").arg("INFO")).await {
                Ok(Value::BulkString(text)) => String::from_utf8_lossy(&text).contains(WHOLE),
                Ok(Value::VerbatimString { text, .. }) => text.contains(WHOLE),
                _ => false,
            },
        };
        whole && connection.confirm_primary().await.is_ok()
    }
}

/// Keeps a connection to the server behind `link`, for as long as somebody keeps both.
pub(crate) async fn keep(near: Weak<Near>, link: Weak<Link>, sign: Sign, limits: Limits) {
    let mut told = false;
    while let (Some(kept), Some(server)) = (near.upgrade(), link.upgrade()) {
        match connect(&kept, &server, limits).await {
            Ok((connection, address)) => {
                told = false;
                kept.connected(connection.clone());
                drop((kept, server));
                let right = || link.upgrade().is_some_and(|link| link.route().leads_right(&address));
                follow(&near, connection, sign, right).await;
            }
            Err(trouble) => {
                if !told {
                    tracing::warn!(?trouble, "the near cache is off for now");
                    told = true;
                }
                drop((kept, server));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connect(near: &Arc<Near>, link: &Link, limits: Limits) -> Result<(Connection, Address), Trouble> {
    let told = Arc::downgrade(near);
    let learn = move |push: PushInfo| {
        if let Some(near) = told.upgrade() {
            learn(&near, &push);
        }
        Ok::<_, ()>(())
    };
    let deadline = Instant::now() + limits.operation;
    let (mut connection, address) = link.route().dial(Some(Arc::new(learn)), deadline).await?;
    let mut tracking = redis::cmd("CLIENT");
    tracking.arg("TRACKING").arg("ON").arg("OPTIN");
    match timeout_at(deadline, connection.send(&tracking)).await {
        Ok(Ok(Value::ServerError(error))) => Err(Trouble::of_server(&error)),
        Ok(Ok(_)) => Ok((connection, address)),
        Ok(Err(error)) => Err(Trouble::of(&error, false)),
        Err(_) => Err(Trouble::Unsent(NO_ANSWER.to_owned())),
    }
}

/// Renews the lease while the right server gives its sign.
async fn follow(near: &Weak<Near>, mut connection: Connection, sign: Sign, right: impl Fn() -> bool) {
    loop {
        let sent = steady();
        let given = timeout(LEASE, sign.is_given(&mut connection)).await;
        let Some(near) = near.upgrade() else {
            return;
        };
        match given {
            Ok(true) if right() && !connection.is_closed() => near.renew(sent),
            _ => {
                near.disconnected();
                drop(near);
                tokio::time::sleep(REST).await;
                return;
            }
        }
        drop(near);
        tokio::time::sleep(ASK_EVERY).await;
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
        let answers = timeout(self.limits.response, connection.send_all(&reads)).await;
        let Ok(Ok(answers)) = answers else {
            // In doubt until the server answers again; the other connection may be better.
            near.suspend();
            return None;
        };
        // Else it may be that of a server which is the primary no more.
        if !near.is_usable() {
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
        if session.end.is_none() && !self.ends.contradict(&session) {
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
