//! Tests of how a commit whose answer was lost is judged.

use tenure_domain::*;

use crate::support::*;

const POLICY_CAP: u64 = 3;

fn policy() -> Policy {
    lively(POLICY_CAP, 0, 0)
}

/// Returns `count` sessions of one device, issued a second apart.
fn sessions(count: u64) -> Vec<Session> {
    let (policy, mut device) = (policy(), Device::unknown(laptop()));
    for n in 0..count {
        let issue = device.issue(new_session(n, policy.terms(None).unwrap()), &policy, at(START + n * 1_000)).unwrap();
        let mut all = device.sessions().to_vec();
        all.push(issue.session);
        device = device_of(&all);
    }
    device.sessions().to_vec()
}

fn find(sessions: &[Session]) -> impl FnMut(SessionId) -> Option<Session> {
    let sessions = sessions.to_vec();
    move |id| sessions.iter().find(|session| session.id == id).cloned()
}

#[test]
fn a_lost_issue_is_recognised_by_its_own_session() {
    let policy = policy();
    let old = sessions(3);
    // All three sessions are idle, so the issue ends them as well.
    let now = at(START + 60_000);
    let issue = device_of(&old).issue(new_session(9, policy.terms(None).unwrap()), &policy, now).unwrap();
    assert_eq!(issue.commit.changes.len(), 4);
    let ended: Vec<_> = old.iter().map(|session| revoked(session, now)).collect();
    assert_eq!(issue.commit.applied(find(&ended)), Applied::No);
    let mut with_new = ended;
    with_new.push(issue.session.clone());
    assert_eq!(issue.commit.applied(find(&with_new)), Applied::Yes);
    // A store may look up the session of the first change only, so that must be the new one.
    assert_eq!(issue.commit.changes[0].session().id, issue.session.id);
}

#[test]
fn a_lost_revocation_was_applied_only_if_all_its_sessions_are_inactive() {
    let old = sessions(3);
    let now = at(START + 5_000);
    let revocation =
        device_of(&old).revoke(&Selection::default(), &EndCause::by_rule(EndReason::Revoked), &policy(), now);
    let commit = revocation.commit.unwrap();
    assert_eq!(commit.changes.len(), 3);
    assert_eq!(commit.applied(find(&old)), Applied::No);
    let mut partly = old.clone();
    partly[0] = revoked(&old[0], now);
    assert_eq!(commit.applied(find(&partly)), Applied::No);
    // The record of one session says nothing about another.
    let first = partly[0].clone();
    assert_eq!(commit.applied(|_| Some(first.clone())), Applied::No);
    let all: Vec<_> = old.iter().map(|session| revoked(session, now)).collect();
    assert_eq!(commit.applied(find(&all)), Applied::Yes);
    // One of the sessions has ended, and its record was dropped since.
    assert_eq!(commit.applied(find(&all[1..])), Applied::Yes);
}

#[test]
fn a_lost_rotation_is_recognised_by_its_new_secret() {
    let policy = policy();
    let (session, token) = issued(&policy, at(START));
    let ours = rotated(&session, &token, 5, &policy, at(START + 1));
    let theirs = rotated(&session, &token, 6, &policy, at(START + 1));
    assert_eq!(ours.commit.applied(find(std::slice::from_ref(&ours.session))), Applied::Yes);
    assert_eq!(ours.commit.applied(find(std::slice::from_ref(&theirs.session))), Applied::No);
    assert_eq!(ours.commit.applied(find(&[session])), Applied::No);
    assert_eq!(ours.commit.applied(|_| None), Applied::No);
}

#[test]
fn a_lost_update_is_recognised_by_the_client_that_is_recorded() {
    let (session, _) = issued(&policy(), at(START));
    let client = ClientInfo::default().with(ClientField::Platform, "linux").unwrap();
    let device = device_of(std::slice::from_ref(&session));
    let commit = device.update_client(session.id, &client, &policy(), at(START)).unwrap();
    assert_eq!(commit.applied(find(std::slice::from_ref(&session))), Applied::No);
    assert_eq!(commit.applied(find(&[commit.changes[0].session().clone()])), Applied::Yes);
}
