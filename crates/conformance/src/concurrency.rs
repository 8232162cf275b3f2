//! Promises about concurrency: many calls at once, in two processes.

use std::sync::Arc;

use futures_util::future::join_all;
use tenure_domain::{
    ClientInfo, EndReason, Filter, IssueRefusal, Policy, Refusal, Scope, SessionId, SortKey, State, Subject,
};
use tenure_ports::{CommitError, SessionRepository};
use tenure_service::{ActivityMode, IssueError, IssueRequest, RotateError, Sessions, Target, VerifyError};
use tokio::task::JoinSet;

use super::support::{capped, cause, device, find, ids, issue, issue_to, new_session, now, walk};
use crate::fixture::StoreFixture;

/// Of many decisions on one revision of a device, exactly one is applied.
pub async fn one_of_many_commits_on_a_revision_is_applied(fixture: &StoreFixture) {
    let policy = Policy::default();
    for round in 0..5 {
        let loaded = fixture.store.load(&device("laptop")).await.unwrap();
        let issues: Vec<_> =
            (0..16).map(|_| loaded.issue(new_session(fixture, &policy), &policy, now(fixture)).unwrap()).collect();
        let mut tasks = JoinSet::new();
        for (n, issue) in issues.into_iter().enumerate() {
            let store: Arc<dyn SessionRepository> = Arc::clone([&fixture.store, &fixture.other][n % 2]);
            tasks.spawn(async move { (issue.session.id, store.commit(&issue.commit).await) });
        }
        let answers = tasks.join_all().await;
        let (made, not): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, answer)| answer.is_ok());
        assert_eq!(made.len(), 1, "{made:?}");
        assert!(not.iter().all(|(_, answer)| *answer == Err(CommitError::Conflict)), "{not:?}");
        let listed = walk(&*fixture.store, &Filter::default(), now(fixture), 100).await;
        assert_eq!(listed.len(), round + 1);
        assert!(ids(&listed).contains(&made[0].0));
    }
}

/// A process that verified a token a moment ago refuses it once a revocation by another process was acknowledged.
pub async fn a_revocation_reaches_a_process_that_verified_before(fixture: &StoreFixture) {
    let policy = Policy::default();
    let (ours, theirs) = (fixture.sessions(&fixture.store, policy), fixture.sessions(&fixture.other, policy));
    for _ in 0..20 {
        let issued = issue(fixture, "laptop", &policy).await;
        theirs.verify(&issued.token, ActivityMode::Record).await.unwrap();
        let revoked = ours.revoke(&Target::Ids(vec![issued.session.id]), None, &cause()).await.unwrap();
        assert_eq!(revoked.ended.len(), 1);
        let refused = Err(VerifyError::Refused(Refusal::Ended(EndReason::Revoked)));
        assert_eq!(ours.verify(&issued.token, ActivityMode::Record).await.map(drop), refused);
        let sessions = &theirs;
        fixture
            .seen(refused.clone(), async |_| sessions.verify(&issued.token, ActivityMode::Record).await.map(drop))
            .await;
        // The use that was recorded before the end brings nothing back.
        theirs.flush_activity().await.unwrap();
        assert_eq!(ours.verify(&issued.token, ActivityMode::Record).await.map(drop), refused);
    }
}

/// Of many rotations of one token, one is made. The others are refused, and none counts as theft.
pub async fn one_of_many_rotations_is_made(fixture: &StoreFixture) {
    let policy = Policy::default();
    let sessions = [&fixture.store, &fixture.other].map(|store| Arc::new(fixture.sessions(store, policy)));
    for _ in 0..3 {
        let issued = issue(fixture, "laptop", &policy).await;
        let mut tasks = JoinSet::new();
        for n in 0..64 {
            let (sessions, token) = (Arc::clone(&sessions[n % 2]), issued.token.clone());
            tasks.spawn(async move { sessions.rotate(&token).await });
        }
        let (made, refused): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
        assert_eq!(made.len(), 1);
        for answer in refused {
            assert!(matches!(answer, Err(RotateError::Refused(Refusal::Rotated))), "{answer:?}");
        }
        let winner = made.into_iter().next().unwrap().unwrap();
        assert_eq!(winner.session.generation, 2);
        for sessions in &sessions {
            sessions.verify(&winner.token, ActivityMode::Ignore).await.unwrap();
        }
    }
}

