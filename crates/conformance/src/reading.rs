//! Promises about reading: what is read is what was written, and absence is not an error.

use std::sync::Arc;

use tenure_domain::{
    Bucket, ClientField, ClientInfo, Device, Filter, Millis, NewSession, Policy, PolicySettings, Revision, SessionId,
    SortKey, Subject, Touch,
};
use tenure_ports::FindOptions;

use super::support::{
    decide_rotation, device, find, idling, issue, load_of, new_session, now, policy, purge, retained, revoke, rotate,
    unknown, walk,
};
use crate::fixture::StoreFixture;

/// In an empty store nothing is found, loaded, listed or removed, and that is not an error.
pub async fn absence_is_none(fixture: &StoreFixture) {
    let (store, name) = (&fixture.store, device("nowhere"));
    let id = SessionId::new(Bucket::of(&name), [9; 12]);
    assert_eq!(find(fixture, id).await, None);
    assert_eq!(store.load_by_session(id).await.unwrap(), None);
    let loaded = store.load(&name).await.unwrap();
    assert_eq!(loaded, Device::unknown(name.clone()));
    assert_eq!(loaded.revision(), Revision::NONE);
    assert_eq!(store.ids_with_prefix("0".parse().unwrap(), 10).await.unwrap(), []);
    assert_eq!(store.ids_with_prefix(id.to_string().parse().unwrap(), 10).await.unwrap(), []);
    let one = Filter { device: Some(name), subject: Some(Subject::default()), ..retained() };
    for filter in [retained(), one] {
        assert_eq!(walk(&**store, &filter, now(fixture), 10).await, []);
        assert_eq!(store.list_sorted(&filter, now(fixture), SortKey::Created, 10).await.unwrap(), []);
    }
    assert_eq!(purge(fixture, now(fixture), false).await, 0);
    store.touch(&[Touch { session: id, at: now(fixture) }]).await.unwrap();
    store.touch(&[]).await.unwrap();
    assert_eq!(find(fixture, id).await, None);
}

/// An acknowledged commit is visible to every later call, in this process and in others.
pub async fn a_committed_session_is_found(fixture: &StoreFixture) {
    let policy = Policy::default();
    let issued = issue(fixture, "laptop", &policy).await;
    let id = issued.session.id;
    assert_eq!(find(fixture, id).await, Some(issued.session.clone()));
    fixture.seen(Some(issued.session.clone()), async |other| other.find(id, FindOptions::EXACT).await.unwrap()).await;
    let loaded = fixture.store.load(&device("laptop")).await.unwrap();
    assert_eq!(loaded.sessions(), std::slice::from_ref(&issued.session));
    assert_eq!(fixture.store.load_by_session(id).await.unwrap(), Some(loaded.clone()));
    assert_eq!(fixture.other.load(&device("laptop")).await.unwrap(), loaded);
    assert_eq!(find(fixture, unknown(id)).await, None);
    let rotation = rotate(fixture, &issued.token, &policy).await;
    assert_eq!(find(fixture, id).await, Some(rotation.session.clone()));
    fixture.seen(Some(rotation.session.clone()), async |other| other.find(id, FindOptions::EXACT).await.unwrap()).await;
    let ended = revoke(fixture, id).await;
    fixture.seen(Some(ended), async |other| other.find(id, FindOptions::EXACT).await.unwrap()).await;
}

/// Every field of a record is kept, through all its states.
pub async fn every_field_is_kept(fixture: &StoreFixture) {
    let policy = policy(PolicySettings {
        token_ttl: Some(Millis::new(86_400_123)),
        idle_timeout: Some(Millis::minutes(77)),
        rotation_overlap: Some(Millis::new(1_234)),
        replay_tolerance: Some(Millis::new(4_321)),
        retention: Some(Millis::new(98_765_432)),
        ..PolicySettings::default()
    });
    let client = ClientField::ALL.into_iter().fold(ClientInfo::default(), |client, field| {
        client.with_recorded(field, &format!(" {} \"\\ \u{1f4bb}\u{fe0f} \u{e9}\u{200e}", field.name())).unwrap()
    });
    let loaded = fixture.store.load(&device("laptop")).await.unwrap();
    let expires_by = Some(now(fixture).plus(Millis::new(7_654_321)));
    let subject = Subject::new("anna").unwrap();
    let new_session = NewSession { client: Arc::new(client), subject, expires_by, ..new_session(fixture, &policy) };
    let issued = loaded.issue(new_session, &policy, now(fixture)).unwrap();
    fixture.store.commit(&issued.commit).await.unwrap();
    let id = issued.session.id;
    assert_eq!(find(fixture, id).await.as_ref(), Some(&issued.session));
    fixture.time.pass(Millis::minutes(3));
    let first = rotate(fixture, &issued.token, &policy).await;
    assert_eq!(find(fixture, id).await, Some(first.session));
    fixture.time.pass(Millis::minutes(3));
    let second = decide_rotation(fixture, &first.token, &Policy::default()).await;
    fixture.store.commit(&second.commit).await.unwrap();
    assert_eq!(find(fixture, id).await, Some(second.session));
    let newer = ClientInfo::default().with(ClientField::Address, "::1").unwrap();
    let described = load_of(fixture, id).await.update_client(id, &newer, &policy, now(fixture)).unwrap();
    fixture.store.commit(&described).await.unwrap();
    assert_eq!(find(fixture, id).await.as_ref(), Some(described.changes[0].session()));
    let ended = revoke(fixture, id).await;
    let end = ended.end.clone().unwrap();
    assert_eq!((end.reason, end.at), (super::support::cause().reason, now(fixture)));
    assert_eq!((end.note, end.actor), (super::support::cause().note, super::support::cause().actor));
    assert_eq!(ended.client.get(ClientField::Address), Some("::1"));
}

