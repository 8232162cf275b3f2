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

/// A session and what happened to it.
type SessionChange = (SessionId, ChangeKind);

/// Returns the next change. [`StoreEvent::Lagged`] is not a change.
async fn next(events: &mut EventStream) -> (SessionChange, Timestamp) {
    loop {
        match timeout(SOON, events.next()).await.expect("an event within the time").expect("the stream goes on") {
            StoreEvent::Changed { session, kind, at } => return ((session, kind), at),
            StoreEvent::Lagged => {}
        }
    }
}

/// Expects exactly these events, in order for each session. The events in `past` were caused before the subscription.
/// They may still arrive, because an event takes a moment from one node of a cluster to another.
async fn expect(events: &mut EventStream, past: &[SessionChange], wanted: &[SessionChange]) {
    let mut wanted = wanted.to_vec();
    while !wanted.is_empty() {
        let (change, _) = next(events).await;
        if past.contains(&change) {
            continue;
        }
        let first = wanted.iter().position(|(session, _)| *session == change.0);
        let first = first.unwrap_or_else(|| panic!("the event is {change:?}, not one of {wanted:?}"));
        assert_eq!(change, wanted.remove(first));
    }
}

/// Every kind of change causes an event, in order for each device, with the store's time.
pub async fn changes_cause_events_in_order(fixture: &StoreFixture) {
    let policy = capped(1);
    let before = issue(fixture, "laptop", &policy).await;
    let past = [(before.session.id, ChangeKind::Issued)];
    let mut events = fixture.store.subscribe().await.unwrap();
    let first = issue(fixture, "laptop", &policy).await;
    let id = first.session.id;
    let mut event = next(&mut events).await;
    while past.contains(&event.0) {
        event = next(&mut events).await;
    }
    assert_eq!(event, ((id, ChangeKind::Issued), now(fixture)));
    expect(&mut events, &past, &[(before.session.id, ChangeKind::Ended(EndReason::Evicted))]).await;
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
        &mut events,
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
    expect(&mut events, &past, &[(idle.id, ChangeKind::Issued), (idle.id, ChangeKind::Ended(EndReason::Idle))]).await;
    assert_eq!(purge(fixture, now(fixture), false).await, 3);
    expect(&mut events, &past, &[before.session.id, id, idle.id].map(|id| (id, ChangeKind::Purged))).await;
}

/// Changes by another process cause events too.
pub async fn changes_by_another_process_cause_events(fixture: &StoreFixture) {
    let policy = Policy::default();
    let before = issue(fixture, "laptop", &policy).await;
    let past = [(before.session.id, ChangeKind::Issued)];
    let mut events = fixture.other.subscribe().await.unwrap();
    for _ in 0..10 {
        let issued = issue(fixture, "laptop", &policy).await;
        let id = issued.session.id;
        rotate(fixture, &issued.token, &policy).await;
        revoke(fixture, id).await;
        let kinds = [ChangeKind::Issued, ChangeKind::Rotated, ChangeKind::Ended(EndReason::Revoked)];
        expect(&mut events, &past, &kinds.map(|kind| (id, kind))).await;
    }
    revoke(fixture, before.session.id).await;
    expect(&mut events, &past, &[(before.session.id, ChangeKind::Ended(EndReason::Revoked))]).await;
}

/// Neither activity nor a refused commit causes an event.
pub async fn activity_causes_no_event(fixture: &StoreFixture) {
    let policy = Policy::default();
    let issued = issue(fixture, "laptop", &policy).await;
    let id = issued.session.id;
    let mut events = fixture.store.subscribe().await.unwrap();
    fixture.time.pass(Millis::minutes(1));
    fixture.store.touch(&[Touch { session: id, at: now(fixture) }]).await.unwrap();
    assert!(fixture.store.commit(&issued.commit).await.is_err());
    let store: &dyn SessionRepository = &*fixture.store;
    store.commit(&revocation(&load_of(fixture, id).await, id, now(fixture))).await.unwrap();
    expect(&mut events, &[(id, ChangeKind::Issued)], &[(id, ChangeKind::Ended(EndReason::Revoked))]).await;
}
