//! Promises about inactive sessions: how long they are kept, how they are removed, and that nothing brings them back.

use tenure_domain::{EndReason, Filter, Millis, Policy, PolicySettings, Refusal, Session, SessionId, Touch};
use tenure_ports::{CommitError, FindOptions};
use tenure_service::{ActivityMode, VerifyError};

use super::support::{
    capped, decide_rotation, device, find, idling, ids, issue, load_of, now, policy, purge, retained, revocation,
    revoke, walk,
};
use crate::fixture::StoreFixture;

/// The store drops the inactive sessions of a device that exceed the commit's limit, those that ended first.
pub async fn the_oldest_inactive_sessions_are_dropped(fixture: &StoreFixture) {
    let policy = capped(1);
    let mut issued = Vec::new();
    for _ in 0..14 {
        // Each session evicts the one before.
        issued.push(issue(fixture, "laptop", &policy).await.session);
        fixture.time.pass(Millis::seconds(1));
    }
    let beside = issue(fixture, "phone", &policy).await.session;
    let kept = walk(&*fixture.store, &Filter { device: Some(device("laptop")), ..retained() }, now(fixture), 100).await;
    assert_eq!(ids(&kept), ids(&issued[3..]), "one active and ten evicted");
    for dropped in &issued[..3] {
        assert_eq!(find(fixture, dropped.id).await, None);
        fixture.seen(None, async |other| other.find(dropped.id, FindOptions::EXACT).await.unwrap()).await;
    }
    // Ties are decided by the id.
    let loaded = fixture.store.load(&device("laptop")).await.unwrap();
    let mut end = loaded.revoke(&Default::default(), &super::support::cause(), &policy, now(fixture)).commit.unwrap();
    end.retain = 2;
    fixture.store.commit(&end).await.unwrap();
    let mut by_end: Vec<Session> = kept.into_iter().filter(|session| session.end.is_some()).collect();
    by_end.sort_by_key(|session| (session.ended_at(), session.id));
    let left = walk(&*fixture.store, &Filter { device: Some(device("laptop")), ..retained() }, now(fixture), 100).await;
    assert_eq!(ids(&left), ids([by_end.last().unwrap(), issued.last().unwrap()]));
    assert_eq!(find(fixture, beside.id).await, Some(beside));
}

/// A session that a commit named as expired is no longer loaded for decisions, and its record still tells why it is
/// refused.
pub async fn expired_sessions_are_no_longer_loaded_and_stay_readable(fixture: &StoreFixture) {
    let short = policy(PolicySettings { token_ttl: Some(Millis::hours(1)), ..PolicySettings::default() });
    let over = issue(fixture, "laptop", &short).await.session;
    fixture.time.pass(Millis::hours(2));
    assert_eq!(ids(fixture.store.load(&device("laptop")).await.unwrap().sessions()), [over.id]);
    let next = issue(fixture, "laptop", &Policy::default()).await;
    assert_eq!(next.commit.expired, [over.id]);
    for store in [&fixture.store, &fixture.other] {
        assert_eq!(ids(store.load(&device("laptop")).await.unwrap().sessions()), [next.session.id]);
        assert_eq!(ids(store.load_by_session(over.id).await.unwrap().unwrap().sessions()), ids([&over, &next.session]));
    }
    assert_eq!(find(fixture, over.id).await, Some(over.clone()));
    assert_eq!(ids(&walk(&*fixture.store, &retained(), now(fixture), 10).await), ids([&over, &next.session]));
    assert_eq!(ids(&walk(&*fixture.store, &Filter::default(), now(fixture), 10).await), [next.session.id]);
    // The session counts among those that stay readable.
    let loaded = fixture.store.load(&device("laptop")).await.unwrap();
    let mut end = revocation(&loaded, next.session.id, now(fixture));
    end.retain = 1;
    fixture.store.commit(&end).await.unwrap();
    assert_eq!(find(fixture, over.id).await, None);
    assert!(find(fixture, next.session.id).await.is_some());
}

