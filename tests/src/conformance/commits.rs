//! Commits: compared and applied as one step.

use std::collections::BTreeSet;

use tenure_domain::{
    Change, ClientField, ClientInfo, Commit, Filter, Millis, NewSession, Policy, Revision, SessionParts, State, Touch,
};
use tenure_ports::{CommitError, FindOptions};

use super::support::{
    cause, decide_issue, decide_rotation, device, find, idling, issue, load_of, new_session, now, purge, retained,
    revocation, revoke, walk,
};
use crate::stand::Stand;

/// Nothing that was decided on an older state of the device is applied, by whomever it was changed.
pub async fn a_decision_on_an_older_state_conflicts_and_changes_nothing(stand: &Stand) {
    let policy = Policy::default();
    let first = issue(stand, "laptop", &policy).await;
    let stale = load_of(stand, first.session.id).await;
    let rotation = decide_rotation(stand, &first.token, &policy).await;
    let late_issue = decide_issue(stand, "laptop", &policy).await;
    // Somebody else comes first.
    let loaded = stand.other.load(&device("laptop")).await.unwrap();
    let second = loaded.issue(new_session(stand, &policy), &policy, now(stand)).unwrap();
    stand.other.commit(&second.commit).await.unwrap();
    let stale_revocation = revocation(&stale, first.session.id, now(stand));
    for commit in [&stale_revocation, &rotation.commit, &late_issue.commit] {
        assert_eq!(stand.store.commit(commit).await, Err(CommitError::Conflict));
    }
    assert_eq!(find(stand, first.session.id).await, Some(first.session.clone()));
    assert_eq!(find(stand, late_issue.session.id).await, None);
    let mut both = vec![first.session, second.session];
    both.sort_by_key(|session| session.id);
    let mut listed = walk(&*stand.store, &retained(), now(stand), 10).await;
    listed.sort_by_key(|session| session.id);
    assert_eq!(listed, both);
    // Decided anew, it is applied.
    revoke(stand, both[0].id).await;
    assert_eq!(stand.store.load(&device("laptop")).await.unwrap().sessions(), &both[1..]);
}

/// Whoever lost an answer may send the very same again.
pub async fn the_same_commit_again_conflicts(stand: &Stand) {
    let policy = Policy::default();
    let issued = decide_issue(stand, "laptop", &policy).await;
    let revision = stand.store.commit(&issued.commit).await.unwrap();
    assert_eq!(stand.store.commit(&issued.commit).await, Err(CommitError::Conflict));
    assert_eq!(stand.other.commit(&issued.commit).await, Err(CommitError::Conflict));
    assert_eq!(stand.store.load(&device("laptop")).await.unwrap().revision(), revision);
    let rotation = decide_rotation(stand, &issued.token, &policy).await;
    stand.store.commit(&rotation.commit).await.unwrap();
    assert_eq!(stand.other.commit(&rotation.commit).await, Err(CommitError::Conflict));
    let end = revocation(&load_of(stand, issued.session.id).await, issued.session.id, now(stand));
    stand.store.commit(&end).await.unwrap();
    assert_eq!(stand.other.commit(&end).await, Err(CommitError::Conflict));
    // Not even once everything of it is gone.
    purge(stand, now(stand), false).await;
    for commit in [&rotation.commit, &end] {
        assert_eq!(stand.store.commit(commit).await, Err(CommitError::Conflict));
    }
}

/// No revision comes twice, on any device, through either process, before and after purges.
pub async fn a_revision_is_never_used_again(stand: &Stand) {
    let policy = super::support::capped(2);
    let mut seen = BTreeSet::from([Revision::NONE]);
    let mut fresh = |revision: Revision| assert!(seen.insert(revision), "{revision:?} was used before");
    for round in 0..6 {
        let issued = decide_issue(stand, "laptop", &policy).await;
        let store = if round % 2 == 0 { &stand.store } else { &stand.other };
        let revision = store.commit(&issued.commit).await.unwrap();
        fresh(revision);
        assert_eq!(store.load(&device("laptop")).await.unwrap().revision(), revision);
        if round % 3 == 0 {
            let end = revocation(&load_of(stand, issued.session.id).await, issued.session.id, now(stand));
            fresh(store.commit(&end).await.unwrap());
        }
        if round % 3 == 2 {
            // Everything of the device is over, and then gone.
            stand.time.pass(Millis::hours(30));
            assert!(purge(stand, now(stand), false).await > 0);
            assert_eq!(walk(&*stand.store, &retained(), now(stand), 10).await, []);
        }
    }
}

