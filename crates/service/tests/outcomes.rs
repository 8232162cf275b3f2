//! Tests of the use cases with failures that a healthy store does not show: conflicts, outages and lost answers.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::error::Error;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tenure_adapter_memory::MemoryStore;
use tenure_conformance::{START, SeededRandom, TestClock, TickingClock};
use tenure_domain::{
    ClientInfo, Commit, Device, DeviceId, IssueRefusal, Millis, Policy, Refusal, Revision, Session, SessionId, Subject,
    Timestamp, Token,
};
use tenure_ports::prelude::*;
use tenure_ports::{CommitError, ErrorSource, MockSessionRepository, StoreError};
use tenure_service::{ActivityMode, IssueError, IssueRequest, RotateError, Sessions, Target, VerifyError, WriteError};

fn device() -> DeviceId {
    DeviceId::new("laptop").unwrap()
}

fn request() -> IssueRequest {
    IssueRequest { device: device(), subject: Subject::default(), client: ClientInfo::default(), ttl: None }
}

fn sessions(repository: MockSessionRepository) -> Sessions {
    Sessions::new(Arc::new(repository), TickingClock::new(), Arc::new(SeededRandom::new(7)), Policy::default())
}

fn down() -> StoreError {
    StoreError::unavailable("the store", "is down")
}

fn lost() -> CommitError {
    CommitError::OutcomeUnknown {
        location: "the store".to_owned(),
        message: "the answer was lost".to_owned(),
        source: ErrorSource::default(),
    }
}

/// Issues a session, and returns it with its token.
async fn issued() -> (Session, Token) {
    let mut repository = MockSessionRepository::new();
    repository.expect_load().returning(|id| Ok(Device::unknown(id.clone())));
    repository.expect_commit().returning(|_| Ok(Revision::new(1)));
    let issued = sessions(repository).issue(request()).await.unwrap();
    (issued.session, issued.token)
}

