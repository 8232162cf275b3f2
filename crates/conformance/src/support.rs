//! Decisions for tests to commit, made as the use cases make them.

use std::sync::Arc;

use tenure_domain::{
    ClientField, ClientInfo, Commit, Decision, Device, DeviceId, EndCause, EndReason, Family, Filter, Issue, Millis,
    NewSession, Policy, PolicySettings, Rotation, RotationSecret, Scope, Selection, Session, SessionId, Subject,
    Timestamp, Token,
};
use tenure_ports::{FindOptions, Purge, SessionRepository};

use crate::fixture::StoreFixture;

/// Makes a device id of any text that a record may have.
pub(super) fn device(name: &str) -> DeviceId {
    DeviceId::recorded(name).unwrap()
}

pub(super) fn policy(settings: PolicySettings) -> Policy {
    Policy::new(&settings).unwrap()
}

/// Makes a policy with this cap.
pub(super) fn capped(cap: u64) -> Policy {
    policy(PolicySettings { max_sessions_per_device: Some(cap), ..PolicySettings::default() })
}

/// Makes a policy with an idle timeout of one hour.
pub(super) fn idling() -> Policy {
    policy(PolicySettings { idle_timeout: Some(Millis::hours(1)), ..PolicySettings::default() })
}

pub(super) fn new_session(fixture: &StoreFixture, policy: &Policy) -> NewSession {
    let client = ClientInfo::default().with(ClientField::DisplayName, "Test client").unwrap();
    NewSession {
        id: fixture.random.bytes(),
        family: Family::new(fixture.random.bytes()),
        rotation_secret: RotationSecret::new(fixture.random.bytes()),
        subject: Subject::default(),
        client: Arc::new(client),
        terms: policy.terms(None).unwrap(),
        expires_by: None,
    }
}

pub(super) fn now(fixture: &StoreFixture) -> Timestamp {
    fixture.clock.now()
}

/// Decides to issue a session, without committing.
pub(super) async fn decide_issue(fixture: &StoreFixture, name: &str, policy: &Policy) -> Issue {
    let loaded = fixture.store.load(&device(name)).await.unwrap();
    loaded.issue(new_session(fixture, policy), policy, now(fixture)).unwrap()
}

pub(super) async fn issue(fixture: &StoreFixture, name: &str, policy: &Policy) -> Issue {
    let issue = decide_issue(fixture, name, policy).await;
    fixture.store.commit(&issue.commit).await.unwrap();
    issue
}

/// Issues a session to a subject, even if other subjects have sessions on the device. Earlier releases allowed such
/// devices, and imports still do.
pub(super) async fn issue_to(fixture: &StoreFixture, name: &str, subject: &str) -> Session {
    let policy = Policy::default();
    let loaded = fixture.store.load(&device(name)).await.unwrap();
    let own = loaded.sessions().iter().filter(|session| session.subject.as_str() == subject).cloned().collect();
    let loaded = Device::new(device(name), loaded.revision(), own, loaded.revocation_watermark());
    let new_session = NewSession { subject: Subject::recorded(subject).unwrap(), ..new_session(fixture, &policy) };
    let issue = loaded.issue(new_session, &policy, now(fixture)).unwrap();
    fixture.store.commit(&issue.commit).await.unwrap();
    issue.session
}

/// Decides to rotate a token, without committing.
pub(super) async fn decide_rotation(fixture: &StoreFixture, token: &Token, policy: &Policy) -> Rotation {
    let loaded = load_of(fixture, token.session()).await;
    match loaded.rotate(token, &RotationSecret::new(fixture.random.bytes()), policy, now(fixture)) {
        Decision::Accept(rotation) => rotation,
        other => panic!("not rotated: {other:?}"),
    }
}

pub(super) async fn rotate(fixture: &StoreFixture, token: &Token, policy: &Policy) -> Rotation {
    let rotation = decide_rotation(fixture, token, policy).await;
    fixture.store.commit(&rotation.commit).await.unwrap();
    rotation
}

pub(super) fn cause() -> EndCause {
    EndCause {
        reason: EndReason::Revoked,
        note: Some("left in a \"taxi\" \u{1f695}".parse().unwrap()),
        actor: Some("cli".parse().unwrap()),
    }
}

/// Decides to revoke one session of a loaded device.
pub(super) fn revocation(loaded: &Device, id: SessionId, now: Timestamp) -> Commit {
    loaded.revoke(&Selection::one(id), &cause(), &Policy::default(), now).commit.unwrap()
}

pub(super) async fn revoke(fixture: &StoreFixture, id: SessionId) -> Session {
    let commit = revocation(&load_of(fixture, id).await, id, now(fixture));
    fixture.store.commit(&commit).await.unwrap();
    fixture.store.find(id, FindOptions::EXACT).await.unwrap().unwrap()
}

pub(super) async fn load_of(fixture: &StoreFixture, id: SessionId) -> Device {
    fixture.store.load_by_session(id).await.unwrap().unwrap()
}

pub(super) async fn find(fixture: &StoreFixture, id: SessionId) -> Option<Session> {
    fixture.store.find(id, FindOptions::EXACT).await.unwrap()
}

/// Makes the id of a session that no store knows, in the bucket of another session.
pub(super) fn unknown(beside: SessionId) -> SessionId {
    SessionId::new(beside.bucket(), [7; 12])
}

pub(super) fn retained() -> Filter {
    Filter { scope: Scope::Retained, ..Filter::default() }
}

/// Walks through all sessions in pages of this size.
pub(super) async fn walk(store: &dyn SessionRepository, filter: &Filter, now: Timestamp, limit: usize) -> Vec<Session> {
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.page(filter, now, cursor, limit).await.unwrap();
        seen.extend(page.sessions);
        cursor = page.next;
        if cursor.is_none() {
            return seen;
        }
    }
}

pub(super) fn ids<'a>(sessions: impl IntoIterator<Item = &'a Session>) -> Vec<SessionId> {
    let mut ids: Vec<SessionId> = sessions.into_iter().map(|session| session.id).collect();
    ids.sort_unstable();
    ids
}

/// Purges all sessions that were inactive by `inactive_by`, and returns how many there were.
pub(super) async fn purge(fixture: &StoreFixture, inactive_by: Timestamp, dry_run: bool) -> u64 {
    let purge = Purge { now: now(fixture), inactive_by, dry_run };
    let (mut removed, mut cursor) = (0, None);
    loop {
        let part = fixture.store.purge(&purge, cursor).await.unwrap();
        removed += part.removed;
        cursor = part.next;
        if cursor.is_none() {
            return removed;
        }
    }
}