/// A decision is applied up to the last instant that it names, and not after.
pub async fn a_commit_holds_until_its_last_instant(stand: &Stand) {
    let policy = Policy::default();
    let (a, b) = (issue(stand, "a", &policy).await, issue(stand, "b", &policy).await);
    let last = now(stand).plus(Millis::seconds(10));
    let until_last = async |id| Commit { not_after: last, ..revocation(&load_of(stand, id).await, id, now(stand)) };
    let (in_time, late) = (until_last(a.session.id).await, until_last(b.session.id).await);
    stand.time.pass_to(last);
    stand.store.commit(&in_time).await.unwrap();
    assert!(find(stand, a.session.id).await.unwrap().end.is_some());
    stand.time.pass(Millis::new(1));
    assert_eq!(stand.store.commit(&late).await, Err(CommitError::TooLate));
    assert_eq!(find(stand, b.session.id).await, Some(b.session.clone()));
    // A rotation that was held up until its session is over revives nothing.
    let rotation = decide_rotation(stand, &b.token, &policy).await;
    stand.time.pass_to(b.session.expires_at);
    assert_eq!(stand.store.commit(&rotation.commit).await, Err(CommitError::TooLate));
    assert_eq!(find(stand, b.session.id).await.unwrap().state(now(stand)), State::Expired);
}

/// What was decided because a session was idle is not applied once it was used.
pub async fn a_guard_fails_once_its_session_was_used(stand: &Stand) {
    let policy = idling();
    let issued = issue(stand, "laptop", &policy).await;
    let id = issued.session.id;
    stand.time.pass_to(issued.session.idle_at().unwrap());
    let end_idle = load_of(stand, id).await.end_idle(&policy, now(stand)).unwrap();
    assert_eq!(end_idle.guards.len(), 1);
    let used = issued.session.last_activity.plus(Millis::new(1));
    stand.store.touch(&[Touch { session: id, at: used }]).await.unwrap();
    assert_eq!(stand.store.commit(&end_idle).await, Err(CommitError::Conflict));
    assert_eq!(find(stand, id).await.unwrap().end, None);
    let loaded = load_of(stand, id).await;
    assert_eq!(loaded.sessions()[0].last_activity, used);
    assert_eq!(loaded.end_idle(&policy, now(stand)), None, "it is in use");
    // As long as it was not used after the guard, it holds.
    stand.time.pass(Millis::new(1));
    let end_idle = load_of(stand, id).await.end_idle(&policy, now(stand)).unwrap();
    stand.store.touch(&[Touch { session: id, at: used }]).await.unwrap();
    stand.store.commit(&end_idle).await.unwrap();
    let ended = find(stand, id).await.unwrap();
    assert_eq!((ended.state(now(stand)).code(), ended.last_activity), ("idle", used));
}

/// A session that exists is not issued once more, even by a decision that fits otherwise.
pub async fn what_is_issued_has_no_record_yet(stand: &Stand) {
    let policy = Policy::default();
    let new_session = new_session(stand, &policy);
    let loaded = stand.store.load(&device("laptop")).await.unwrap();
    let first = loaded.issue(new_session.clone(), &policy, now(stand)).unwrap();
    stand.store.commit(&first.commit).await.unwrap();
    let again = async |new_session: NewSession| {
        let loaded = stand.store.load(&device("laptop")).await.unwrap();
        let again = loaded.issue(new_session, &policy, now(stand)).unwrap();
        stand.store.commit(&again.commit).await
    };
    assert_eq!(again(new_session.clone()).await, Err(CommitError::Conflict));
    let ended = revoke(stand, first.session.id).await;
    assert_eq!(again(new_session).await, Err(CommitError::Conflict), "nor over an ended one");
    assert_eq!(find(stand, first.session.id).await, Some(ended));
}