fn holding(session: &Session) -> Device {
    Device::new(session.device.clone(), Revision::new(1), vec![session.clone()], None)
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_decided_again() {
    let mut repository = MockSessionRepository::new();
    repository.expect_load().times(3).returning(|id| Ok(Device::unknown(id.clone())));
    let mut answers = vec![Ok(Revision::new(9)), Err(CommitError::TooLate), Err(CommitError::Conflict)];
    repository.expect_commit().times(3).returning(move |_| answers.pop().unwrap());
    let issued = sessions(repository).issue(request()).await.unwrap();
    // The third decision was made later than the first, and it is the one that was applied.
    assert!(issued.session.created_at > START.plus(Millis::seconds(1)));
}

#[tokio::test(start_paused = true)]
async fn a_change_that_always_conflicts_fails_with_the_number_of_attempts() {
    let mut repository = MockSessionRepository::new();
    repository.expect_load().times(64).returning(|id| Ok(Device::unknown(id.clone())));
    repository.expect_commit().times(64).returning(|_| Err(CommitError::Conflict));
    match sessions(repository).issue(request()).await {
        Err(IssueError::Write(unacknowledged)) => {
            assert_eq!(unacknowledged.error, WriteError::Contended { attempts: 64 });
            assert!(unacknowledged.intended.is_none(), "nothing was changed, so there is no token");
        }
        other => panic!("{other:?}"),
    }
}

/// Shows that the decision after a conflict is made on the new state: another subject came first.
#[tokio::test(start_paused = true)]
async fn a_device_that_another_subject_got_meanwhile_is_refused() {
    let (session, _) = issued().await;
    let anna = || IssueRequest { subject: Subject::new("anna").unwrap(), ..request() };
    let mut repository = MockSessionRepository::new();
    let mut loads = vec![holding(&session), Device::unknown(device())];
    repository.expect_load().times(2).returning(move |_| Ok(loads.pop().unwrap()));
    repository.expect_commit().times(1).returning(|_| Err(CommitError::Conflict));
    match sessions(repository).issue(anna()).await {
        Err(IssueError::Refused(refusal)) => {
            assert_eq!(refusal, IssueRefusal::OtherOwner { owners: vec![Subject::default()] });
            assert!(!IssueError::Refused(refusal).to_string().contains("operator"));
        }
        other => panic!("{other:?}"),
    }
    // An enrolment that is refused at once does not write either.
    let mut repository = MockSessionRepository::new();
    let loaded = holding(&session);
    repository.expect_load().times(1).returning(move |_| Ok(loaded.clone()));
    let refused = sessions(repository).enrol(anna()).await;
    assert!(matches!(refused, Err(IssueError::Refused(_))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_take_over_is_one_commit_and_names_the_sessions_it_ended() {
    let (session, _) = issued().await;
    let mut repository = MockSessionRepository::new();
    let loaded = holding(&session);
    repository.expect_load().times(1).returning(move |_| Ok(loaded.clone()));
    repository.expect_commit().times(1).returning(|commit| {
        let changes: Vec<bool> = commit.changes.iter().map(|change| change.session().end.is_some()).collect();
        assert_eq!(changes, [false, true], "one is issued and the other ended");
        Ok(Revision::new(2))
    });
    let sessions = sessions(repository);
    let anna = IssueRequest { subject: Subject::new("anna").unwrap(), ..request() };
    let issuing = sessions.prepare_issue(anna).unwrap().taking_over(Sessions::revocation(None, None));
    let token = issuing.token();
    let issued = sessions.issue_prepared(issuing).await.unwrap();
    assert_eq!(issued.token.to_text().expose(), token.to_text().expose());
    assert_eq!(issued.revoked.iter().map(|session| session.id).collect::<Vec<_>>(), [session.id]);
    assert!(issued.evicted.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_to_a_rotation_that_was_made_is_resolved() {
    let (session, token) = issued().await;
    let stored: Arc<Mutex<Option<Commit>>> = Arc::default();
    let mut repository = MockSessionRepository::new();
    let loaded = holding(&session);
    repository.expect_load_by_session().times(1).returning(move |_| Ok(Some(loaded.clone())));
    let kept = Arc::clone(&stored);
    repository.expect_commit().times(2).returning(move |commit| {
        let mut kept = kept.lock();
        if kept.is_some() {
            assert_eq!(kept.as_ref(), Some(commit), "the very same commit is submitted again");
            return Err(CommitError::Conflict);
        }
        *kept = Some(commit.clone());
        Err(lost())
    });
    repository
        .expect_find()
        .times(1)
        .returning(move |_, _| Ok(stored.lock().as_ref().map(|commit| commit.changes[0].session().clone())));
    let rotated = sessions(repository).rotate(&token).await.unwrap();
    assert_eq!(rotated.session.generation, 2);
    assert_eq!(rotated.session.credential.current, rotated.token.secret().digest());
}

#[tokio::test(start_paused = true)]
async fn a_lost_rotation_that_another_process_won_is_refused_and_no_theft() {
    let (session, token) = issued().await;
    let winner = match holding(&session).rotate(
        &token,
        &tenure_domain::RotationSecret::new([3; 16]),
        &Policy::default(),
        START.plus(Millis::seconds(10)),
    ) {
        tenure_domain::Decision::Accept(rotation) => rotation.session,
        other => panic!("{other:?}"),
    };
    let mut repository = MockSessionRepository::new();
    let mut devices = vec![holding(&winner), holding(&session)];
    repository.expect_load_by_session().times(2).returning(move |_| Ok(devices.pop()));
    let mut answers = vec![Err(CommitError::Conflict), Err(lost())];
    repository.expect_commit().times(2).returning(move |_| answers.pop().unwrap());
    repository.expect_find().times(1).returning(move |_, _| Ok(Some(winner.clone())));
    match sessions(repository).rotate(&token).await {
        Err(RotateError::Refused(Refusal::Rotated)) => {}
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stays_lost_is_reported_with_the_new_token() {
    let (session, token) = issued().await;
    let mut repository = MockSessionRepository::new();
    let loaded = holding(&session);
    repository.expect_load_by_session().times(1).returning(move |_| Ok(Some(loaded.clone())));
    // The later attempts have certainly failed, but the first one may still be applied.
    let mut answers = vec![Err(down().into()), Err(down().into()), Err(lost())];
    repository.expect_commit().times(3).returning(move |_| answers.pop().unwrap());
    let sessions = sessions(repository);
    let rotating = sessions.prepare_rotation(&token).unwrap();
    match sessions.rotate_prepared(&rotating).await {
        Err(RotateError::Write(unacknowledged)) => {
            assert!(matches!(unacknowledged.error, WriteError::OutcomeUnknown { .. }), "{:?}", unacknowledged.error);
            assert!(unacknowledged.error.to_string().starts_with("outcome unknown: "));
            let intended = unacknowledged.intended.expect("the token that may be valid now");
            assert_eq!(intended.token.to_text().expose(), rotating.token().to_text().expose());
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_an_error_and_not_a_refusal() {
    let (_, token) = issued().await;
    let mut repository = MockSessionRepository::new();
    repository.expect_find_cached().return_const(None);
    repository.expect_find().returning(|_, _| Err(down()));
    let outcome = sessions(repository).verify(&token, ActivityMode::Record).await;
    assert_eq!(outcome, Err(VerifyError::Write(WriteError::Store(down()))));
}

/// Returns the kind of the I/O error that is the source of an error.
fn kind_of_source(error: &dyn Error) -> Option<io::ErrorKind> {
    error.source()?.downcast_ref::<io::Error>().map(io::Error::kind)
}

#[tokio::test(start_paused = true)]
async fn the_errors_of_the_use_cases_keep_their_source() {
    let (_, token) = issued().await;
    let broken = || down().with_source(ErrorSource::new(io::Error::from(io::ErrorKind::BrokenPipe)));
    let mut repository = MockSessionRepository::new();
    repository.expect_find_cached().return_const(None);
    repository.expect_find().returning(move |_, _| Err(broken()));
    repository.expect_load().returning(move |_| Err(broken()));
    repository.expect_load_by_session().returning(move |_| Err(broken()));
    let sessions = sessions(repository);
    let failed: [Box<dyn Error>; 3] = [
        sessions.issue(request()).await.unwrap_err().into(),
        sessions.verify(&token, ActivityMode::Record).await.unwrap_err().into(),
        sessions.rotate(&token).await.unwrap_err().into(),
    ];
    for error in failed {
        assert_eq!(error.to_string(), "the store: is down");
        assert_eq!(kind_of_source(&*error), Some(io::ErrorKind::BrokenPipe), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn theft_is_reported_only_once_the_end_is_durable() {
    let (session, token) = issued().await;
    let rotation = match holding(&session).rotate(
        &token,
        &tenure_domain::RotationSecret::new([3; 16]),
        &Policy::default(),
        Timestamp::from_millis(900_000),
    ) {
        tenure_domain::Decision::Accept(rotation) => rotation.session,
        other => panic!("{other:?}"),
    };
    for durable in [true, false] {
        let mut repository = MockSessionRepository::new();
        let (found, loaded) = (rotation.clone(), holding(&rotation));
        repository.expect_find_cached().return_const(None);
        repository.expect_find().returning(move |_, _| Ok(Some(found.clone())));
        repository.expect_load_by_session().returning(move |_| Ok(Some(loaded.clone())));
        repository
            .expect_commit()
            .times(1)
            .returning(move |_| if durable { Ok(Revision::new(2)) } else { Err(down().into()) });
        let outcome = sessions(repository).verify(&token, ActivityMode::Record).await;
        if durable {
            let replayed = Refusal::Ended(tenure_domain::EndReason::Replayed);
            assert_eq!(outcome, Err(VerifyError::Refused(replayed)));
        } else {
            assert_eq!(outcome, Err(VerifyError::Write(WriteError::Store(down()))));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn activity_that_the_store_does_not_accept_is_kept_and_refuses_nobody() {
    let (session, token) = issued().await;
    let mut repository = MockSessionRepository::new();
    let id = session.id;
    repository.expect_find_cached().return_const(None);
    let found = session.clone();
    repository.expect_find().returning(move |_, _| Ok(Some(found.clone())));
    repository.expect_find().returning(move |_, _| Ok(Some(session.clone())));
    let mut answers = vec![Ok(()), Err(down())];
    repository.expect_touch().times(2).returning(move |touches| {
        assert_eq!(touches.len(), 1, "one touch a session, however often it was used");
        assert_eq!(touches[0].session, id);
        answers.pop().unwrap()
    });
    let sessions = sessions(repository);
    for _ in 0..3 {
        sessions.verify(&token, ActivityMode::Record).await.unwrap();
    }
    assert_eq!(sessions.flush_activity().await, Err(down()));
    sessions.verify(&token, ActivityMode::Ignore).await.unwrap();
    assert_eq!(sessions.flush_activity().await, Ok(1));
    assert_eq!(sessions.flush_activity().await, Ok(0), "nothing is left to write");
}

#[tokio::test(start_paused = true)]
async fn a_cached_session_accepts_a_token_without_asking_the_store() {
    let (session, token) = issued().await;
    let mut repository = MockSessionRepository::new();
    let id = session.id;
    repository.expect_find_cached().times(1).return_const(Some(session));
    repository.expect_touch().times(1).returning(move |touches| {
        assert_eq!(touches[0].session, id);
        Ok(())
    });
    let sessions = sessions(repository);
    let verified = sessions.verify(&token, ActivityMode::Record).await.unwrap();
    assert_eq!(verified.session.last_activity, verified.at);
    sessions.flush_activity().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_refused_or_ended_by_a_cached_record() {
    let (session, token) = issued().await;
    let rotated = match holding(&session).rotate(
        &token,
        &tenure_domain::RotationSecret::new([3; 16]),
        &Policy::default(),
        Timestamp::from_millis(900_000),
    ) {
        tenure_domain::Decision::Accept(rotation) => rotation,
        other => panic!("{other:?}"),
    };
    let cause = tenure_domain::EndCause::by_rule(tenure_domain::EndReason::Revoked);
    let selection = tenure_domain::Selection::one(session.id);
    let now = Timestamp::from_millis(900_000);
    let revocation = holding(&session).revoke(&selection, &cause, &Policy::default(), now);
    let left = {
        let terms = tenure_domain::Terms { idle_timeout: Some(Millis::ZERO), ..session.terms };
        tenure_domain::SessionParts { terms, ..session.clone().into_parts() }
    };
    let left = Session::from_parts(left).unwrap();
    // The store's record accepts a token that the cached record would refuse as unknown, as revoked or as idle.
    let cases = [
        (session.clone(), rotated.session, rotated.token),
        (revocation.ended[0].clone(), session.clone(), token.clone()),
        (left, session.clone(), token),
    ];
    for (cached, stored, token) in cases {
        let mut repository = MockSessionRepository::new();
        repository.expect_find_cached().times(1).return_const(Some(cached));
        repository.expect_find().times(1).returning(move |_, _| Ok(Some(stored.clone())));
        sessions(repository).verify(&token, ActivityMode::Ignore).await.unwrap();
    }
}

#[tokio::test]
async fn sessions_of_one_device_are_revoked_by_one_commit() {
    let clock = TestClock::new();
    let store = MemoryStore::new(clock.clone());
    let sessions = Sessions::new(store.clone(), clock.clone(), Arc::new(SeededRandom::new(3)), Policy::default());
    let mut ids = Vec::new();
    for name in ["laptop", "laptop", "laptop", "phone"] {
        let request = IssueRequest { device: DeviceId::new(name).unwrap(), ..request() };
        ids.push(sessions.issue(request).await.unwrap().session.id);
        clock.pass(Millis::seconds(1));
    }
    let cause = Sessions::revocation(None, None);
    sessions.revoke(&Target::Ids(vec![ids[0]]), None, &cause).await.unwrap();
    let before = store.load(&device()).await.unwrap().revision();
    let unknown = SessionId::new(ids[0].bucket(), [9; 12]);

    let wanted = [ids.clone(), vec![unknown]].concat();
    let revoked = sessions.revoke(&Target::Ids(wanted), None, &cause).await.unwrap();

    let after = store.load(&device()).await.unwrap().revision();
    let mut ended = ids[1..].to_vec();
    ended.sort_unstable();
    assert_eq!(revoked.ended.iter().map(|session| session.id).collect::<Vec<_>>(), ended);
    assert_eq!(revoked.already_ended.iter().map(|session| session.id).collect::<Vec<_>>(), [ids[0]]);
    assert_eq!(revoked.unknown, [unknown]);
    // The store counts revisions over all devices: one for the laptop, one for the phone.
    assert!((1..=2).contains(&(after.get() - before.get())), "{before:?} {after:?}");
}

#[tokio::test]
async fn a_revocation_tells_expired_sessions_from_unknown_ones() {
    let clock = TestClock::new();
    let store = MemoryStore::new(clock.clone());
    let sessions = Sessions::new(store, clock.clone(), Arc::new(SeededRandom::new(4)), Policy::default());
    let expired = sessions.issue(request()).await.unwrap().session.id;
    clock.pass(Millis::hours(24));
    let cause = Sessions::revocation(None, None);
    let revoked = sessions.revoke(&Target::Ids(vec![expired]), None, &cause).await.unwrap();
    assert_eq!((revoked.ended.len(), revoked.already_ended.len(), revoked.unknown.len()), (0, 1, 0));
    clock.pass(Millis::hours(24));
    let revoked = sessions.revoke(&Target::Ids(vec![expired]), None, &cause).await.unwrap();
    assert_eq!((revoked.already_ended.len(), &revoked.unknown[..]), (0, &[expired][..]), "no longer retained");
}
