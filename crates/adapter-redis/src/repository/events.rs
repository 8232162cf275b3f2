//! News of changes, over a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use redis::{PushInfo, PushKind, Value};
use tenure_domain::{EndReason, SessionId, Timestamp};
use tenure_ports::{ChangeKind, EventStream, StoreError, StoreEvent};
use tokio::sync::{broadcast, mpsc};
use tokio::time::{Instant, timeout, timeout_at};

use crate::client::Client;
use crate::client::config::Limits;
use crate::client::connector::Connection;
use crate::client::managed_connection::with_jitter;
use crate::client::request_error::{NO_ANSWER, RequestError};
use crate::client::topology::Topology;
use crate::client::url::Address;

/// News that a slow reader may have waiting before it misses some.
const BACKLOG: usize = 4_096;
/// How often the server is asked whether it is the primary; a silent one is found within this and the response time-out.
const ASK_EVERY: Duration = Duration::from_millis(250);
const PAUSE: Duration = Duration::from_millis(200);

/// Subscribes to a channel. Once connected, the stream lasts: a broken connection is replaced.
pub(crate) async fn subscribe(client: &Client, channel: String) -> Result<EventStream, StoreError> {
    let source = Source { topology: Arc::clone(&client.topology), channel, limits: client.limits };
    let connected = source.connect().await.map_err(|failure| client.fail(failure, String::new))?;
    let (sender, receiver) = broadcast::channel(BACKLOG);
    tokio::spawn(source.run(connected, sender));
    Ok(Box::pin(stream::unfold(receiver, |mut receiver| async move {
        match receiver.recv().await {
            Ok(event) => Some((event, receiver)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some((StoreEvent::Lagged, receiver)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    })))
}

/// Where news comes from: on a cluster, any of its nodes tells what was announced on another.
struct Source {
    topology: Arc<Topology>,
    channel: String,
    limits: Limits,
}

struct Connected {
    connection: Connection,
    address: Address,
    pushes: mpsc::UnboundedReceiver<PushInfo>,
}

impl Source {
    async fn connect(&self) -> Result<Connected, RequestError> {
        let deadline = Instant::now() + self.limits.operation;
        let (sender, pushes) = mpsc::unbounded_channel();
        let (mut connection, address) = self.topology.dial(Arc::new(sender), deadline).await?;
        let until = deadline.min(Instant::now() + self.limits.response);
        match timeout_at(until, connection.subscribe(&self.channel)).await {
            Ok(Ok(())) => Ok(Connected { connection, address, pushes }),
            Ok(Err(error)) => Err(RequestError::of(&error, false)),
            Err(_) => Err(RequestError::not_sent(NO_ANSWER)),
        }
    }

    /// Passes news on until nobody listens any more.
    async fn run(self, mut connected: Connected, sender: broadcast::Sender<StoreEvent>) {
        loop {
            self.follow(connected, &sender).await;
            connected = loop {
                if sender.receiver_count() == 0 {
                    return;
                }
                match self.connect().await {
                    Ok(connected) => break connected,
                    Err(failure) => {
                        tracing::debug!(?failure, "no news from the server");
                        self.topology.reconsider(Instant::now() + self.limits.operation).await;
                        tokio::time::sleep(with_jitter(PAUSE)).await;
                    }
                }
            };
            // Said once news comes again, so that whoever looks then sees all that was missed.
            if sender.send(StoreEvent::Lagged).is_err() {
                return;
            }
        }
    }

    /// Passes on what one connection brings, while it lives.
    async fn follow(&self, mut connected: Connected, sender: &broadcast::Sender<StoreEvent>) {
        let mut asked = Instant::now();
        loop {
            match timeout_at(asked + ASK_EVERY, connected.pushes.recv()).await {
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
                    asked = Instant::now();
                    // A server that another has taken the place of answers on, and hears no more news.
                    if sender.receiver_count() == 0 || !self.topology.serves(&connected.address) {
                        return;
                    }
                    // Nor does a primary that has become a replica, while it has lost its primary.
                    let answer = timeout(self.limits.response, connected.connection.confirm_primary()).await;
                    if connected.connection.is_closed() || !matches!(answer, Ok(Ok(()))) {
                        return;
                    }
                }
            }
        }
    }
}

/// The news in a message: a time, then ids and codes. What a later version may add is passed over.
fn items(text: &str) -> Vec<StoreEvent> {
    let mut words = text.split(' ');
    let Some(at) = words.next().and_then(|word| word.parse().ok()).map(Timestamp::from_millis) else {
        return Vec::new();
    };
    let mut items = Vec::new();
    while let (Some(id), Some(code)) = (words.next(), words.next()) {
        if let (Ok(session), Some(kind)) = (id.parse::<SessionId>(), kind_of(code)) {
            items.push(StoreEvent::Changed { session, kind, at });
        }
    }
    items
}

fn kind_of(code: &str) -> Option<ChangeKind> {
    let kinds =
        [ChangeKind::Issued, ChangeKind::Rotated, ChangeKind::ClientUpdated, ChangeKind::Imported, ChangeKind::Purged];
    let ended = || code.parse::<EndReason>().ok().map(ChangeKind::Ended);
    kinds.into_iter().find(|kind| kind.code() == code).or_else(ended)
}
