//! Promises about listings: complete, ordered, filtered.

use std::collections::BTreeMap;

use tenure_domain::{Filter, IdPrefix, Millis, Scope, Session, SessionId, SortKey, Subject, Touch};

use super::support::{device, find, ids, issue_to, now, retained, revoke, walk};
use crate::fixture::StoreFixture;

/// Makes sessions of several devices and subjects, some inactive, with activity, expiries and creations in different
/// orders.
async fn various(fixture: &StoreFixture) -> Vec<Session> {
    let mut sessions = Vec::new();
    for n in 0..36_u64 {
        let session = issue_to(fixture, &format!("device-{}", n % 7), ["anna", "bert"][(n % 2) as usize]).await;
        sessions.push(session.id);
        if n % 3 != 0 {
            fixture.time.pass(Millis::new(n % 5));
        }
    }
    fixture.time.pass(Millis::minutes(1));
    let touches = sessions
        .iter()
        .zip(0..)
        .map(|(&id, n)| Touch { session: id, at: now(fixture).minus(Millis::new(n * 37 % 11)) });
    fixture.store.touch(&touches.collect::<Vec<_>>()).await.unwrap();
    for id in sessions.iter().step_by(5) {
        revoke(fixture, *id).await;
    }
    let mut found = Vec::new();
    for id in sessions {
        found.push(find(fixture, id).await.unwrap());
    }
    found
}

/// A walk shows every session exactly once, whatever the page size.
pub async fn a_walk_sees_each_session_once(fixture: &StoreFixture) {
    let sessions = various(fixture).await;
    for limit in [1, 2, 5, 35, 36, 37, 1_000] {
        let mut seen = walk(&*fixture.store, &retained(), now(fixture), limit).await;
        assert_eq!(seen.len(), sessions.len(), "{limit} at a time");
        seen.sort_by_key(|session| session.id);
        let mut wanted = sessions.clone();
        wanted.sort_by_key(|session| session.id);
        assert_eq!(seen, wanted, "{limit} at a time");
    }
}

/// A filter by device, subject and scope is applied at the time that the caller names.
pub async fn a_walk_returns_what_its_filter_matches(fixture: &StoreFixture) {
    let sessions = various(fixture).await;
    let devices = [None, Some(device("device-2")), Some(device("nowhere"))];
    let subjects = [None, Some(Subject::new("bert").unwrap()), Some(Subject::new("nobody").unwrap())];
    let times = [now(fixture), sessions[20].expires_at, sessions[35].retained_until()];
    for at in times {
        for (device, subject) in devices.iter().flat_map(|device| subjects.iter().map(move |subject| (device, subject)))
        {
            for scope in [Scope::Active, Scope::Retained] {
                let filter = Filter { device: device.clone(), subject: subject.clone(), scope };
                let wanted: Vec<&Session> = sessions.iter().filter(|session| filter.matches(session, at)).collect();
                assert_eq!(
                    ids(&walk(&*fixture.store, &filter, at, 4).await),
                    ids(wanted.iter().copied()),
                    "{filter:?}"
                );
                let top = fixture.store.list_sorted(&filter, at, SortKey::Created, 100).await.unwrap();
                assert_eq!(ids(&top), ids(wanted), "{filter:?}");
            }
        }
    }
}

/// A session that does not change is seen once, whatever happens to others meanwhile.
pub async fn a_walk_through_changes_misses_nothing_that_stays(fixture: &StoreFixture) {
    let sessions = various(fixture).await;
    let active: Vec<&Session> = sessions.iter().filter(|session| session.end.is_none()).collect();
    let (stay, go) = active.split_at(active.len() / 2);
    let mut go = go.iter();
    let (mut seen, mut cursor) = (BTreeMap::<SessionId, u32>::new(), None);
    loop {
        let page = fixture.store.page(&Filter::default(), now(fixture), cursor, 3).await.unwrap();
        for session in page.sessions {
            *seen.entry(session.id).or_default() += 1;
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
        // One session is removed, one is added, and one that stays is used.
        if let Some(session) = go.next() {
            revoke(fixture, session.id).await;
        }
        issue_to(fixture, "newcomer", "anna").await;
        fixture.time.pass(Millis::new(1));
        fixture.store.touch(&[Touch { session: stay[0].id, at: now(fixture) }]).await.unwrap();
    }
    assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    assert!(stay.iter().all(|session| seen.contains_key(&session.id)));
}

/// The first sessions in each order, with ties decided by id.
pub async fn a_listing_is_in_order(fixture: &StoreFixture) {
    let sessions = various(fixture).await;
    for sort in [SortKey::LastActivity, SortKey::Created, SortKey::Expires] {
        for filter in
            [retained(), Filter::default(), Filter { subject: Some(Subject::new("anna").unwrap()), ..retained() }]
        {
            let mut wanted = sessions.clone();
            wanted.retain(|session| filter.matches(session, now(fixture)));
            wanted.sort_by(|a, b| sort.compare(a, b));
            for limit in [0, 1, 7, 100] {
                let listed = fixture.store.list_sorted(&filter, now(fixture), sort, limit).await.unwrap();
                assert_eq!(listed, wanted[..limit.min(wanted.len())], "{sort:?}, first {limit}");
            }
        }
    }
}

/// Ids are found by a prefix of one to all characters, in order, ended sessions included, up to the limit.
pub async fn ids_are_found_by_their_prefix(fixture: &StoreFixture) {
    let mut known = ids(&various(fixture).await);
    for _ in 0..10 {
        known.push(issue_to(fixture, "device-3", "anna").await.id);
    }
    known.sort_unstable();
    for id in known.iter().step_by(5) {
        let text = id.to_string();
        for length in [1, 2, 3, 19, 20] {
            let prefix: IdPrefix = text[..length].parse().unwrap();
            let wanted: Vec<SessionId> = known.iter().copied().filter(|id| prefix.matches(*id)).collect();
            assert_eq!(fixture.store.ids_with_prefix(prefix, 100).await.unwrap(), wanted, "{}", &text[..length]);
            for limit in [0, 1, 2] {
                let first = &wanted[..limit.min(wanted.len())];
                assert_eq!(fixture.store.ids_with_prefix(prefix, limit).await.unwrap(), first, "{}", &text[..length]);
            }
        }
        let other = format!("{}{}", &text[..19], if text.ends_with('0') { '1' } else { '0' });
        assert_eq!(fixture.store.ids_with_prefix(other.parse().unwrap(), 10).await.unwrap(), []);
    }
}