/// A load returns the sessions that have not ended, and the session by which it was asked even if that has ended.
pub async fn a_device_is_loaded_with_the_sessions_that_have_not_ended(fixture: &StoreFixture) {
    let policy = idling();
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(issue(fixture, "laptop", &policy).await.session);
    }
    issue(fixture, "phone", &policy).await;
    let ended = revoke(fixture, sessions[0].id).await;
    revoke(fixture, sessions[1].id).await;
    let loaded = fixture.store.load(&device("laptop")).await.unwrap();
    let mut active = sessions[2..].to_vec();
    active.sort_by_key(|session| session.id);
    let sorted = |loaded: &Device| {
        let mut sessions = loaded.sessions().to_vec();
        sessions.sort_by_key(|session| session.id);
        sessions
    };
    assert_eq!(sorted(&loaded), active);
    let by_active = load_of(fixture, sessions[2].id).await;
    assert_eq!((sorted(&by_active), by_active.revision()), (active.clone(), loaded.revision()));
    let by_ended = load_of(fixture, ended.id).await;
    active.push(ended);
    active.sort_by_key(|session| session.id);
    assert_eq!((sorted(&by_ended), by_ended.revision()), (active, loaded.revision()));
    assert_eq!(by_ended.revocation_watermark(), loaded.revocation_watermark());
    // Time alone removes nothing from what is loaded; only a commit does.
    fixture.time.pass(Millis::hours(30));
    assert_eq!(fixture.store.load(&device("laptop")).await.unwrap().sessions().len(), 2);
}

/// Devices in the same bucket do not affect each other.
pub async fn devices_of_one_bucket_are_apart(fixture: &StoreFixture) {
    let first = device("laptop");
    let twin = (0..).map(|n| format!("twin-{n}")).find(|name| Bucket::of(&device(name)) == Bucket::of(&first)).unwrap();
    let policy = super::support::capped(1);
    let ours = issue(fixture, "laptop", &policy).await;
    let theirs = issue(fixture, &twin, &policy).await;
    assert_eq!(ours.session.id.bucket(), theirs.session.id.bucket());
    assert_eq!(theirs.evicted, []);
    assert_eq!(fixture.store.load(&first).await.unwrap().sessions(), std::slice::from_ref(&ours.session));
    assert_eq!(fixture.store.load(&device(&twin)).await.unwrap().sessions(), std::slice::from_ref(&theirs.session));
    revoke(fixture, ours.session.id).await;
    assert_eq!(find(fixture, theirs.session.id).await, Some(theirs.session.clone()));
    let only = Filter { device: Some(device(&twin)), ..retained() };
    assert_eq!(walk(&*fixture.store, &only, now(fixture), 10).await, std::slice::from_ref(&theirs.session));
    purge(fixture, now(fixture), false).await;
    assert_eq!(fixture.store.load(&device(&twin)).await.unwrap().sessions(), &[theirs.session]);
}

/// Devices and subjects may have any name that earlier releases accepted, invisible characters included. Names that
/// differ in any character are different names.
pub async fn any_text_is_a_name(fixture: &StoreFixture) {
    let long = "x".repeat(128);
    let wide = "\u{1f4bb}".repeat(128);
    let hidden = "\u{200b}".repeat(128);
    let names = [
        "{tag}",
        "a:b*?[c]",
        "r",
        "h",
        "two words",
        "\"quoted\\\"",
        "{",
        "\u{e9}\u{301}",
        "\u{e9}",
        "e\u{301}",
        "'; --",
        &long,
        &wide,
        "lap\u{200b}top",
        "laptop",
        "Laptop",
        " laptop",
        "laptop ",
        "laptop\u{a0}",
        "\u{200f}laptop\u{feff}",
        " ",
        &hidden,
    ];
    let mut issued = Vec::new();
    for name in names {
        issued.push(super::support::issue_to(fixture, name, name).await);
    }
    for (name, session) in names.iter().zip(&issued) {
        assert_eq!(find(fixture, session.id).await.as_ref(), Some(session), "{name}");
        assert_eq!(
            fixture.other.load(&device(name)).await.unwrap().sessions(),
            std::slice::from_ref(session),
            "{name}"
        );
        let by_device = Filter { device: Some(device(name)), ..Filter::default() };
        let by_subject = Filter { subject: Some(Subject::recorded(name).unwrap()), ..Filter::default() };
        for filter in [by_device, by_subject] {
            assert_eq!(walk(&*fixture.store, &filter, now(fixture), 10).await, std::slice::from_ref(session), "{name}");
        }
    }
}

/// A store that answers and can be written to says so, without changing anything.
pub async fn a_store_that_works_says_so(fixture: &StoreFixture) {
    fixture.store.check_writable().await.unwrap();
    let issued = issue(fixture, "laptop", &Policy::default()).await;
    let before = fixture.store.load(&device("laptop")).await.unwrap();
    fixture.store.check_writable().await.unwrap();
    fixture.other.check_writable().await.unwrap();
    assert_eq!(fixture.store.load(&device("laptop")).await.unwrap(), before);
    assert_eq!(before.sessions(), &[issued.session]);
}
