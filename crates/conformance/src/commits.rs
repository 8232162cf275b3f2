//! Promises about commits: they are checked and applied in one step.

use std::collections::BTreeSet;

use tenure_domain::{
    Change, ClientField, ClientInfo, Commit, Filter, Millis, NewSession, Policy, Revision, SessionParts, State, Touch,
};
use tenure_ports::{CommitError, FindOptions};

use super::support::{
    cause, decide_issue, decide_rotation, device, find, idling, issue, load_of, new_session, now, purge, retained,
    revocation, revoke, walk,
};
use crate::fixture::StoreFixture;

/// A decision on an older state of the device is not applied, whichever process changed the device.
pub async fn a_decision_on_an_older_state_conflicts_and_changes_nothing(fixture: &StoreFixture) {
    let policy = Policy::default();
    let first = issue(fixture, "laptop", &policy).await;
    let stale = load_of(fixture, first.session.id).await;
    let rotation = decide_rotation(fixture, &first.token, &policy).await;
    let late_issue = decide_issue(fixture, "laptop", &policy).await;
    // Another process commits first.
    let loaded = fixture.other.load(&device("laptop")).await.unwrap();
    let second = loaded.issue(new_session(fixture, &policy), &policy, now(fixture)).unwrap();
    fixture.other.commit(&second.commit).await.unwrap();
    let stale_revocation = revocation(&stale, first.session.id, now(fixture));
    for commit in [&stale_revocation, &rotation.commit, &late_issue.commit] {
        assert_eq!(fixture.store.commit(commit).await, Err(CommitError::Conflict));
    }
    assert_eq!(find(fixture, first.session.id).await, Some(first.session.clone()));
    assert_eq!(find(fixture, late_issue.session.id).await, None);
    let mut both = vec![first.session, second.session];
    both.sort_by_key(|session| session.id);
    let mut listed = walk(&*fixture.store, &retained(), now(fixture), 10).await;
    listed.sort_by_key(|session| session.id);
    assert_eq!(listed, both);
    // After a new decision it is applied.
    revoke(fixture, both[0].id).await;
    assert_eq!(fixture.store.load(&device("laptop")).await.unwrap().sessions(), &both[1..]);
}

/// A commit that was applied conflicts when it is sent again, as after a lost answer. So it is applied only once.
pub async fn the_same_commit_again_conflicts(fixture: &StoreFixture) {
    let policy = Policy::default();
    let issued = decide_issue(fixture, "laptop", &policy).await;
    let revision = fixture.store.commit(&issued.commit).await.unwrap();
    assert_eq!(fixture.store.commit(&issued.commit).await, Err(CommitError::Conflict));
    assert_eq!(fixture.other.commit(&issued.commit).await, Err(CommitError::Conflict));
    assert_eq!(fixture.store.load(&device("laptop")).await.unwrap().revision(), revision);
    let rotation = decide_rotation(fixture, &issued.token, &policy).await;
    fixture.store.commit(&rotation.commit).await.unwrap();
    assert_eq!(fixture.other.commit(&rotation.commit).await, Err(CommitError::Conflict));
    let end = revocation(&load_of(fixture, issued.session.id).await, issued.session.id, now(fixture));
    fixture.store.commit(&end).await.unwrap();
    assert_eq!(fixture.other.commit(&end).await, Err(CommitError::Conflict));
    // It conflicts even after all its records are gone.
    purge(fixture, now(fixture), false).await;
    for commit in [&rotation.commit, &end] {
        assert_eq!(fixture.store.commit(commit).await, Err(CommitError::Conflict));
    }
}

/// No revision is used twice, on any device, by either process, before or after a purge.
pub async fn a_revision_is_never_used_again(fixture: &StoreFixture) {
    let policy = super::support::capped(2);
    let mut seen = BTreeSet::from([Revision::NONE]);
    let mut fresh = |revision: Revision| assert!(seen.insert(revision), "{revision:?} was used before");
    for round in 0..6 {
        let issued = decide_issue(fixture, "laptop", &policy).await;
        let store = if round % 2 == 0 { &fixture.store } else { &fixture.other };
        let revision = store.commit(&issued.commit).await.unwrap();
        fresh(revision);
        assert_eq!(store.load(&device("laptop")).await.unwrap().revision(), revision);
        if round % 3 == 0 {
            let end = revocation(&load_of(fixture, issued.session.id).await, issued.session.id, now(fixture));
            fresh(store.commit(&end).await.unwrap());
        }
        if round % 3 == 2 {
            // All sessions of the device have ended, and are then removed.
            fixture.time.pass(Millis::hours(30));
            assert!(purge(fixture, now(fixture), false).await > 0);
            assert_eq!(walk(&*fixture.store, &retained(), now(fixture), 10).await, []);
        }
    }
}

