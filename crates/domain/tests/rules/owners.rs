//! Tests of who owns a device: which subjects may have a session there, and which sessions that ends.

use proptest::prelude::*;
use tenure_domain::*;

use crate::support::*;

const SUBJECTS: [&str; 3] = ["anna", "bert", "carl"];

fn subject(n: usize) -> Subject {
    Subject::new(SUBJECTS[n]).unwrap()
}

fn new_session_of(n: u64, subject: Subject, policy: &Policy) -> NewSession {
    NewSession { subject, ..new_session(n, policy.terms(None).unwrap()) }
}

fn now() -> Timestamp {
    at(START + 100_000)
}

/// Generates sessions of several subjects on one device, as an import or an earlier release can leave them. They are in
/// random states at [`now`].
fn mixed() -> impl Strategy<Value = Vec<Session>> {
    let one = (0..3_usize, 0..10_u64, 1_000..200_000_u64, any::<bool>());
    prop::collection::vec(one, 0..12).prop_map(|list| {
        let policy = Policy::default();
        let one = |(n, (whose, created, ttl, may_idle)): (usize, (usize, u64, u64, bool))| {
            let idle_timeout = may_idle.then(|| Millis::seconds(40));
            let terms = Terms { idle_timeout, ..policy.terms(Some(Millis::new(ttl))).unwrap() };
            let new_session = NewSession { subject: subject(whose), ..new_session(n as u64, terms) };
            let issue = Device::unknown(laptop()).issue(new_session, &policy, at(START + created * 10_000)).unwrap();
            let parts = SessionParts { order: n as u64, ..issue.session.into_parts() };
            Session::from_parts(parts).unwrap()
        };
        list.into_iter().enumerate().map(one).collect()
    })
}

fn active_of<'a>(sessions: &'a [Session], of: &'a Subject) -> impl Iterator<Item = &'a Session> {
    sessions.iter().filter(move |session| session.state(now()) == State::Active && session.subject == *of)
}

/// Returns the sessions after the commit was applied.
fn after(before: &[Session], commit: &Commit) -> Vec<Session> {
    let changed: Vec<Session> = commit.changes.iter().map(|change| change.session().clone()).collect();
    let kept = before.iter().filter(|old| changed.iter().all(|new| new.id != old.id)).cloned();
    changed.iter().cloned().chain(kept).collect()
}

