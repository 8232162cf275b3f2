//! News of changes, over a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, PushKind, Value};
use tenure_domain::{EndReason, SessionId, Timestamp};
use tenure_ports::{ChangeKind, Feed, FeedItem, StoreError};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

use crate::link::Limits;
use crate::store::RedisStore;
use crate::trouble::Trouble;

/// News that a slow reader may have waiting before it misses some.
const BACKLOG: usize = 4_096;
/// How often the connection is tried; a silent one is found within this and the response time-out.
const PING_EVERY: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(200);

impl RedisStore {
    pub(crate) async fn feed(&self) -> Result<Feed, StoreError> {
        let source =
            Source { info: self.target.info.clone(), channel: self.keys.channel(), limits: Limits::of(&self.options) };
        let connected = source.connect().await.map_err(|trouble| self.wire.fail(trouble, String::new))?;
        let (sender, receiver) = broadcast::channel(BACKLOG);
        tokio::spawn(source.run(connected, sender));
        Ok(Box::pin(stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(item) => Some((item, receiver)),
                Err(broadcast::error::RecvError::Lagged(_)) => Some((FeedItem::Missed, receiver)),
                Err(broadcast::error::RecvError::Closed) => None,
            }
        })))
    }
}

/// Where news comes from.
struct Source {
    info: redis::ConnectionInfo,
    channel: String,
    limits: Limits,
}

struct Connected {
    connection: MultiplexedConnection,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
}

impl Source {
    async fn connect(&self) -> Result<Connected, Trouble> {
        let (sender, pushes) = mpsc::unbounded_channel();
        let settings = self.info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.limits.connect))
            .set_response_timeout(Some(self.limits.response))
            .set_push_sender(Arc::new(sender));
        let of = |error: redis::RedisError| Trouble::of(&error, false);
        let client = Client::open(self.info.clone().set_redis_settings(settings)).map_err(of)?;
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.map_err(of)?;
        connection.subscribe(&self.channel).await.map_err(of)?;
        Ok(Connected { connection, pushes })
    }

    /// Passes news on until nobody listens any more.
    async fn run(self, mut connected: Connected, sender: broadcast::Sender<FeedItem>) {
        loop {
            self.follow(connected, &sender).await;
            connected = loop {
                if sender.receiver_count() == 0 {
                    return;
                }
                match self.connect().await {
                    Ok(connected) => break connected,
                    Err(trouble) => {
                        tracing::debug!(?trouble, "no news from the server");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            };
            // Said once news comes again, so that whoever looks then sees all that was missed.
            if sender.send(FeedItem::Missed).is_err() {
                return;
            }
        }
    }

    /// Passes on what one connection brings, while it lives.
    async fn follow(&self, mut connected: Connected, sender: &broadcast::Sender<FeedItem>) {
        let ping = redis::cmd("PING");
        loop {
            match timeout(PING_EVERY, connected.pushes.recv()).await {
                Ok(Some(push)) if push.kind == PushKind::Message => {
                    if let [_, Value::BulkString(text)] = &push.data[..] {
                        for item in std::str::from_utf8(text).map(items).into_iter().flatten() {
                            if sender.send(item).is_err() {
                                return;
                            }
                        }
                    }
                }
                Ok(Some(push)) if push.kind != PushKind::Disconnection => {}
                Ok(_) => return,
                Err(_) => {
                    let answer = connected.connection.send_packed_command(&ping).await;
                    if answer.is_err() || sender.receiver_count() == 0 {
                        return;
                    }
                }
            }
        }
    }
}

/// The news in a message: a time, then ids and codes. What a later version may add is passed over.
fn items(text: &str) -> Vec<FeedItem> {
    let mut words = text.split(' ');
    let Some(at) = words.next().and_then(|word| word.parse().ok()).map(Timestamp::from_millis) else {
        return Vec::new();
    };
    let mut items = Vec::new();
    while let (Some(id), Some(code)) = (words.next(), words.next()) {
        if let (Ok(session), Some(kind)) = (id.parse::<SessionId>(), kind_of(code)) {
            items.push(FeedItem::Changed { session, kind, at });
        }
    }
    items
}

fn kind_of(code: &str) -> Option<ChangeKind> {
    let kinds =
        [ChangeKind::Issued, ChangeKind::Rotated, ChangeKind::Described, ChangeKind::Imported, ChangeKind::Purged];
    let ended = || code.parse::<EndReason>().ok().map(ChangeKind::Ended);
    kinds.into_iter().find(|kind| kind.code() == code).or_else(ended)
}