/// A decision is applied up to its last instant, and not after.
pub async fn a_commit_is_applied_until_its_last_instant(fixture: &StoreFixture) {
    let policy = Policy::default();
    let (a, b) = (issue(fixture, "a", &policy).await, issue(fixture, "b", &policy).await);
    let last = now(fixture).plus(Millis::seconds(10));
    let until_last = async |id| Commit { not_after: last, ..revocation(&load_of(fixture, id).await, id, now(fixture)) };
    let (in_time, late) = (until_last(a.session.id).await, until_last(b.session.id).await);
    fixture.time.pass_to(last);
    fixture.store.commit(&in_time).await.unwrap();
    assert!(find(fixture, a.session.id).await.unwrap().end.is_some());
    fixture.time.pass(Millis::new(1));
    assert_eq!(fixture.store.commit(&late).await, Err(CommitError::TooLate));
    assert_eq!(find(fixture, b.session.id).await, Some(b.session.clone()));
    // A rotation that was delayed until its session has expired does not revive it.
    let rotation = decide_rotation(fixture, &b.token, &policy).await;
    fixture.time.pass_to(b.session.expires_at);
    assert_eq!(fixture.store.commit(&rotation.commit).await, Err(CommitError::TooLate));
    assert_eq!(find(fixture, b.session.id).await.unwrap().state(now(fixture)), State::Expired);
}

/// A decision that a session is idle is not applied if the session was used meanwhile.
pub async fn a_guard_fails_once_its_session_was_used(fixture: &StoreFixture) {
    let policy = idling();
    let issued = issue(fixture, "laptop", &policy).await;
    let id = issued.session.id;
    fixture.time.pass_to(issued.session.idle_at().unwrap());
    let end_idle = load_of(fixture, id).await.end_idle(&policy, now(fixture)).unwrap();
    assert_eq!(end_idle.guards.len(), 1);
    let used = issued.session.last_activity.plus(Millis::new(1));
    fixture.store.touch(&[Touch { session: id, at: used }]).await.unwrap();
    assert_eq!(fixture.store.commit(&end_idle).await, Err(CommitError::Conflict));
    assert_eq!(find(fixture, id).await.unwrap().end, None);
    let loaded = load_of(fixture, id).await;
    assert_eq!(loaded.sessions()[0].last_activity, used);
    assert_eq!(loaded.end_idle(&policy, now(fixture)), None, "it is in use");
    // The commit is applied if the session was not used after the guard's time.
    fixture.time.pass(Millis::new(1));
    let end_idle = load_of(fixture, id).await.end_idle(&policy, now(fixture)).unwrap();
    fixture.store.touch(&[Touch { session: id, at: used }]).await.unwrap();
    fixture.store.commit(&end_idle).await.unwrap();
    let ended = find(fixture, id).await.unwrap();
    assert_eq!((ended.state(now(fixture)).code(), ended.last_activity), ("idle", used));
}

/// A session that exists is not issued again, even if the rest of the decision is valid.
pub async fn an_issue_needs_an_unused_id(fixture: &StoreFixture) {
    let policy = Policy::default();
    let new_session = new_session(fixture, &policy);
    let loaded = fixture.store.load(&device("laptop")).await.unwrap();
    let first = loaded.issue(new_session.clone(), &policy, now(fixture)).unwrap();
    fixture.store.commit(&first.commit).await.unwrap();
    let again = async |new_session: NewSession| {
        let loaded = fixture.store.load(&device("laptop")).await.unwrap();
        let again = loaded.issue(new_session, &policy, now(fixture)).unwrap();
        fixture.store.commit(&again.commit).await
    };
    assert_eq!(again(new_session.clone()).await, Err(CommitError::Conflict));
    let ended = revoke(fixture, first.session.id).await;
    assert_eq!(again(new_session).await, Err(CommitError::Conflict), "nor over an ended one");
    assert_eq!(find(fixture, first.session.id).await, Some(ended));
}