fn ids<'a>(sessions: impl IntoIterator<Item = &'a Session>) -> Vec<SessionId> {
    sessions.into_iter().map(|session| session.id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn an_issue_never_touches_another_subjects_session(crowd in mixed(), who in 0..3_usize, cap in 1..8_u64) {
        let (policy, who) = (lively(cap, 0, 0), subject(who));
        let device = device_of(&crowd);
        let own = active_of(&crowd, &who).count();
        let owners = device.owners(now());
        let others: usize = owners.iter().filter(|owner| **owner != who).map(|owner| active_of(&crowd, owner).count()).sum();
        let issue = match device.issue(new_session_of(99, who.clone(), &policy), &policy, now()) {
            Err(refusal) => {
                prop_assert!(!refusal.owners().is_empty() && !refusal.owners().contains(&who));
                prop_assert!(refusal.owners().iter().all(|owner| !refusal.to_string().contains(owner.as_str())));
                match refusal {
                    IssueRefusal::OtherOwner { .. } => prop_assert_eq!((own, others > 0), (0, true)),
                    IssueRefusal::Full { cap: said, .. } => {
                        prop_assert!(own > 0 && others >= said);
                        prop_assert_eq!(said, policy.cap());
                    }
                    other => prop_assert!(false, "{other:?}"),
                }
                return Ok(());
            }
            Ok(issue) => issue,
        };
        prop_assert!(own > 0 || others == 0);
        prop_assert!(issue.revoked.is_empty());
        let mut oldest: Vec<_> = active_of(&crowd, &who).collect();
        oldest.sort_by_key(|session| (session.created_at, session.order));
        oldest.truncate((own + others + 1).saturating_sub(policy.cap()));
        prop_assert_eq!(&issue.evicted, &ids(oldest));
        let after = after(&crowd, &issue.commit);
        for other in owners.iter().filter(|owner| **owner != who) {
            prop_assert_eq!(active_of(&after, other).count(), active_of(&crowd, other).count());
        }
        let active = after.iter().filter(|session| session.state(now()) == State::Active).count();
        prop_assert!(active <= policy.cap());
    }

    #[test]
    fn a_take_over_leaves_one_owner_with_one_commit(crowd in mixed(), who in 0..3_usize, cap in 1..8_u64) {
        let (policy, who) = (lively(cap, 0, 0), subject(who));
        let cause = EndCause { actor: Some(Actor::new("cli").unwrap()), ..EndCause::by_rule(EndReason::Revoked) };
        let device = device_of(&crowd);
        let issue = device.take_over(new_session_of(99, who.clone(), &policy), &cause, &policy, now());
        let others = crowd.iter().filter(|session| session.state(now()) == State::Active && session.subject != who);
        prop_assert_eq!(ids(&issue.revoked), ids(others));
        for session in &issue.revoked {
            let end = session.end.as_ref().unwrap();
            prop_assert_eq!((end.reason, end.at, &end.actor), (EndReason::Revoked, now(), &cause.actor));
        }
        prop_assert!(matches!(issue.commit.changes.first(), Some(Change::Issued(_))));
        let after = after(&crowd, &issue.commit);
        prop_assert_eq!(device_of(&after).owners(now()), vec![who.clone()]);
        prop_assert_eq!(active_of(&after, &who).count(), (active_of(&crowd, &who).count() + 1).min(policy.cap()));
        let mut changed: Vec<_> = issue.commit.changes.iter().map(|change| change.session().id).collect();
        changed.sort_unstable();
        changed.dedup();
        prop_assert_eq!(changed.len(), issue.commit.changes.len(), "one change for each session");
        prop_assert_eq!(issue.commit.expected, device.revision());
    }
}

#[test]
fn a_device_belongs_to_its_owner_until_the_last_session_is_inactive() {
    let policy = lively(3, 0, 0);
    let (first, _) = issued(&policy, at(START));
    let device = device_of(std::slice::from_ref(&first));
    let bert = |now| device.issue(new_session_of(2, subject(1), &policy), &policy, now).map(|issue| issue.commit);
    let idle_at = first.idle_at().unwrap();
    let refused = IssueRefusal::OtherOwner { owners: vec![Subject::default()] };
    assert_eq!(bert(idle_at.minus(Millis::new(1))).map(drop), Err(refused.clone()));
    assert_eq!(refused.to_string(), "the device has active sessions of another subject");
    // An idle session ends with the same commit, which fails if the owner uses the session meanwhile.
    let commit = bert(idle_at).unwrap();
    assert_eq!(commit.guards, [Guard { session: first.id, last_activity: first.last_activity }]);
    assert_eq!(commit.changes[1].session().state(idle_at), State::Ended(EndReason::Idle));
    // Once the session has expired or ended, any subject may have the device.
    assert_eq!(bert(first.expires_at).unwrap().expired, [first.id]);
    let ended = revoked(&first, at(START + 1));
    assert!(device_of(&[ended]).issue(new_session_of(2, subject(1), &policy), &policy, at(START + 2)).is_ok());
}

#[test]
fn others_that_fill_a_lowered_cap_are_not_evicted() {
    let policy = Policy::default();
    let crowd: Vec<Session> = (0..4_u64)
        .map(|n| {
            let new_session = new_session_of(n, subject(usize::from(n > 0)), &policy);
            Device::unknown(laptop()).issue(new_session, &policy, at(START + n)).unwrap().session
        })
        .collect();
    let device = device_of(&crowd);
    let anna = |cap| device.issue(new_session_of(9, subject(0), &policy), &lively(cap, 0, 0), at(START + 10));
    assert_eq!(anna(3).unwrap_err(), IssueRefusal::Full { owners: vec![subject(1)], cap: 3 });
    assert_eq!(anna(4).unwrap().evicted, [crowd[0].id]);
    assert!(anna(5).unwrap().evicted.is_empty());
    assert_eq!(device.available_slots(&subject(1), &lively(3, 0, 0), at(START + 10)), Ok(2));
}

#[test]
fn replacements_are_issued_all_or_none_and_evict_nobody() {
    let policy = Policy::default();
    let (session, _) = issued(&policy, at(START));
    let device = device_of(std::slice::from_ref(&session));
    let check =
        |subject: &Subject, count, cap| device.check_replacements(subject, count, &lively(cap, 0, 0), at(START + 1));
    assert_eq!(check(&session.subject, 2, 3), Ok(()));
    assert_eq!(check(&session.subject, 3, 3), Err(ReplacementRefusal::OverCap { active: 4, cap: 3 }));
    let owners = vec![session.subject.clone()];
    assert_eq!(check(&subject(1), 1, 3), Err(IssueRefusal::OtherOwner { owners }.into()));
    // Once the session has expired, any subject may have the device.
    let later = device.check_replacements(&subject(1), 3, &lively(3, 0, 0), session.expires_at);
    assert_eq!(later, Ok(()));
}
