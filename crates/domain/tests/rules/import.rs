//! Tests of importing sessions from another store.

use proptest::prelude::*;
use tenure_domain::*;

use crate::support::*;

fn policy() -> Policy {
    lively(3, 0, 0)
}

/// Issues `count` sessions on one device, a second apart, and returns them with their tokens.
fn sessions(first: u64, count: u64) -> Vec<(Session, Token)> {
    let policy = policy();
    let issue = |n| {
        let new_session = new_session(first + n, policy.terms(None).unwrap());
        let issue = Device::unknown(laptop()).issue(new_session, &policy, at(START + n * 1_000)).unwrap();
        (issue.session, issue.token)
    };
    (0..count).map(issue).collect()
}

fn one() -> (Session, Token) {
    sessions(1, 1).remove(0)
}

fn outcome(device: &Device, incoming: &Session, known: &[Session], now: Timestamp) -> ImportOutcome {
    let plan = device.import(std::slice::from_ref(incoming), known, &policy(), now);
    assert_eq!(plan.outcomes.len(), 1);
    assert_eq!(plan.commit.is_some(), plan.outcomes[0].1 == ImportOutcome::Imported);
    plan.outcomes[0].1
}

const NOW: Timestamp = Timestamp::from_millis(START + 10_000);

#[test]
fn an_unknown_session_is_imported_unchanged() {
    let empty = Device::unknown(laptop());
    let (session, _) = one();
    let plan = empty.import(std::slice::from_ref(&session), &[], &policy(), NOW);
    assert_eq!((plan.outcomes, plan.active), (vec![(session.id, ImportOutcome::Imported)], 1));
    let commit = plan.commit.unwrap();
    assert_eq!(commit.changes, [Change::Imported(session.clone())]);
    assert_eq!((commit.expired.len(), commit.watermark, commit.expected), (0, None, Revision::NONE));
    // An ended session is imported unchanged too, and the watermark covers it.
    let ended = revoked(&session, NOW);
    let commit = empty.import(std::slice::from_ref(&ended), &[], &policy(), NOW).commit.unwrap();
    assert_eq!(commit.changes, [Change::Imported(ended.clone())]);
    assert_eq!(commit.watermark, Some(RevocationWatermark { created_at: ended.created_at, until: ended.expires_at }));
    // So is an expired session, which decisions do not load.
    let late = at(START + 100_000);
    let used = session.clone().touched(at(START + 99_000));
    let commit = empty.import(std::slice::from_ref(&used), &[], &policy(), late).commit.unwrap();
    assert_eq!((commit.changes, commit.expired), (vec![Change::Imported(used)], vec![session.id]));
}

#[test]
fn the_ended_one_wins_whichever_side_it_is_on() {
    let (session, token) = one();
    let newer = rotated(&session, &token, 5, &policy(), at(START + 1)).session;
    let ended = revoked(&session, NOW);
    // The session was ended here, and rotated on the other side since.
    assert_eq!(outcome(&device_of(&[]), &newer, std::slice::from_ref(&ended), NOW), ImportOutcome::AlreadyPresent);
    assert_eq!(outcome(&device_of(&[]), &ended, std::slice::from_ref(&ended), NOW), ImportOutcome::AlreadyPresent);
    // The session was ended on the other side, and rotated here since.
    let device = device_of(std::slice::from_ref(&newer));
    assert_eq!(outcome(&device, &ended, std::slice::from_ref(&newer), NOW), ImportOutcome::Imported);
    // Both records are in one file, in either order.
    for incoming in [[ended.clone(), newer.clone()], [newer.clone(), ended.clone()]] {
        let plan = device_of(&[]).import(&incoming, &[], &policy(), NOW);
        assert_eq!((plan.outcomes, plan.active), (vec![(session.id, ImportOutcome::Imported)], 0));
        assert_eq!(plan.commit.unwrap().changes, [Change::Imported(ended.clone())]);
    }
}

#[test]
fn then_the_one_rotated_more_often_wins() {
    let (session, token) = one();
    let newer = rotated(&session, &token, 5, &policy(), at(START + 1)).session;
    for (here, incoming, expected) in [
        (&session, &newer, ImportOutcome::Imported),
        (&newer, &session, ImportOutcome::AlreadyPresent),
        (&newer, &newer, ImportOutcome::AlreadyPresent),
    ] {
        let device = device_of(std::slice::from_ref(here));
        assert_eq!(outcome(&device, incoming, std::slice::from_ref(here), NOW), expected);
        assert_eq!(outcome(&device, incoming, &[], NOW), expected);
    }
}

