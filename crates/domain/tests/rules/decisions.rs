//! Tests of decisions about a device: which sessions an issue evicts, which ones a revocation ends, and the commits.

use proptest::prelude::*;
use tenure_domain::*;

use crate::support::*;

/// Generates sessions in random states at `START + 100 s`. They were created in the seconds before, some at one instant.
fn crowd() -> impl Strategy<Value = Vec<Session>> {
    let one = (0..100_u64, 1_000..200_000_u64, prop::option::of(0..100_000_u64), any::<bool>());
    prop::collection::vec(one, 0..12).prop_map(|list| {
        let policy = Policy::default();
        let mut sessions: Vec<Session> = Vec::new();
        for (n, (created, ttl, used, may_idle)) in list.into_iter().enumerate() {
            let idle_timeout = may_idle.then(|| Millis::seconds(40));
            let terms = Terms { idle_timeout, ..policy.terms(Some(Millis::new(ttl))).unwrap() };
            // Creation times are in steps of 10 s, so that ties are common. Each session is issued after all the others, so
            // that its order is right.
            let created = at(START + created / 10 * 10_000);
            let session = device_of(&sessions).issue(new_session(n as u64, terms), &policy, created).unwrap().session;
            sessions.push(match used {
                Some(used) => session.touched(created.plus(Millis::new(used))),
                None => session,
            });
        }
        sessions
    })
}

fn now() -> Timestamp {
    at(START + 100_000)
}

fn in_state(sessions: &[Session], state: State) -> Vec<&Session> {
    sessions.iter().filter(|session| session.state(now()) == state).collect()
}

proptest! {
    #[test]
    fn an_issue_evicts_the_oldest_and_no_more_than_needed(crowd in crowd(), cap in 1..8_u64) {
        let policy = lively(cap, 0, 0);
        let device = device_of(&crowd);
        let issue = device.issue(new_session(99, policy.terms(None).unwrap()), &policy, now()).unwrap();
        let mut active = in_state(&crowd, State::Active);
        active.sort_by_key(|session| (session.created_at, session.order));
        let surplus = (active.len() + 1).saturating_sub(cap as usize);
        let oldest: Vec<_> = active[..surplus].iter().map(|session| session.id).collect();
        prop_assert_eq!(&issue.evicted, &oldest);

        let commit = &issue.commit;
        prop_assert_eq!(commit.expected, device.revision());
        prop_assert_eq!(commit.not_after, issue.session.expires_at.minus(Millis::new(1)));
        prop_assert_eq!(commit.retain, policy.retained_per_device());
        let ended = |reason| -> Vec<SessionId> {
            let changed = commit.changes.iter().map(Change::session);
            changed.filter(|new| new.end.as_ref().is_some_and(|end| end.reason == reason)).map(|new| new.id).collect()
        };
        prop_assert_eq!(ended(EndReason::Evicted), oldest);
        // Idle sessions do not count as active. They end with the commit, unless they were used meanwhile.
        let idle: Vec<_> = in_state(&crowd, State::Idle).iter().map(|session| session.id).collect();
        prop_assert_eq!(ended(EndReason::Idle), idle.clone());
        prop_assert_eq!(commit.guards.iter().map(|guard| guard.session).collect::<Vec<_>>(), idle);
        for guard in &commit.guards {
            prop_assert_eq!(guard.last_activity, device.session(guard.session).unwrap().last_activity);
        }
        let expired: Vec<_> = in_state(&crowd, State::Expired).iter().map(|session| session.id).collect();
        prop_assert_eq!(&commit.expired, &expired);
        let mut ids: Vec<_> = commit.changes.iter().map(|change| change.session().id).collect();
        ids.sort_unstable();
        ids.dedup();
        prop_assert_eq!(ids.len(), commit.changes.len());
    }

    #[test]
    fn ties_are_broken_by_the_order_of_issue(count in 2..10_u64, cap in 1..5_u64) {
        let policy = lively(cap, 0, 0);
        let mut sessions = Vec::new();
        for n in 0..count {
            let issue = device_of(&sessions).issue(new_session(n, policy.terms(None).unwrap()), &policy, at(START)).unwrap();
            sessions.retain(|session: &Session| !issue.evicted.contains(&session.id));
            sessions.push(issue.session);
        }
        let newest: Vec<_> = (count.saturating_sub(cap)..count)
            .map(|n| new_session(n, policy.terms(None).unwrap()).session_id(&laptop()))
            .collect();
        prop_assert_eq!(sessions.iter().map(|session| session.id).collect::<Vec<_>>(), newest);
    }

    #[test]
    fn a_revocation_ends_the_selected_active_sessions(crowd in crowd(), which in 0..12_usize, mode in 0..4) {
        let policy = Policy::default();
        let device = device_of(&crowd);
        let id = crowd.get(which).map(|session| session.id);
        let selection = match (mode, id) {
            (0, Some(id)) => Selection::one(id),
            (1, except) => Selection { except, ..Selection::default() },
            (2, _) => Selection { subject: Some(Subject::new("nobody").unwrap()), ..Selection::default() },
            _ => Selection { subject: Some(Subject::default()), ..Selection::default() },
        };
        let cause = EndCause {
            reason: EndReason::Revoked,
            note: Some(Note::new("lost").unwrap()),
            actor: Some(Actor::new("cli").unwrap()),
        };
        let revocation = device.revoke(&selection, &cause, &policy, now());
        let selected: Vec<_> = crowd.iter().filter(|session| selection.includes(session)).collect();
        let open = |session: &Session| matches!(session.state(now()), State::Active | State::Idle);
        let expected: Vec<_> = selected.iter().filter(|session| open(session)).map(|session| session.id).collect();
        prop_assert_eq!(revocation.ended.iter().map(|session| session.id).collect::<Vec<_>>(), expected.clone());
        prop_assert_eq!(revocation.already_ended.len(), selected.len() - expected.len());
        for session in &revocation.ended {
            let end = session.end.as_ref().unwrap();
            prop_assert_eq!((end.reason, end.at), (cause.reason, now()));
            prop_assert_eq!((&end.note, &end.actor), (&cause.note, &cause.actor));
        }
        match revocation.commit {
            None => prop_assert!(expected.is_empty()),
            Some(commit) => {
                prop_assert_eq!(commit.changes.len(), expected.len());
                // An end is never too late, and does not depend on activity.
                prop_assert_eq!(commit.not_after, Timestamp::MAX);
                prop_assert!(commit.guards.is_empty());
                let watermark = commit.watermark.unwrap();
                prop_assert_eq!(Some(watermark.created_at), revocation.ended.iter().map(|s| s.created_at).max());
                prop_assert_eq!(Some(watermark.until), revocation.ended.iter().map(|s| s.expires_at).max());
            }
        }
    }

    #[test]
    fn ending_idle_sessions_changes_no_other_session(crowd in crowd()) {
        let idle: Vec<_> = in_state(&crowd, State::Idle).iter().map(|session| session.id).collect();
        match device_of(&crowd).end_idle(&Policy::default(), now()) {
            None => prop_assert!(idle.is_empty()),
            Some(commit) => {
                prop_assert_eq!(commit.changes.iter().map(|c| c.session().id).collect::<Vec<_>>(), idle.clone());
                prop_assert_eq!(commit.guards.len(), idle.len());
                for change in &commit.changes {
                    prop_assert_eq!(change.session().state(now()), State::Ended(EndReason::Idle));
                }
            }
        }
    }

    #[test]
    fn an_end_is_remembered_until_the_session_would_have_expired(
        known in prop::option::of((0..300_000_u64, 0..300_000_u64)), crowd in crowd(),
    ) {
        let known = known.map(|(created, until)| RevocationWatermark { created_at: at(START + created), until: at(START + until) });
        let device = Device::new(laptop(), Revision::new(1), crowd.clone(), known);
        let valid = known.filter(|known| now() < known.until);
        let cause = EndCause::by_rule(EndReason::LoggedOut);
        let Some(commit) = device.revoke(&Selection::default(), &cause, &Policy::default(), now()).commit else {
            return Ok(());
        };
        let watermark = commit.watermark.unwrap();
        for change in &commit.changes {
            let session = change.session();
            prop_assert!(watermark.created_at >= session.created_at && watermark.until >= session.expires_at);
        }
        if let Some(valid) = valid {
            prop_assert!(watermark.created_at >= valid.created_at && watermark.until >= valid.until);
        }
    }

    #[test]
    fn a_description_changes_the_client_alone(crowd in crowd(), which in 0..12_usize) {
        prop_assume!(which < crowd.len());
        let session = &crowd[which];
        let client = ClientInfo::default().with(ClientField::Address, "192.0.2.7").unwrap();
        let commit = device_of(&crowd).update_client(session.id, &client, &Policy::default(), now());
        prop_assert_eq!(commit.is_some(), session.state(now()) == State::Active);
        if let Some(commit) = commit {
            let described = commit.changes[0].session();
            let mut parts = described.clone().into_parts();
            prop_assert_eq!(parts.client.get(ClientField::Address), Some("192.0.2.7"));
            parts.client = session.client.clone();
            prop_assert_eq!(&Session::from_parts(parts).unwrap(), session);
            let again = device_of(std::slice::from_ref(described)).update_client(
                session.id, &client, &Policy::default(), now());
            prop_assert!(again.is_none());
        }
    }
}

