//! Invalidation: the connection over which the server reports changes to cached sessions.
//!
//! The server is asked to report changes (`CLIENT TRACKING` with `OPTIN`) only for the records that are read for the
//! cache: not for activity, which changes all the time, and not for every session, as a broadcast would.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tenure_domain::SessionId;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cache::client_cache::ClientCache;
use crate::client::config::Limits;
use crate::client::connector::Connection;
use crate::client::managed_connection::ManagedConnection;
use crate::client::request_error::{NO_ANSWER, RequestError};
use crate::client::role::LEASE;
use crate::client::url::Address;
use crate::repository::clock::monotonic_micros;

/// How often the server is asked whether it is the primary. Several questions have to be lost before the lease ends.
const ASK_EVERY: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(200);
/// How long to wait before a server that did not answer is asked again.
const REST: Duration = Duration::from_millis(20);
/// What a cluster node answers while it is part of the majority.
const WHOLE: &str = "cluster_state:ok";

/// The probe that shows that a server still reports every change.
#[derive(Clone, Copy)]
pub(crate) enum HealthProbe {
    /// The server says that it is the primary.
    Primary,
    /// The server says that it is the primary, and that the cluster is whole. A node that was cut off from the others
    /// still calls itself a primary while another may have replaced it. When it notices, it reports the cluster as
    /// down, to this probe and to all readers.
    WholeCluster,
}

impl HealthProbe {
    /// Sends the probe. Returns whether the server gave the expected answer.
    async fn check(self, connection: &mut Connection) -> bool {
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

/// Keeps a connection to the server behind `managed`, while both are in use.
pub(crate) async fn keep(
    cache: Weak<ClientCache>,
    managed: Weak<ManagedConnection>,
    probe: HealthProbe,
    limits: Limits,
) {
    let mut told = false;
    while let (Some(kept), Some(server)) = (cache.upgrade(), managed.upgrade()) {
        match connect(&kept, &server, limits).await {
            Ok((connection, address)) => {
                told = false;
                kept.connected(connection.clone());
                drop((kept, server));
                let right = || managed.upgrade().is_some_and(|managed| managed.route().is_current_primary(&address));
                follow(&cache, connection, probe, right).await;
            }
            Err(failure) => {
                if !told {
                    tracing::warn!(?failure, "the near cache is off for now");
                    told = true;
                }
                drop((kept, server));
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connect(
    cache: &Arc<ClientCache>,
    managed: &ManagedConnection,
    limits: Limits,
) -> Result<(Connection, Address), RequestError> {
    let told = Arc::downgrade(cache);
    let learn = move |push: PushInfo| {
        if let Some(cache) = told.upgrade() {
            learn(&cache, &push);
        }
        Ok::<_, ()>(())
    };
    let deadline = Instant::now() + limits.operation;
    let (mut connection, address) = managed.route().dial(Some(Arc::new(learn)), deadline).await?;
    let mut tracking = redis::cmd("CLIENT");
    tracking.arg("TRACKING").arg("ON").arg("OPTIN");
    match timeout_at(deadline, connection.send(&tracking)).await {
        Ok(Ok(Value::ServerError(error))) => Err(RequestError::of_server(&error)),
        Ok(Ok(_)) => Ok((connection, address)),
        Ok(Err(error)) => Err(RequestError::of(&error, false)),
        Err(_) => Err(RequestError::not_sent(NO_ANSWER)),
    }
}

/// Renews the lease while the right server answers the probe.
async fn follow(cache: &Weak<ClientCache>, mut connection: Connection, probe: HealthProbe, right: impl Fn() -> bool) {
    loop {
        let sent = monotonic_micros();
        let given = timeout(LEASE, probe.check(&mut connection)).await;
        let Some(cache) = cache.upgrade() else {
            return;
        };
        match given {
            Ok(true) if right() && !connection.is_closed() => cache.renew(sent),
            _ => {
                cache.disconnected();
                drop(cache);
                tokio::time::sleep(REST).await;
                return;
            }
        }
        drop(cache);
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Handles the server's push messages.
fn learn(cache: &ClientCache, push: &PushInfo) {
    match (&push.kind, &push.data[..]) {
        (PushKind::Invalidate, [Value::Array(keys)]) => {
            for key in keys {
                match session_of(key) {
                    Some(id) => cache.forget(id),
                    None => cache.forget_all(),
                }
            }
        }
        // No key is named: the server has removed all its keys.
        (PushKind::Invalidate, _) => cache.forget_all(),
        (PushKind::Disconnection, _) => cache.suspend(),
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