#[test]
fn a_record_read_before_the_session_ended_brings_nothing_back() {
    let (session, token) = one();
    let newer = rotated(&session, &token, 5, &policy(), at(START + 1)).session;
    // The session was active when its record was read. It had ended when the device was loaded, so it is not loaded.
    assert_eq!(outcome(&device_of(&[]), &newer, std::slice::from_ref(&session), NOW), ImportOutcome::AlreadyPresent);
    // A session that expired here, but was rotated on the other side, is imported.
    let expired = at(START + 100_000);
    let newer = newer.touched(at(START + 99_999));
    assert_eq!(newer.state(expired), State::Active);
    assert_eq!(outcome(&device_of(&[]), &newer, std::slice::from_ref(&session), expired), ImportOutcome::Imported);
}

#[test]
fn a_record_of_another_device_is_never_replaced() {
    let (session, token) = one();
    let newer = rotated(&session, &token, 5, &policy(), at(START + 1)).session;
    let mut parts = session.into_parts();
    parts.device = DeviceId::new("phone").unwrap();
    let foreign = Session::from_parts(parts).unwrap();
    for now in [NOW, at(START + 100_000)] {
        assert_eq!(
            outcome(&device_of(&[]), &newer, std::slice::from_ref(&foreign), now),
            ImportOutcome::AlreadyPresent
        );
    }
    // The same holds once the record is no longer retained.
    let mut parts = foreign.into_parts();
    parts.terms.retention = Millis::ZERO;
    let foreign = Session::from_parts(parts).unwrap();
    assert_eq!(outcome(&device_of(&[]), &newer, &[foreign], at(START + 100_000)), ImportOutcome::AlreadyPresent);
}

#[test]
fn a_record_that_is_no_longer_retained_here_is_ignored() {
    let (session, token) = one();
    let incoming = rotated(&session, &token, 5, &policy(), at(START + 1)).session;
    // The session was used here later than on the other side. By now it has expired here, and is no longer retained.
    let mut left = session.touched(at(START + 60_000)).into_parts();
    left.terms.retention = Millis::ZERO;
    let left = Session::from_parts(left).unwrap();
    let now = left.expires_at;
    assert_eq!((left.is_retained(now), incoming.state(now)), (false, State::Idle));
    let plan = device_of(&[]).import(std::slice::from_ref(&incoming), &[left], &policy(), now);
    assert_eq!(plan.outcomes, [(incoming.id, ImportOutcome::Imported)]);
    let commit = plan.commit.unwrap();
    assert!(matches!(&commit.changes[..], [Change::Imported(taken)] if taken.last_activity == incoming.last_activity));
    assert_eq!(commit.guards, [], "a guard would fail in a store that still has the record");
}

#[test]
fn a_session_that_may_have_ended_here_is_blocked_until_its_expiry() {
    let (session, _) = one();
    let session = session.touched(at(START + 80_000));
    for (created, until, now, expected) in [
        (0, 90_000, 50_000, ImportOutcome::Blocked),
        (5_000, 50_001, 50_000, ImportOutcome::Blocked),
        (0, 50_000, 50_000, ImportOutcome::Imported),
    ] {
        let watermark = RevocationWatermark { created_at: at(START + created), until: at(START + until) };
        let device = Device::new(laptop(), Revision::new(1), Vec::new(), Some(watermark));
        assert_eq!(outcome(&device, &session, &[], at(START + now)), expected);
    }
    // A session that was created after all those that ended here is imported.
    let watermark = RevocationWatermark { created_at: at(START - 1), until: at(START + 90_000) };
    let device = Device::new(laptop(), Revision::new(1), Vec::new(), Some(watermark));
    assert_eq!(outcome(&device, &session, &[], NOW), ImportOutcome::Imported);
    // An ended session cannot become valid again, so it is not blocked.
    let watermark = RevocationWatermark { created_at: at(START), until: at(START + 90_000) };
    let device = Device::new(laptop(), Revision::new(1), Vec::new(), Some(watermark));
    assert_eq!(outcome(&device, &revoked(&session, NOW), &[], NOW), ImportOutcome::Imported);
}

#[test]
fn over_the_cap_nothing_is_imported() {
    let here: Vec<_> = sessions(1, 2).into_iter().map(|(session, _)| session).collect();
    let incoming: Vec<_> = sessions(11, 2).into_iter().map(|(session, _)| session).collect();
    let plan = device_of(&here).import(&incoming, &[], &policy(), NOW);
    assert_eq!((plan.active, plan.commit.is_none()), (4, true));
    // If one of the sessions has ended, the rest is within the cap.
    let incoming = [incoming[0].clone(), revoked(&incoming[1], NOW)];
    let plan = device_of(&here).import(&incoming, &[], &policy(), NOW);
    assert_eq!((plan.active, plan.commit.unwrap().changes.len()), (3, 2));
}

