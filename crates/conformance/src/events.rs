//! Promises about events of changes.

use std::time::Duration;

use futures_util::StreamExt as _;
use tenure_domain::{ClientField, ClientInfo, EndReason, Millis, Policy, SessionId, Timestamp, Touch};
use tenure_ports::{ChangeKind, EventStream, SessionRepository, StoreEvent};
use tokio::time::timeout;

use super::support::{capped, device, idling, issue, load_of, new_session, now, purge, revocation, revoke, rotate};
use crate::fixture::StoreFixture;

/// The time within which an event must arrive, with room for a busy machine.
const SOON: Duration = Duration::from_secs(20);

type Told = (SessionId, ChangeKind);

/// Returns the next change. [`StoreEvent::Lagged`] is not a change.
async fn next(feed: &mut EventStream) -> (Told, Timestamp) {
    loop {
        match timeout(SOON, feed.next()).await.expect("news within the time").expect("the feed goes on") {
            StoreEvent::Changed { session, kind, at } => return ((session, kind), at),
            StoreEvent::Lagged => {}
        }
    }
}

/// Expects exactly these events, in order for each session. Events in `past` are of before the subscription and may
/// still arrive, because they take a moment from one node of a cluster to another.
async fn expect(feed: &mut EventStream, past: &[Told], wanted: &[Told]) {
    let mut wanted = wanted.to_vec();
    while !wanted.is_empty() {
        let (told, _) = next(feed).await;
        if past.contains(&told) {
            continue;
        }
        let first = wanted.iter().position(|(session, _)| *session == told.0);
        let first = first.unwrap_or_else(|| panic!("{told:?} is told, and not {wanted:?}"));
        assert_eq!(told, wanted.remove(first));
    }
}

/// Every kind of change causes an event, in order for each device, with the store's time.
pub async fn changes_are_told_in_order(fixture: &StoreFixture) {
    let policy = capped(1);
    let before = issue(fixture, "laptop", &policy).await;
    let past = [(before.session.id, ChangeKind::Issued)];
    let mut feed = fixture.store.subscribe().await.unwrap();
    let first = issue(fixture, "laptop", &policy).await;
    let id = first.session.id;
    let mut item = next(&mut feed).await;
    while past.contains(&item.0) {
        item = next(&mut feed).await;
    }
    assert_eq!(item, ((id, ChangeKind::Issued), now(fixture)));
    expect(&mut feed, &past, &[(before.session.id, ChangeKind::Ended(EndReason::Evicted))]).await;
    rotate(fixture, &first.token, &policy).await;
    let client = ClientInfo::default().with(ClientField::Address, "127.0.0.1").unwrap();
    let update = load_of(fixture, id).await.update_client(id, &client, &policy, now(fixture)).unwrap();
    fixture.store.commit(&update).await.unwrap();
    revoke(fixture, id).await;
    let foreign = tenure_domain::Device::unknown(device("phone"))
        .issue(new_session(fixture, &policy), &policy, now(fixture))
        .unwrap();
    let loaded = fixture.store.load(&device("phone")).await.unwrap();
    let import = loaded.import(std::slice::from_ref(&foreign.session), &[], &policy, now(fixture)).commit.unwrap();
    fixture.store.commit(&import).await.unwrap();
    expect(
        &mut feed,
        &past,
        &[
            (id, ChangeKind::Rotated),
            (id, ChangeKind::ClientUpdated),
            (id, ChangeKind::Ended(EndReason::Revoked)),
            (foreign.session.id, ChangeKind::Imported),
        ],
    )
    .await;
    let idle = issue(fixture, "tablet", &idling()).await.session;
    fixture.time.pass(Millis::hours(1));
    let end_idle = load_of(fixture, idle.id).await.end_idle(&idling(), now(fixture)).unwrap();
    fixture.store.commit(&end_idle).await.unwrap();
    expect(&mut feed, &past, &[(idle.id, ChangeKind::Issued), (idle.id, ChangeKind::Ended(EndReason::Idle))]).await;
    assert_eq!(purge(fixture, now(fixture), false).await, 3);
    expect(&mut feed, &past, &[before.session.id, id, idle.id].map(|id| (id, ChangeKind::Purged))).await;
}

/// Changes by another process cause events too.
pub async fn changes_of_another_process_are_told(fixture: &StoreFixture) {
    let policy = Policy::default();
    let before = issue(fixture, "laptop", &policy).await;
    let past = [(before.session.id, ChangeKind::Issued)];
    let mut feed = fixture.other.subscribe().await.unwrap();
    for _ in 0..10 {
        let issued = issue(fixture, "laptop", &policy).await;
        let id = issued.session.id;
        rotate(fixture, &issued.token, &policy).await;
        revoke(fixture, id).await;
        let told = [ChangeKind::Issued, ChangeKind::Rotated, ChangeKind::Ended(EndReason::Revoked)];
        expect(&mut feed, &past, &told.map(|kind| (id, kind))).await;
    }
    revoke(fixture, before.session.id).await;
    expect(&mut feed, &past, &[(before.session.id, ChangeKind::Ended(EndReason::Revoked))]).await;
}

/// Neither use nor a refused commit causes an event.
pub async fn activity_is_no_news(fixture: &StoreFixture) {
    let policy = Policy::default();
    let issued = issue(fixture, "laptop", &policy).await;
    let id = issued.session.id;
    let mut feed = fixture.store.subscribe().await.unwrap();
    fixture.time.pass(Millis::minutes(1));
    fixture.store.touch(&[Touch { session: id, at: now(fixture) }]).await.unwrap();
    assert!(fixture.store.commit(&issued.commit).await.is_err());
    let store: &dyn SessionRepository = &*fixture.store;
    store.commit(&revocation(&load_of(fixture, id).await, id, now(fixture))).await.unwrap();
    expect(&mut feed, &[(id, ChangeKind::Issued)], &[(id, ChangeKind::Ended(EndReason::Revoked))]).await;
}