/// A session whose record is gone is not created by a rotation, an end or an update.
pub async fn a_change_needs_a_record(fixture: &StoreFixture) {
    let policy = Policy::default();
    let kept = issue(fixture, "laptop", &policy).await;
    let gone = issue(fixture, "laptop", &policy).await;
    let id = gone.session.id;
    let before = load_of(fixture, id).await;
    let client = ClientInfo::default().with(ClientField::Platform, "linux").unwrap();
    let mut commits = vec![
        decide_rotation(fixture, &gone.token, &policy).await.commit,
        revocation(&before, id, now(fixture)),
        before.update_client(id, &client, &policy, now(fixture)).unwrap(),
    ];
    revoke(fixture, id).await;
    assert_eq!(purge(fixture, now(fixture), false).await, 1);
    let expected = fixture.store.load(&device("laptop")).await.unwrap().revision();
    for commit in &mut commits {
        commit.expected = expected;
        assert_eq!(fixture.store.commit(commit).await, Err(CommitError::Conflict));
        assert_eq!(find(fixture, id).await, None);
    }
    assert_eq!(walk(&*fixture.store, &retained(), now(fixture), 10).await, &[kept.session]);
}

/// If one part of a commit is not valid, nothing of it is applied.
pub async fn a_commit_is_applied_completely_or_not_at_all(fixture: &StoreFixture) {
    let policy = super::support::capped(2);
    let a = issue(fixture, "laptop", &policy).await;
    issue(fixture, "laptop", &policy).await;
    // The commit issues, evicts, and then has a part that is not valid: a change of a session without a record.
    let mut third = decide_issue(fixture, "laptop", &policy).await;
    assert_eq!(third.evicted, [a.session.id]);
    let parts = SessionParts { id: super::support::unknown(a.session.id), ..a.session.clone().into_parts() };
    let stranger = tenure_domain::Session::from_parts(parts).unwrap();
    third.commit.changes.push(Change::ClientUpdated(stranger));
    let before = walk(&*fixture.store, &retained(), now(fixture), 10).await;
    assert_eq!(fixture.store.commit(&third.commit).await, Err(CommitError::Conflict));
    assert_eq!(walk(&*fixture.store, &retained(), now(fixture), 10).await, before);
    third.commit.changes.pop();
    let revision = fixture.store.commit(&third.commit).await.unwrap();
    assert_eq!(fixture.other.load(&device("laptop")).await.unwrap().revision(), revision);
    assert_eq!(find(fixture, a.session.id).await.unwrap().state(now(fixture)).code(), "evicted");
    // A decision about all of a device's sessions ends all of them.
    let all = Default::default();
    let loaded = fixture.store.load(&device("laptop")).await.unwrap();
    let end = loaded.revoke(&all, &cause(), &policy, now(fixture)).commit.unwrap();
    assert_eq!(end.changes.len(), 2);
    fixture.store.commit(&end).await.unwrap();
    assert_eq!(walk(&*fixture.store, &Filter::default(), now(fixture), 10).await, []);
}

/// An imported record replaces the one that is there, except for later activity.
pub async fn an_import_replaces_the_record(fixture: &StoreFixture) {
    let policy = Policy::default();
    let issued = issue(fixture, "laptop", &policy).await;
    let id = issued.session.id;
    let used = now(fixture).plus(Millis::minutes(5));
    fixture.time.pass(Millis::minutes(10));
    // The session was rotated elsewhere.
    let elsewhere = decide_rotation(fixture, &issued.token, &policy).await.session;
    fixture.store.touch(&[Touch { session: id, at: used }]).await.unwrap();
    let known = find(fixture, id).await.unwrap();
    let loaded = fixture.store.load(&device("laptop")).await.unwrap();
    let older = SessionParts { last_activity: issued.session.created_at, ..elsewhere.clone().into_parts() };
    let incoming = tenure_domain::Session::from_parts(older).unwrap();
    let plan = loaded.import(std::slice::from_ref(&incoming), &[known], &policy, now(fixture));
    fixture.store.commit(&plan.commit.unwrap()).await.unwrap();
    let found = find(fixture, id).await.unwrap();
    assert_eq!((found.generation, found.last_activity), (2, used));
    assert_eq!(found.credential, elsewhere.credential);
    // A session that is not known here is new.
    let foreign = tenure_domain::Device::unknown(device("phone"))
        .issue(new_session(fixture, &policy), &policy, now(fixture))
        .unwrap();
    let loaded = fixture.store.load(&device("phone")).await.unwrap();
    let plan = loaded.import(std::slice::from_ref(&foreign.session), &[], &policy, now(fixture));
    fixture.store.commit(&plan.commit.unwrap()).await.unwrap();
    assert_eq!(find(fixture, foreign.session.id).await, Some(foreign.session.clone()));
    fixture
        .seen(Some(foreign.session.clone()), async |other| {
            other.find(foreign.session.id, FindOptions::EXACT).await.unwrap()
        })
        .await;
}
