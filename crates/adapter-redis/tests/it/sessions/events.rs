//! News of changes.

use futures_util::StreamExt as _;
use tenure_domain::{EndReason, Policy};
use tenure_ports::{ChangeKind, EventStream, StoreEvent, prelude::*};
use tenure_redis_test_server::Server;
use tokio::time::timeout;

use crate::support::{SOON, issue, revoke, store};

async fn next(feed: &mut EventStream) -> StoreEvent {
    timeout(SOON, feed.next()).await.expect("no news").expect("the feed ended")
}

#[tokio::test]
async fn changes_of_another_process_are_news() {
    let server = Server::start();
    let (ours, theirs) = (store(&server).await, store(&server).await);
    let mut feed = ours.subscribe().await.unwrap();
    let (first, _) = issue(&theirs, "laptop", &Policy::default()).await;
    revoke(&theirs, first.id).await;
    for expected in [ChangeKind::Issued, ChangeKind::Ended(EndReason::Revoked)] {
        match next(&mut feed).await {
            StoreEvent::Changed { session, kind, .. } => assert_eq!((session, kind), (first.id, expected)),
            StoreEvent::Lagged => panic!("nothing was missed"),
        }
    }
}

#[tokio::test]
async fn a_broken_connection_says_that_news_was_missed() {
    let mut server = Server::start();
    let store = store(&server).await;
    let mut feed = store.subscribe().await.unwrap();
    server.restart();
    assert_eq!(next(&mut feed).await, StoreEvent::Lagged);
    let (session, _) = issue(&store, "laptop", &Policy::default()).await;
    assert!(matches!(next(&mut feed).await, StoreEvent::Changed { session: told, .. } if told == session.id));
}
