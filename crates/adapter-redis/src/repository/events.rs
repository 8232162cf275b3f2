//! The stream of changes, over a connection of its own.

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

/// The largest number of events that wait for a slow reader. Beyond that, it misses some.
const BACKLOG: usize = 4_096;
/// The interval at which the server is asked whether it is the primary. A silent server is noticed within this interval
/// and the response timeout.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// The pause between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(200);

/// Subscribes to a channel. The stream replaces its connection when that breaks, and then yields
/// [`StoreEvent::Lagged`].
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

/// The source of events. On a cluster any node will do, since each passes on what was published on another.
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

    /// Passes events on until there are no more readers.
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
                        tracing::debug!(?failure, "could not subscribe to changes");
                        self.topology.reconsider(Instant::now() + self.limits.operation).await;
                        tokio::time::sleep(with_jitter(PAUSE)).await;
                    }
                }
            };
            // Sent once events arrive again, so that a reader who now looks at the sessions sees what was missed.
            if sender.send(StoreEvent::Lagged).is_err() {
                return;
            }
        }
    }

    /// Passes on the events of one connection, until it breaks or its server is no longer the right one.
    async fn follow(&self, mut connected: Connected, sender: &broadcast::Sender<StoreEvent>) {
        let mut asked = Instant::now();
        loop {
            match timeout_at(asked + ASK_EVERY, connected.pushes.recv()).await {
                Ok(Some(push)) if push.kind == PushKind::Message => {
                    if let [_, Value::BulkString(text)] = &push.data[..] {
                        for event in std::str::from_utf8(text).map(events).into_iter().flatten() {
                            if sender.send(event).is_err() {
                                return;
                            }
                        }
                    }
                }
                Ok(Some(push)) if push.kind != PushKind::Disconnection => {}
                Ok(_) => return,
                Err(_) => {
                    asked = Instant::now();
                    // A server that has been replaced may still answer, but gets no more events.
                    if sender.receiver_count() == 0 || !self.topology.serves(&connected.address) {
                        return;
                    }
                    // Neither does a primary that has become a replica and has lost its primary.
                    let answer = timeout(self.limits.response, connected.connection.confirm_primary()).await;
                    if connected.connection.is_closed() || !matches!(answer, Ok(Ok(()))) {
                        return;
                    }
                }
            }
        }
    }
}

/// Reads the events in a message: a time, then ids and codes. Codes of later versions are skipped.
fn events(text: &str) -> Vec<StoreEvent> {
    let mut words = text.split(' ');
    let Some(at) = words.next().and_then(|word| word.parse().ok()).map(Timestamp::from_millis) else {
        return Vec::new();
    };
    let mut events = Vec::new();
    while let (Some(id), Some(code)) = (words.next(), words.next()) {
        if let (Ok(session), Some(kind)) = (id.parse::<SessionId>(), kind_of(code)) {
            events.push(StoreEvent::Changed { session, kind, at });
        }
    }
    events
}

fn kind_of(code: &str) -> Option<ChangeKind> {
    let kinds =
        [ChangeKind::Issued, ChangeKind::Rotated, ChangeKind::ClientUpdated, ChangeKind::Imported, ChangeKind::Purged];
    let ended = || code.parse::<EndReason>().ok().map(ChangeKind::Ended);
    kinds.into_iter().find(|kind| kind.code() == code).or_else(ended)
}