/// A purge removes inactive sessions and nothing else, and says how many. A dry run says the same and removes nothing.
pub async fn a_purge_removes_and_counts_inactive_sessions(fixture: &StoreFixture) {
    let short = policy(PolicySettings { token_ttl: Some(Millis::hours(1)), ..PolicySettings::default() });
    let mut over = Vec::new();
    for n in 0..20 {
        over.push(issue(fixture, &format!("device-{n}"), &short).await.session);
    }
    let active = issue(fixture, "device-3", &Policy::default()).await.session;
    let idle = issue(fixture, "device-4", &idling()).await.session;
    let revoked = issue(fixture, "device-5", &Policy::default()).await.session;
    revoke(fixture, revoked.id).await;
    fixture.time.pass(Millis::hours(1));
    let before = walk(&*fixture.store, &retained(), now(fixture), 100).await;
    assert_eq!(before.len(), 23);
    assert_eq!(purge(fixture, now(fixture), true).await, 22);
    assert_eq!(walk(&*fixture.store, &retained(), now(fixture), 100).await, before);
    assert_eq!(purge(fixture, now(fixture), false).await, 22);
    for store in [&fixture.store, &fixture.other] {
        assert_eq!(walk(&**store, &retained(), now(fixture), 100).await, std::slice::from_ref(&active));
        assert_eq!(store.load_by_session(over[0].id).await.unwrap(), None);
        assert_eq!(ids(store.load(&device("device-3")).await.unwrap().sessions()), [active.id]);
    }
    for gone in over.iter().chain([&idle, &revoked]) {
        assert_eq!(find(fixture, gone.id).await, None);
        fixture.seen(None, async |other| other.find(gone.id, FindOptions::EXACT).await.unwrap()).await;
    }
    assert_eq!(purge(fixture, now(fixture), false).await, 0);
}

/// A purge of sessions that became inactive by a time leaves those that became inactive later.
pub async fn a_purge_spares_sessions_that_ended_later(fixture: &StoreFixture) {
    let policy = Policy::default();
    let (early, late) = (issue(fixture, "laptop", &policy).await, issue(fixture, "laptop", &policy).await);
    let first = revoke(fixture, early.session.id).await;
    fixture.time.pass(Millis::new(1));
    let second = revoke(fixture, late.session.id).await;
    fixture.time.pass(Millis::minutes(5));
    assert_eq!(purge(fixture, first.ended_at().minus(Millis::new(1)), false).await, 0);
    assert_eq!(purge(fixture, first.ended_at(), false).await, 1);
    assert_eq!(walk(&*fixture.store, &retained(), now(fixture), 10).await, std::slice::from_ref(&second));
    assert_eq!(purge(fixture, second.ended_at(), false).await, 1);
}

/// A purge of an expired session that was never ended gives its device a new revision, so that a decision from before
/// the purge is not applied.
pub async fn a_purge_of_an_expired_session_makes_a_revision(fixture: &StoreFixture) {
    let short = policy(PolicySettings { token_ttl: Some(Millis::hours(1)), ..PolicySettings::default() });
    let over = issue(fixture, "laptop", &short).await.session;
    let stays = issue(fixture, "laptop", &Policy::default()).await;
    fixture.time.pass(Millis::hours(1));
    let before = load_of(fixture, stays.session.id).await;
    assert_eq!(ids(before.sessions()), ids([&over, &stays.session]));
    let decided = revocation(&before, stays.session.id, now(fixture));
    assert_eq!(purge(fixture, now(fixture), false).await, 1);
    assert_ne!(load_of(fixture, stays.session.id).await.revision(), before.revision());
    assert_eq!(fixture.store.commit(&decided).await, Err(CommitError::Conflict));
}

/// A device remembers that sessions were ended before their expiry, longer than their records.
pub async fn a_revocation_watermark_outlives_the_records(fixture: &StoreFixture) {
    let policy = Policy::default();
    let session = issue(fixture, "laptop", &policy).await.session;
    fixture.time.pass(Millis::minutes(1));
    revoke(fixture, session.id).await;
    let watermark = fixture.store.load(&device("laptop")).await.unwrap().revocation_watermark().unwrap();
    assert_eq!((watermark.created_at, watermark.until), (session.created_at, session.expires_at));
    assert_eq!(purge(fixture, now(fixture), false).await, 1);
    for store in [&fixture.store, &fixture.other] {
        let loaded = store.load(&device("laptop")).await.unwrap();
        assert_eq!((loaded.revocation_watermark(), loaded.sessions()), (Some(watermark), &[][..]));
    }
    // Another session on the device does not shorten that time.
    let next = issue(fixture, "laptop", &policy).await.session;
    assert_eq!(fixture.store.load(&device("laptop")).await.unwrap().revocation_watermark(), Some(watermark));
    fixture.time.pass_to(watermark.until.minus(Millis::new(1)));
    revoke(fixture, next.id).await;
    purge(fixture, now(fixture), false).await;
    let loaded = fixture.store.load(&device("laptop")).await.unwrap();
    assert_eq!(loaded.revocation_watermark().map(|watermark| watermark.until), Some(next.expires_at));
}

