//! Many at once, in two processes.

use std::sync::Arc;

use futures_util::future::join_all;
use tenure_domain::{ClientInfo, DeviceId, EndReason, Filter, Policy, Refusal, Scope, SortKey, Subject};
use tenure_ports::{CommitError, SessionRepository};
use tenure_service::{IssueRequest, RotateError, Sessions, Target, Usage, VerifyError};
use tokio::task::JoinSet;

use super::support::{capped, device, enrolment, ids, issue, now, walk};
use crate::stand::Stand;

/// Of many decisions on one state of a device exactly one is applied.
pub async fn one_of_many_commits_on_a_revision_is_applied(stand: &Stand) {
    let policy = Policy::default();
    for round in 0..5 {
        let loaded = stand.store.load(&device("laptop")).await.unwrap();
        let issues: Vec<_> = (0..16).map(|_| loaded.issue(enrolment(stand, &policy), &policy, now(stand))).collect();
        let mut tasks = JoinSet::new();
        for (n, issue) in issues.into_iter().enumerate() {
            let store: Arc<dyn SessionRepository> = Arc::clone([&stand.store, &stand.other][n % 2]);
            tasks.spawn(async move { (issue.session.id, store.commit(&issue.commit).await) });
        }
        let answers = tasks.join_all().await;
        let (made, not): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(_, answer)| answer.is_ok());
        assert_eq!(made.len(), 1, "{made:?}");
        assert!(not.iter().all(|(_, answer)| *answer == Err(CommitError::Conflict)), "{not:?}");
        let listed = walk(&*stand.store, &Filter::default(), now(stand), 100).await;
        assert_eq!(listed.len(), round + 1);
        assert!(ids(&listed).contains(&made[0].0));
    }
}

/// A process that verified the token a moment ago refuses it once another's revocation was acknowledged.
pub async fn a_revocation_is_seen_by_whoever_verified_before(stand: &Stand) {
    let policy = Policy::default();
    let (ours, theirs) = (stand.sessions(&stand.store, policy), stand.sessions(&stand.other, policy));
    for _ in 0..20 {
        let issued = issue(stand, "laptop", &policy).await;
        theirs.verify(&issued.token, Usage::Counts).await.unwrap();
        let revoked = ours.revoke(&Target::Ids(vec![issued.session.id]), None, &super::support::cause()).await.unwrap();
        assert_eq!(revoked.ended.len(), 1);
        let refused = Err(VerifyError::Refused(Refusal::Ended(EndReason::Revoked)));
        assert_eq!(ours.verify(&issued.token, Usage::Counts).await.map(drop), refused);
        let sessions = &theirs;
        stand.seen(refused.clone(), async |_| sessions.verify(&issued.token, Usage::Counts).await.map(drop)).await;
        // The use that was noted before the end brings nothing back.
        theirs.flush_activity().await.unwrap();
        assert_eq!(ours.verify(&issued.token, Usage::Counts).await.map(drop), refused);
    }
}

/// Of many rotations of one token one is made; the others are refused, and nobody is taken for a thief.
pub async fn one_of_many_rotations_is_made(stand: &Stand) {
    let policy = Policy::default();
    let sessions = [&stand.store, &stand.other].map(|store| Arc::new(stand.sessions(store, policy)));
    for _ in 0..3 {
        let issued = issue(stand, "laptop", &policy).await;
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
            sessions.verify(&winner.token, Usage::Ignored).await.unwrap();
        }
    }
}

/// However many are issued at once, no listing ever shows more than the cap, and the oldest go.
pub async fn a_device_never_has_more_than_its_cap(stand: &Stand) {
    let policy = capped(5);
    let both: [Arc<Sessions>; 2] = [&stand.store, &stand.other].map(|store| Arc::new(stand.sessions(store, policy)));
    let first = issue(stand, "laptop", &policy).await.session;
    let request = || IssueRequest {
        device: DeviceId::new("laptop").unwrap(),
        subject: Subject::default(),
        client: ClientInfo::default(),
        ttl: None,
    };
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
    // Each one's eviction was of the oldest: the five that were issued last are left.
    let mut by_issue: Vec<_> =
        issued.iter().map(|issued| (issued.session.created_at, issued.session.order, issued.session.id)).collect();
    by_issue.sort_unstable();
    let mut last: Vec<_> = by_issue[27..].iter().map(|(_, _, id)| *id).collect();
    last.sort_unstable();
    let listed = both[0].list(&filter, SortKey::Created, 100).await.unwrap();
    assert_eq!(ids(&listed), last);
    assert!(issued.iter().any(|issued| issued.evicted.contains(&first.id)));
}
