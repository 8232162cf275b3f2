//! Time is tokio's and paused: it moves when every task waits, so that the bounds are those of the code and not of the
//! machine.

use tenure_domain::{EndReason, Millis};

use super::*;
use tenure_conformance::SessionsFixture;

use crate::test_support::{idling_fixture, sessions_fixture};

const HOUR: Duration = Duration::from_secs(3_600);
const GRACE: Duration = Duration::from_secs(15);

fn live(fixture: &SessionsFixture) -> ConnectionRegistry {
    ConnectionRegistry::new(Arc::clone(&fixture.sessions), GRACE)
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// How a connection ends, and how long that takes.
async fn end_of(guard: &ConnectionGuard) -> (CloseReason, Duration) {
    let start = Instant::now();
    let close_reason = tokio::time::timeout(HOUR * 2, guard.closed()).await.expect("it never ends");
    (close_reason, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn every_connection_of_a_revoked_session_ends_on_the_news_and_no_other() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    let (one, other) = (fixture.issue("a", HOUR).await.session, fixture.issue("b", HOUR).await.session);
    let guards = [live.register(&one), live.register(&one)];
    let untouched = live.register(&other);
    pause(1_000).await;
    fixture.revoke(one.id).await;
    for guard in &guards {
        let (close_reason, took) = end_of(guard).await;
        assert_eq!(close_reason, CloseReason::Ended(Refusal::Ended(EndReason::Revoked)));
        assert!(took <= Duration::from_millis(5), "{took:?}");
        assert_eq!(guard.check_open().await, Err(close_reason));
        assert!(!guard.is_open());
    }
    assert_eq!((cut_code(&guards[0]).await, "revoked"), (4401, "revoked"));
    pause(10_000).await;
    assert!(untouched.is_open());
    assert_eq!(live.counts(), ConnectionCounts { sessions: 1, connections: 3 });
}

async fn cut_code(guard: &ConnectionGuard) -> u16 {
    end_of(guard).await.0.close_code()
}

#[tokio::test(start_paused = true)]
async fn without_news_an_end_is_found_within_five_seconds() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    fixture.store.suppress_events(true);
    let mut longest = Duration::ZERO;
    for n in 0..40 {
        let session = fixture.issue(&format!("d{n}"), HOUR).await.session;
        let guard = live.register(&session);
        pause(1_000 + n * 331).await;
        fixture.revoke(session.id).await;
        let (close_reason, took) = end_of(&guard).await;
        assert_eq!(close_reason, CloseReason::Ended(Refusal::Ended(EndReason::Revoked)));
        longest = longest.max(took);
    }
    assert!(longest <= Duration::from_secs(5), "{longest:?}");
    // Otherwise something else than the looking at intervals found it.
    assert!(longest >= Duration::from_secs(1), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn an_end_between_verification_and_registration_is_found_soon() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    let first = fixture.issue("a", HOUR).await.session;
    let _running = live.register(&first);
    let session = fixture.issue("b", HOUR).await.session;
    fixture.revoke(session.id).await;
    pause(1_000).await;
    let (_, took) = end_of(&live.register(&session)).await;
    assert!(took <= Duration::from_millis(250), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn news_that_may_have_been_missed_is_looked_for() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    let session = fixture.issue("a", HOUR).await.session;
    let guard = live.register(&session);
    pause(1_000).await;
    fixture.store.suppress_events(true);
    fixture.revoke(session.id).await;
    fixture.store.send_lagged();
    assert!(end_of(&guard).await.1 <= Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn an_expiry_is_met_to_the_instant_and_a_rotation_moves_it() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    let issued = fixture.issue("a", Duration::from_secs(60)).await;
    let guard = live.register(&issued.session);
    pause(40_000).await;
    fixture.rotate(&issued.token).await;
    pause(30_000).await;
    assert!(guard.is_open(), "the rotation gave it another minute");
    let (close_reason, took) = end_of(&guard).await;
    assert_eq!(close_reason, CloseReason::Ended(Refusal::Expired));
    let late = took - Duration::from_secs(30);
    assert!(late <= Duration::from_millis(10), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_after_the_expiry_even_before_anybody_looked() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    let session = fixture.issue("a", Duration::from_secs(10)).await.session;
    let guard = live.register(&session);
    assert_eq!(guard.check_open().await, Ok(()));
    // Time passes without letting the driver run.
    tokio::time::advance(Duration::from_millis(9_999)).await;
    assert!(guard.is_open());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!guard.is_open());
    assert_eq!(guard.check_open().await, Err(CloseReason::Ended(Refusal::Expired)));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_made_no_news_keeps_the_connection() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    let issued = fixture.issue("a", Duration::from_secs(2)).await;
    let guard = live.register(&issued.session);
    pause(1_000).await;
    fixture.store.suppress_events(true);
    fixture.rotate(&issued.token).await;
    pause(1_500).await;
    assert_eq!(guard.check_open().await, Ok(()));
    assert_eq!(end_of(&guard).await.0, CloseReason::Ended(Refusal::Expired));
}

#[tokio::test(start_paused = true)]
async fn only_use_keeps_a_session_from_being_idle() {
    let fixture = idling_fixture(Millis::seconds(30));
    let live = live(&fixture);
    let (used, left) = (fixture.issue("a", HOUR).await.session, fixture.issue("b", HOUR).await.session);
    let (used, left) = (live.register(&used), live.register(&left));
    let start = Instant::now();
    for _ in 0..100 {
        pause(1_000).await;
        used.check_open().await.unwrap();
        used.note_activity();
    }
    assert!(used.is_open());
    let (close_reason, _) = end_of(&left).await;
    assert_eq!(close_reason, CloseReason::Ended(Refusal::Ended(EndReason::Idle)));
    assert!(fixture.record(left.session()).await.end.is_some(), "it was ended before it was told");
    assert!(end_of(&used).await.0 == close_reason && start.elapsed() < Duration::from_secs(132));
}

#[tokio::test(start_paused = true)]
async fn activity_is_noted_once_a_second() {
    let fixture = idling_fixture(Millis::seconds(30));
    let live = live(&fixture);
    let session = fixture.issue("a", HOUR).await.session;
    let guard = live.register(&session);
    for _ in 0..50 {
        pause(100).await;
        guard.note_activity();
    }
    assert!(fixture.sessions.flush_activity().await.is_ok());
    let used = fixture.record(session.id).await.last_activity.since(session.created_at);
    assert!(used >= Millis::new(4_000) && used <= Millis::new(5_000), "{used:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_store_is_borne_for_the_grace_and_not_past_an_expiry() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    let short = live.register(&fixture.issue("a", Duration::from_secs(20)).await.session);
    let long = live.register(&fixture.issue("b", HOUR).await.session);
    pause(10_000).await;
    fixture.store.set_down(true);
    let (close_reason, took) = end_of(&short).await;
    assert_eq!(close_reason, CloseReason::Ended(Refusal::Expired));
    assert!(took <= Duration::from_millis(10_100), "{took:?}");
    assert_eq!(long.check_open().await, Ok(()), "within the grace data passes");
    let (close_reason, more) = end_of(&long).await;
    assert_eq!((close_reason, close_reason.close_code()), (CloseReason::StoreLost, 1013));
    let lasted = took + more;
    assert!(lasted >= GRACE, "the whole grace, from when the loss was noticed: {lasted:?}");
    assert!(lasted <= GRACE + Duration::from_secs(5), "which is within 4.5 s: {lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn one_session_that_cannot_be_read_is_borne_no_longer_for_others_that_can() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    let unreadable_since = fixture.issue("a", HOUR).await.session;
    let guard = live.register(&unreadable_since);
    let mut others = Vec::new();
    for n in 0..20 {
        others.push(live.register(&fixture.issue(&format!("d{n}"), HOUR).await.session));
    }
    pause(10_000).await;
    fixture.store.make_unreadable(unreadable_since.id);
    let (close_reason, took) = end_of(&guard).await;
    assert_eq!(close_reason, CloseReason::StoreLost);
    assert!(took >= GRACE && took <= GRACE + Duration::from_secs(5), "{took:?}");
    assert!(others.iter().all(ConnectionGuard::is_open));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_returns_within_the_grace_cuts_nobody_but_who_was_revoked() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    let sessions: Vec<_> = [fixture.issue("a", HOUR).await, fixture.issue("b", HOUR).await].into();
    let guards: Vec<ConnectionGuard> = sessions.iter().map(|issued| live.register(&issued.session)).collect();
    pause(5_000).await;
    fixture.store.set_down(true);
    pause(9_000).await;
    fixture.store.set_down(false);
    fixture.store.suppress_events(true);
    fixture.revoke(sessions[0].session.id).await;
    let (close_reason, took) = end_of(&guards[0]).await;
    assert_eq!(close_reason, CloseReason::Ended(Refusal::Ended(EndReason::Revoked)));
    assert!(took <= Duration::from_secs(3), "{took:?}");
    pause(60_000).await;
    assert!(guards[1].is_open());
}

#[tokio::test(start_paused = true)]
async fn at_shutdown_everything_ends_and_nothing_begins() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    let session = fixture.issue("a", HOUR).await.session;
    let guard = live.register(&session);
    live.shut_down();
    assert_eq!(end_of(&guard).await.0, CloseReason::Shutdown);
    assert_eq!(end_of(&live.register(&session)).await.0.close_code(), 1001);
}

#[tokio::test(start_paused = true)]
async fn nothing_stays_open_without_the_registry() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    let guard = live.register(&fixture.issue("a", HOUR).await.session);
    pause(10).await;
    drop(live);
    assert_eq!(end_of(&guard).await.0, CloseReason::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn thousands_of_sessions_are_looked_at_evenly_and_forgotten_once_they_are_gone() {
    let fixture = sessions_fixture();
    let live = live(&fixture);
    let mut guards = Vec::new();
    for n in 0..2_000 {
        guards.push(live.register(&fixture.issue(&format!("d{n}"), HOUR).await.session));
    }
    pause(20_000).await;
    fixture.store.send_lagged();
    pause(10).await;
    let before = fixture.store.finds();
    let mut most = 0;
    let mut last = before;
    for _ in 0..150 {
        pause(100).await;
        let now = fixture.store.finds();
        most = most.max(now - last);
        last = now;
    }
    let looks = last - before;
    assert!(looks >= 2_000 * 15 / 5, "each at least every 5 s: {looks}");
    assert!(looks <= 2_000 * 5, "and no more than every 3 s: {looks}");
    assert!(most <= 400, "{most} of 2,000 within 100 ms");
    guards.clear();
    pause(5_000).await;
    assert_eq!(live.counts(), ConnectionCounts { sessions: 0, connections: 0 });
}