#[test]
fn an_idle_session_is_imported_as_ended_unless_it_is_used_meanwhile() {
    let (session, token) = one();
    let now = at(START + 40_000);
    let commit = device_of(&[]).import(std::slice::from_ref(&session), &[], &policy(), now).commit.unwrap();
    assert_eq!(commit.changes[0].session().state(now), State::Ended(EndReason::Idle));
    assert_eq!(commit.watermark.unwrap().until, session.expires_at);
    // This side recorded later activity, so the session is not idle.
    let newer = rotated(&session, &token, 5, &policy(), at(START)).session;
    let here = session.clone().touched(at(START + 1));
    let commit = device_of(std::slice::from_ref(&here)).import(std::slice::from_ref(&newer), &[], &policy(), now);
    let commit = commit.commit.unwrap();
    assert_eq!(commit.changes[0].session().state(now), State::Active);
    assert_eq!(commit.changes[0].session().last_activity, at(START + 1));
    // This side recorded no later activity, but may do so before the commit. So a guard is needed.
    let plan = device_of(std::slice::from_ref(&session)).import(std::slice::from_ref(&newer), &[], &policy(), now);
    let commit = plan.commit.unwrap();
    assert_eq!(commit.changes[0].session().state(now), State::Ended(EndReason::Idle));
    assert_eq!(commit.guards, [Guard { session: session.id, last_activity: at(START) }]);
    assert_eq!(commit.changes.len(), 1);
    // Another session that is idle here does not count as active, so it ends with the same commit.
    let other = sessions(20, 1).remove(0).0;
    let commit = device_of(std::slice::from_ref(&other)).import(&[revoked(&session, NOW)], &[], &policy(), now).commit;
    let commit = commit.unwrap();
    assert_eq!(commit.changes[1].session().state(now), State::Ended(EndReason::Idle));
    assert_eq!(commit.guards, [Guard { session: other.id, last_activity: other.last_activity }]);
}

proptest! {
    /// Imports every mixture of local and incoming records.
    #[test]
    fn an_import_resurrects_nothing_and_keeps_the_cap(
        here in prop::collection::vec((0..8_u64, 0..3_u32, any::<bool>(), 0..60_000_u64), 0..6),
        there in prop::collection::vec((0..8_u64, 0..3_u32, any::<bool>(), 0..60_000_u64), 0..6),
        now in 30_000..130_000_u64,
    ) {
        let policy = policy();
        let make = |(n, rotations, ended, used): (u64, u32, bool, u64)| {
            let (mut session, mut token) = sessions(n, 1).remove(0);
            for rotation in 0..rotations {
                let next = rotated(&session, &token, 50 + u64::from(rotation), &policy, at(START + 2));
                (session, token) = (next.session, next.token);
            }
            session = session.touched(at(START + used.min(now)));
            if ended && session.state(at(START + 10_000)) == State::Active {
                session = revoked(&session, at(START + 10_000));
            }
            session
        };
        let mut known: Vec<Session> = here.into_iter().map(make).collect();
        known.sort_by_key(|session| session.id);
        known.dedup_by_key(|session| session.id);
        let incoming: Vec<Session> = there.into_iter().map(make).collect();
        let now = at(START + now);
        let loaded: Vec<_> = known.iter().filter(|session| session.end.is_none()).cloned().collect();
        let plan = device_of(&loaded).import(&incoming, &known, &policy, now);

        prop_assert_eq!(plan.commit.is_none(), plan.active > policy.cap()
            || plan.outcomes.iter().all(|(_, outcome)| *outcome != ImportOutcome::Imported));
        let Some(commit) = plan.commit else { return Ok(()) };
        let mut after = known.clone();
        for change in &commit.changes {
            prop_assert!(Session::from_parts(change.session().clone().into_parts()).is_ok());
            after.retain(|session| session.id != change.session().id);
            after.push(change.session().clone());
        }
        let active = |sessions: &[Session]| sessions.iter().filter(|s| s.state(now) == State::Active).count();
        prop_assert_eq!(active(&after), plan.active);
        prop_assert!(plan.active <= policy.cap());
        let ids: std::collections::BTreeSet<_> = after.iter().map(|session| session.id).collect();
        prop_assert_eq!(ids.len(), after.len(), "one change for each session");
        prop_assert!(after.iter().all(|session| session.state(now) != State::Idle));
        for old in &known {
            let new = after.iter().find(|session| session.id == old.id).unwrap();
            if old.end.is_some() {
                prop_assert_eq!(new, old);
            }
            prop_assert!(new.generation >= old.generation || new.end.is_some());
            prop_assert!(new.last_activity >= old.last_activity);
        }
        for session in &after {
            let ended_there = incoming.iter().any(|other| {
                other.id == session.id && other.end.is_some() && other.is_retained(now)
            });
            prop_assert!(!ended_there || session.end.is_some());
            let expired = commit.expired.contains(&session.id);
            prop_assert_eq!(expired, session.state(now) == State::Expired);
        }
    }
}