/// An export from before a revocation does not undo it, even after the record is gone.
pub async fn an_older_export_brings_nothing_back(fixture: &StoreFixture) {
    let policy = Policy::default();
    let sessions = fixture.sessions(&fixture.store, policy);
    let issued = issue(fixture, "laptop", &policy).await;
    let export = vec![issued.session.clone()];
    let ended = revoke(fixture, issued.session.id).await;
    let report = sessions.import(export.clone(), false, |_| {}).await.unwrap();
    assert_eq!((report.already_present, report.imported), (1, 0));
    assert_eq!(find(fixture, ended.id).await, Some(ended.clone()));
    assert_eq!(purge(fixture, now(fixture), false).await, 1);
    let report = fixture.sessions(&fixture.other, policy).import(export, false, |_| {}).await.unwrap();
    assert_eq!((report.blocked, report.imported), (vec![ended.id], 0));
    assert_eq!(find(fixture, ended.id).await, None);
    let refused = sessions.verify(&issued.token, ActivityMode::Record).await.map(drop);
    assert_eq!(refused, Err(VerifyError::Refused(Refusal::Unknown)));
}

/// A record that is no longer retained here does not affect the import of the same session from elsewhere.
pub async fn an_import_ignores_a_record_that_is_not_retained(fixture: &StoreFixture) {
    let policy = policy(PolicySettings { retention: Some(Millis::hours(1)), ..PolicySettings::default() });
    let (used, left) = (issue(fixture, "laptop", &policy).await, issue(fixture, "phone", &policy).await);
    let start = now(fixture);
    fixture.time.pass(Millis::hours(20));
    // The other store rotated the sessions. This one did not, and recorded later use.
    let elsewhere = decide_rotation(fixture, &used.token, &policy).await.session;
    let mut idle = decide_rotation(fixture, &left.token, &policy).await.session.into_parts();
    idle.terms.idle_timeout = Some(Millis::hours(2));
    let idle = Session::from_parts(idle).unwrap();
    fixture.time.pass(Millis::hours(3));
    let touch = |session: SessionId| Touch { session, at: now(fixture) };
    fixture.store.touch(&[touch(elsewhere.id), touch(idle.id)]).await.unwrap();
    fixture.time.pass_to(start.plus(Millis::hours(25)));
    let sessions = fixture.sessions(&fixture.store, policy);
    let report = sessions.import(vec![elsewhere.clone(), idle.clone()], false, |_| {}).await.unwrap();
    assert_eq!((report.imported, report.changed_since), (2, vec![]));
    assert_eq!(find(fixture, elsewhere.id).await, Some(elsewhere));
    assert_eq!(find(fixture, idle.id).await.unwrap().end.clone().unwrap().reason, EndReason::Idle);
}

/// A session that ended here may be imported once it has expired: it is expired then, so nothing comes back to life.
pub async fn a_session_imported_after_its_expiry_is_expired(fixture: &StoreFixture) {
    let policy = Policy::default();
    let sessions = fixture.sessions(&fixture.store, policy);
    let issued = issue(fixture, "laptop", &policy).await.session;
    revoke(fixture, issued.id).await;
    assert_eq!(purge(fixture, now(fixture), false).await, 1);
    fixture.time.pass_to(issued.expires_at);
    let report = sessions.import(vec![issued.clone()], false, |_| {}).await.unwrap();
    assert_eq!((report.imported, report.changed_since), (1, vec![]));
    assert_eq!(find(fixture, issued.id).await, Some(issued));
}

/// A token is accepted a millisecond before its expiry, and refused at its expiry. The same holds for idleness, whose
/// end is then durable.
pub async fn a_token_is_valid_to_its_last_millisecond(fixture: &StoreFixture) {
    let sessions = fixture.sessions(&fixture.store, Policy::default());
    let issued = issue(fixture, "laptop", &Policy::default()).await;
    let idle = issue(fixture, "phone", &idling()).await;
    let verify = async |token| sessions.verify(token, ActivityMode::Ignore).await.map(drop);
    fixture.time.pass_to(idle.session.idle_at().unwrap().minus(Millis::new(1)));
    assert_eq!(verify(&idle.token).await, Ok(()));
    fixture.time.pass(Millis::new(1));
    let ended = Err(VerifyError::Refused(Refusal::Ended(EndReason::Idle)));
    assert_eq!(verify(&idle.token).await, ended);
    assert_eq!(find(fixture, idle.session.id).await.unwrap().end.clone().unwrap().reason, EndReason::Idle);
    fixture.time.pass_to(issued.session.expires_at.minus(Millis::new(1)));
    assert_eq!(verify(&issued.token).await, Ok(()));
    fixture.time.pass(Millis::new(1));
    assert_eq!(verify(&issued.token).await, Err(VerifyError::Refused(Refusal::Expired)));
    assert_eq!(verify(&idle.token).await, Err(VerifyError::Refused(Refusal::Ended(EndReason::Idle))));
    fixture.time.pass_to(find(fixture, issued.session.id).await.unwrap().retained_until());
    assert_eq!(verify(&issued.token).await, Err(VerifyError::Refused(Refusal::Unknown)));
}