/// A session that is gone is not rotated, ended or described into being.
pub async fn what_is_changed_has_a_record(stand: &Stand) {
    let policy = Policy::default();
    let kept = issue(stand, "laptop", &policy).await;
    let gone = issue(stand, "laptop", &policy).await;
    let id = gone.session.id;
    let before = load_of(stand, id).await;
    let client = ClientInfo::default().with(ClientField::Platform, "linux").unwrap();
    let mut commits = vec![
        decide_rotation(stand, &gone.token, &policy).await.commit,
        revocation(&before, id, now(stand)),
        before.update_client(id, &client, &policy, now(stand)).unwrap(),
    ];
    revoke(stand, id).await;
    assert_eq!(purge(stand, now(stand), false).await, 1);
    let expected = stand.store.load(&device("laptop")).await.unwrap().revision();
    for commit in &mut commits {
        commit.expected = expected;
        assert_eq!(stand.store.commit(commit).await, Err(CommitError::Conflict));
        assert_eq!(find(stand, id).await, None);
    }
    assert_eq!(walk(&*stand.store, &retained(), now(stand), 10).await, &[kept.session]);
}

/// Of a commit of which one part does not fit, nothing is applied.
pub async fn a_commit_is_whole_or_nothing(stand: &Stand) {
    let policy = super::support::capped(2);
    let a = issue(stand, "laptop", &policy).await;
    issue(stand, "laptop", &policy).await;
    // Issues, evicts, and then has a part that does not fit: a change of a session without a record.
    let mut third = decide_issue(stand, "laptop", &policy).await;
    assert_eq!(third.evicted, [a.session.id]);
    let parts = SessionParts { id: super::support::unknown(a.session.id), ..a.session.clone().into_parts() };
    let stranger = tenure_domain::Session::from_parts(parts).unwrap();
    third.commit.changes.push(Change::ClientUpdated(stranger));
    let before = walk(&*stand.store, &retained(), now(stand), 10).await;
    assert_eq!(stand.store.commit(&third.commit).await, Err(CommitError::Conflict));
    assert_eq!(walk(&*stand.store, &retained(), now(stand), 10).await, before);
    third.commit.changes.pop();
    let revision = stand.store.commit(&third.commit).await.unwrap();
    assert_eq!(stand.other.load(&device("laptop")).await.unwrap().revision(), revision);
    assert_eq!(find(stand, a.session.id).await.unwrap().state(now(stand)).code(), "evicted");
    // A decision of all the device's sessions ends all of them.
    let all = Default::default();
    let loaded = stand.store.load(&device("laptop")).await.unwrap();
    let end = loaded.revoke(&all, &cause(), &policy, now(stand)).commit.unwrap();
    assert_eq!(end.changes.len(), 2);
    stand.store.commit(&end).await.unwrap();
    assert_eq!(walk(&*stand.store, &Filter::default(), now(stand), 10).await, []);
}

/// An imported record takes the place of the one that is there, but for later activity.
pub async fn an_import_replaces_the_record(stand: &Stand) {
    let policy = Policy::default();
    let issued = issue(stand, "laptop", &policy).await;
    let id = issued.session.id;
    let used = now(stand).plus(Millis::minutes(5));
    stand.time.pass(Millis::minutes(10));
    // Elsewhere it was rotated.
    let elsewhere = decide_rotation(stand, &issued.token, &policy).await.session;
    stand.store.touch(&[Touch { session: id, at: used }]).await.unwrap();
    let known = find(stand, id).await.unwrap();
    let loaded = stand.store.load(&device("laptop")).await.unwrap();
    let older = SessionParts { last_activity: issued.session.created_at, ..elsewhere.clone().into_parts() };
    let incoming = tenure_domain::Session::from_parts(older).unwrap();
    let plan = loaded.import(std::slice::from_ref(&incoming), &[known], &policy, now(stand));
    stand.store.commit(&plan.commit.unwrap()).await.unwrap();
    let found = find(stand, id).await.unwrap();
    assert_eq!((found.generation, found.last_activity), (2, used));
    assert_eq!(found.credential, elsewhere.credential);
    // One that nobody knows here is new.
    let foreign = tenure_domain::Device::unknown(device("phone"))
        .issue(new_session(stand, &policy), &policy, now(stand))
        .unwrap();
    let loaded = stand.store.load(&device("phone")).await.unwrap();
    let plan = loaded.import(std::slice::from_ref(&foreign.session), &[], &policy, now(stand));
    stand.store.commit(&plan.commit.unwrap()).await.unwrap();
    assert_eq!(find(stand, foreign.session.id).await, Some(foreign.session.clone()));
    stand
        .seen(Some(foreign.session.clone()), async |other| {
            other.find(foreign.session.id, FindOptions::EXACT).await.unwrap()
        })
        .await;
}