#[test]
fn a_session_in_the_place_of_another_credential_does_not_outlive_it() {
    let policy = Policy::default();
    let mut new_session = new_session(1, policy.terms(None).unwrap());
    new_session.expires_by = Some(at(START + 5_000));
    let issue = Device::unknown(laptop()).issue(new_session.clone(), &policy, at(START)).unwrap();
    assert_eq!(issue.session.expires_at, at(START + 5_000));
    assert!(Session::from_parts(issue.session.into_parts()).is_ok());
    // The other credential has expired already, so no store may apply the commit.
    let issue = Device::unknown(laptop()).issue(new_session, &policy, at(START + 5_000)).unwrap();
    assert!(issue.commit.not_after < at(START + 5_000));
    assert_eq!(issue.session.state(at(START + 5_000)), State::Expired);
}

#[test]
fn a_token_of_a_session_that_was_not_loaded_is_unknown() {
    let policy = Policy::default();
    let (_, token) = issued(&policy, at(START));
    let empty = Device::unknown(laptop());
    assert!(matches!(empty.authenticate(&token, &policy, at(START)), Decision::Reject(Refusal::Unknown)));
    assert!(matches!(
        empty.rotate(&token, &RotationSecret::new(half(2)), &policy, at(START)),
        Decision::Reject(Refusal::Unknown)
    ));
}

#[test]
fn the_prepared_token_is_the_one_that_is_issued() {
    let policy = Policy::default();
    let new_session = new_session(4, policy.terms(None).unwrap());
    let (id, token) = (new_session.session_id(&laptop()), new_session.token(&laptop()));
    let issue = Device::unknown(laptop()).issue(new_session, &policy, at(START)).unwrap();
    assert_eq!(issue.session.id, id);
    assert_eq!(issue.token.to_text().expose(), token.to_text().expose());
    assert_eq!(issue.session.verdict(&token, at(START)), Verdict::Valid(TokenMatch::Current));
    assert!(issue.session.is_in_its_bucket());
}