/// However many sessions are issued at once, no listing ever shows more than the cap, and the oldest are evicted.
pub async fn a_device_never_has_more_than_its_cap(fixture: &StoreFixture) {
    let policy = capped(5);
    let both: [Arc<Sessions>; 2] =
        [&fixture.store, &fixture.other].map(|store| Arc::new(fixture.sessions(store, policy)));
    let first = issue(fixture, "laptop", &policy).await.session;
    let request = || request_of(Subject::default().as_str());
    let filter = Filter { device: Some(device("laptop")), subject: None, scope: Scope::Active };
    let mut tasks = JoinSet::new();
    for n in 0..32 {
        let (sessions, request) = (Arc::clone(&both[n % 2]), request());
        tasks.spawn(async move { sessions.issue(request).await.unwrap() });
    }
    let mut issued = Vec::new();
    while !tasks.is_empty() {
        let looks = join_all(both.iter().map(|sessions| sessions.list(&filter, SortKey::Created, 100))).await;
        for listed in looks {
            assert!(listed.unwrap().len() <= 5);
        }
        while let Some(done) = tasks.try_join_next() {
            issued.push(done.unwrap());
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(issued.len(), 32);
    // Each eviction was of the oldest: the five that were issued last are left.
    let mut by_issue: Vec<_> =
        issued.iter().map(|issued| (issued.session.created_at, issued.session.order, issued.session.id)).collect();
    by_issue.sort_unstable();
    let mut last: Vec<_> = by_issue[27..].iter().map(|(_, _, id)| *id).collect();
    last.sort_unstable();
    let listed = both[0].list(&filter, SortKey::Created, 100).await.unwrap();
    assert_eq!(ids(&listed), last);
    assert!(issued.iter().any(|issued| issued.evicted.contains(&first.id)));
}

fn request_of(subject: &str) -> IssueRequest {
    let subject = Subject::new(subject).unwrap();
    IssueRequest { device: device("laptop"), subject, client: ClientInfo::default(), ttl: None }
}

/// Of many subjects that want a free device at once, one gets it. A take-over leaves no instant without an owner, and
/// none with two.
pub async fn a_device_has_one_owner_however_many_subjects_ask(fixture: &StoreFixture) {
    let policy = capped(3);
    let both = [&fixture.store, &fixture.other].map(|store| Arc::new(fixture.sessions(store, policy)));
    let mut tasks = JoinSet::new();
    for n in 0..16 {
        let (sessions, subject) = (Arc::clone(&both[n % 2]), format!("subject {}", n % 4));
        tasks.spawn(async move { sessions.issue(request_of(&subject)).await });
    }
    let (made, refused): (Vec<_>, Vec<_>) = tasks.join_all().await.into_iter().partition(Result::is_ok);
    let made: Vec<_> = made.into_iter().flatten().collect();
    let owner = made[0].session.subject.clone();
    assert_eq!((made.len(), refused.len()), (4, 12), "each of the winner's, none of another's");
    assert!(made.iter().all(|issued| issued.session.subject == owner));
    for refusal in refused {
        let owners = vec![owner.clone()];
        match refusal {
            Err(IssueError::Refused(refusal)) => assert_eq!(refusal, IssueRefusal::OtherOwner { owners }),
            other => panic!("{other:?}"),
        }
    }
    let mut tasks = JoinSet::new();
    for n in 0..8 {
        let (sessions, subject) = (Arc::clone(&both[n % 2]), format!("subject {n}"));
        tasks.spawn(async move {
            let issuing = sessions.prepare_issue(request_of(&subject)).unwrap().taking_over(cause());
            sessions.issue_prepared(issuing).await.unwrap()
        });
    }
    let (mut taken, mut revoked) = (Vec::new(), Vec::new());
    while !tasks.is_empty() {
        for store in [&fixture.store, &fixture.other] {
            let owners = store.load(&device("laptop")).await.unwrap().owners(now(fixture));
            assert_eq!(owners.len(), 1, "{owners:?}");
        }
        while let Some(done) = tasks.try_join_next() {
            let done = done.unwrap();
            taken.push(done.session);
            revoked.extend(done.revoked);
        }
        tokio::task::yield_now().await;
    }
    // Each subject's sessions were ended by the next one, and none twice. The last one has the device.
    let left = fixture.other.load(&device("laptop")).await.unwrap();
    let left: Vec<_> = left.sessions().iter().filter(|session| session.state(now(fixture)) == State::Active).collect();
    let before = made.iter().map(|issued| issued.session.id).filter(|id| revoked.iter().any(|over| over.id == *id));
    let mut over: Vec<SessionId> = taken.iter().map(|session| session.id).filter(|id| *id != left[0].id).collect();
    over.extend(before);
    over.sort_unstable();
    assert_eq!((left.len(), ids(&revoked)), (1, over));
    for session in &revoked {
        let found = find(fixture, session.id).await.unwrap();
        assert_eq!(found.end, session.end);
        assert_eq!(found.state(now(fixture)), State::Ended(EndReason::Revoked));
    }
}

/// A device that several subjects share, as earlier releases allowed, keeps serving each of them. At the cap, each
/// evicts its own oldest session, and a new subject is refused.
pub async fn a_shared_device_serves_each_of_its_owners(fixture: &StoreFixture) {
    let sessions = fixture.sessions(&fixture.store, capped(4));
    let mut shared = Vec::new();
    for subject in ["anna", "bert", "anna", "bert"] {
        shared.push(issue_to(fixture, "laptop", subject).await);
        fixture.time.pass(tenure_domain::Millis::new(1));
    }
    let anna = sessions.issue(request_of("anna")).await.unwrap();
    assert_eq!((anna.evicted, anna.revoked), (vec![shared[0].id], vec![]));
    let bert = fixture.sessions(&fixture.other, capped(4)).issue(request_of("bert")).await.unwrap();
    assert_eq!(bert.evicted, [shared[1].id]);
    let owners = vec![Subject::new("anna").unwrap(), Subject::new("bert").unwrap()];
    match sessions.issue(request_of("carl")).await {
        Err(IssueError::Refused(refusal)) => assert_eq!(refusal, IssueRefusal::OtherOwner { owners }),
        other => panic!("{other:?}"),
    }
    // If the cap was lowered to what the other subjects have, none of their sessions is evicted.
    match fixture.sessions(&fixture.store, capped(2)).issue(request_of("anna")).await {
        Err(IssueError::Refused(refusal)) => assert_eq!(refusal.owners(), [Subject::new("bert").unwrap()]),
        other => panic!("{other:?}"),
    }
    let loaded = fixture.other.load(&device("laptop")).await.unwrap();
    let active: Vec<_> = loaded.sessions().iter().filter(|s| s.state(now(fixture)) == State::Active).collect();
    assert_eq!(ids(active), ids([&shared[2], &shared[3], &anna.session, &bert.session]));
}
