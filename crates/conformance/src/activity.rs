//! Promises about activity: it only moves forward, makes no revision, and never brings a session back.

use tenure_domain::{Millis, Policy, SessionId, Touch};
use tenure_ports::FindOptions;

use super::support::{decide_rotation, device, find, idling, issue, load_of, now, purge, revocation, revoke, unknown};
use crate::fixture::StoreFixture;

async fn activity(fixture: &StoreFixture, id: SessionId) -> Option<u64> {
    find(fixture, id).await.map(|session| session.last_activity.as_millis())
}

/// The latest use counts, in whatever order uses are reported. The process that reported a use sees it at once.
pub async fn activity_only_moves_forward(fixture: &StoreFixture) {
    let issued = issue(fixture, "laptop", &Policy::default()).await;
    let id = issued.session.id;
    let at = |millis| Touch { session: id, at: issued.session.created_at.plus(Millis::new(millis)) };
    fixture.time.pass(Millis::minutes(1));
    for (touches, latest) in
        [(vec![at(20), at(10)], 20), (vec![at(15)], 20), (vec![at(21)], 21), (vec![at(0), at(300), at(299)], 300)]
    {
        fixture.store.touch(&touches).await.unwrap();
        assert_eq!(activity(fixture, id).await, Some(at(latest).at.as_millis()));
    }
    let loaded = load_of(fixture, id).await;
    assert_eq!(loaded.sessions()[0].last_activity, at(300).at);
    // Nothing else has changed.
    assert_eq!(find(fixture, id).await, Some(issued.session.clone().touched(at(300).at)));
}

/// A session that is found for use has all its activity if activity matters, and is otherwise up to date except for its
/// activity.
pub async fn a_session_is_found_for_use(fixture: &StoreFixture) {
    let (plain, idle) = (issue(fixture, "laptop", &Policy::default()).await, issue(fixture, "phone", &idling()).await);
    fixture.time.pass(Millis::minutes(1));
    let used = now(fixture);
    let touches = [&plain, &idle].map(|issued| Touch { session: issued.session.id, at: used });
    fixture.store.touch(&touches).await.unwrap();
    // Twice, because a store may learn from the first time.
    for store in [&fixture.store, &fixture.other, &fixture.other] {
        let found = store.find(plain.session.id, FindOptions::FOR_USE).await.unwrap().unwrap();
        assert_eq!(found.touched(used), plain.session.clone().touched(used));
    }
    let id = idle.session.id;
    for _ in 0..2 {
        assert_eq!(
            fixture.store.find(id, FindOptions::FOR_USE).await.unwrap(),
            Some(idle.session.clone().touched(used))
        );
        assert_eq!(
            fixture.other.find(id, FindOptions::FOR_USE).await.unwrap(),
            fixture.other.find(id, FindOptions::EXACT).await.unwrap()
        );
    }
    assert_eq!(fixture.store.find(unknown(id), FindOptions::FOR_USE).await.unwrap(), None);
    revoke(fixture, plain.session.id).await;
    assert!(fixture.store.find(plain.session.id, FindOptions::FOR_USE).await.unwrap().unwrap().end.is_some());
    fixture
        .seen(true, async |other| {
            other.find(plain.session.id, FindOptions::FOR_USE).await.unwrap().unwrap().end.is_some()
        })
        .await;
}

/// A decision that was made before a use may be committed after it.
pub async fn activity_makes_no_revision(fixture: &StoreFixture) {
    let issued = issue(fixture, "laptop", &Policy::default()).await;
    let id = issued.session.id;
    let before = load_of(fixture, id).await;
    fixture.time.pass(Millis::minutes(1));
    fixture.store.touch(&[Touch { session: id, at: now(fixture) }]).await.unwrap();
    assert_eq!(load_of(fixture, id).await.revision(), before.revision());
    fixture.store.commit(&revocation(&before, id, now(fixture))).await.unwrap();
    assert_eq!(activity(fixture, id).await, Some(now(fixture).as_millis()));
}

/// Activity that is reported late neither brings back an ended or removed session, nor creates one.
pub async fn activity_resurrects_nothing(fixture: &StoreFixture) {
    let issued = issue(fixture, "laptop", &Policy::default()).await;
    let id = issued.session.id;
    let ended = revoke(fixture, id).await;
    let late = |session| Touch { session, at: ended.last_activity.plus(Millis::minutes(5)) };
    fixture.time.pass(Millis::minutes(10));
    for store in [&fixture.store, &fixture.other] {
        store.touch(&[late(id), late(unknown(id))]).await.unwrap();
        assert_eq!(store.find(id, FindOptions::EXACT).await.unwrap().as_ref(), Some(&ended));
        assert_eq!(store.find(unknown(id), FindOptions::EXACT).await.unwrap(), None);
    }
    assert_eq!(purge(fixture, now(fixture), false).await, 1);
    for store in [&fixture.store, &fixture.other] {
        store.touch(&[late(id)]).await.unwrap();
        assert_eq!(store.find(id, FindOptions::EXACT).await.unwrap(), None);
        assert_eq!(store.load(&device("laptop")).await.unwrap().sessions(), []);
    }
}

/// A new record whose activity is earlier than the stored one keeps the stored activity.
pub async fn a_commit_keeps_later_activity(fixture: &StoreFixture) {
    let policy = Policy::default();
    let issued = issue(fixture, "laptop", &policy).await;
    let id = issued.session.id;
    let rotation = decide_rotation(fixture, &issued.token, &policy).await;
    fixture.time.pass(Millis::minutes(9));
    let used = now(fixture);
    fixture.store.touch(&[Touch { session: id, at: used }]).await.unwrap();
    fixture.store.commit(&rotation.commit).await.unwrap();
    assert_eq!(find(fixture, id).await, Some(rotation.session.clone().touched(used)));
    let end = revocation(&load_of(fixture, id).await, id, now(fixture));
    fixture.time.pass(Millis::minutes(1));
    fixture.store.touch(&[Touch { session: id, at: now(fixture) }]).await.unwrap();
    fixture.store.commit(&end).await.unwrap();
    assert_eq!(activity(fixture, id).await, Some(now(fixture).as_millis()));
    // If the new record has later activity, that is kept.
    let other = issue(fixture, "phone", &policy).await;
    fixture.time.pass(Millis::minutes(1));
    let rotation = decide_rotation(fixture, &other.token, &policy).await;
    fixture.store.commit(&rotation.commit).await.unwrap();
    assert_eq!(activity(fixture, other.session.id).await, Some(now(fixture).as_millis()));
}

/// One call records the activity of sessions on any devices.
pub async fn activity_of_many_sessions_is_taken_at_once(fixture: &StoreFixture) {
    let mut sessions = Vec::new();
    for n in 0..60 {
        sessions.push(issue(fixture, &format!("device-{}", n % 30), &Policy::default()).await.session);
    }
    fixture.time.pass(Millis::minutes(1));
    let touches: Vec<Touch> = sessions
        .iter()
        .zip(0..)
        .map(|(session, n)| Touch { session: session.id, at: session.created_at.plus(Millis::new(n)) })
        .collect();
    fixture.store.touch(&touches).await.unwrap();
    for (session, touch) in sessions.iter().zip(&touches) {
        assert_eq!(find(fixture, session.id).await, Some(session.clone().touched(touch.at)));
    }
}
