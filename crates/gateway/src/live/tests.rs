//! Time is tokio's and paused: it moves when every task waits, so that the bounds are those of the code and not of the
//! machine.

use tenure_domain::{EndReason, Millis};

use super::*;
use crate::testing::World;

const HOUR: Duration = Duration::from_secs(3_600);
const GRACE: Duration = Duration::from_secs(15);

fn live(world: &World) -> Live {
    Live::new(Arc::clone(&world.sessions), GRACE)
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// How a connection ends, and how long that takes.
async fn end_of(guard: &Guard) -> (Cut, Duration) {
    let start = Instant::now();
    let cut = tokio::time::timeout(HOUR * 2, guard.ended()).await.expect("it never ends");
    (cut, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn every_connection_of_a_revoked_session_ends_on_the_news_and_no_other() {
    let world = World::new();
    let live = live(&world);
    let (one, other) = (world.issue("a", HOUR).await.session, world.issue("b", HOUR).await.session);
    let guards = [live.register(&one), live.register(&one)];
    let untouched = live.register(&other);
    pause(1_000).await;
    world.revoke(one.id).await;
    for guard in &guards {
        let (cut, took) = end_of(guard).await;
        assert_eq!(cut, Cut::Ended(Refusal::Ended(EndReason::Revoked)));
        assert!(took <= Duration::from_millis(5), "{took:?}");
        assert_eq!(guard.pass().await, Err(cut));
        assert!(!guard.is_open());
    }
    assert_eq!((cut_code(&guards[0]).await, "revoked"), (4401, "revoked"));
    pause(10_000).await;
    assert!(untouched.is_open());
    assert_eq!(live.counts(), Counts { sessions: 1, connections: 3 });
}

async fn cut_code(guard: &Guard) -> u16 {
    end_of(guard).await.0.close_code()
}

#[tokio::test(start_paused = true)]
async fn without_news_an_end_is_found_within_five_seconds() {
    let world = World::new();
    let live = live(&world);
    world.set_silent(true);
    let mut longest = Duration::ZERO;
    for n in 0..40 {
        let session = world.issue(&format!("d{n}"), HOUR).await.session;
        let guard = live.register(&session);
        pause(1_000 + n * 331).await;
        world.revoke(session.id).await;
        let (cut, took) = end_of(&guard).await;
        assert_eq!(cut, Cut::Ended(Refusal::Ended(EndReason::Revoked)));
        longest = longest.max(took);
    }
    assert!(longest <= Duration::from_secs(5), "{longest:?}");
    // Otherwise something else than the looking at intervals found it.
    assert!(longest >= Duration::from_secs(1), "{longest:?}");
}

#[tokio::test(start_paused = true)]
async fn an_end_between_verification_and_registration_is_found_soon() {
    let world = World::new();
    let live = live(&world);
    let first = world.issue("a", HOUR).await.session;
    let _running = live.register(&first);
    let session = world.issue("b", HOUR).await.session;
    world.revoke(session.id).await;
    pause(1_000).await;
    let (_, took) = end_of(&live.register(&session)).await;
    assert!(took <= Duration::from_millis(250), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn news_that_may_have_been_missed_is_looked_for() {
    let world = World::new();
    let live = live(&world);
    let session = world.issue("a", HOUR).await.session;
    let guard = live.register(&session);
    pause(1_000).await;
    world.set_silent(true);
    world.revoke(session.id).await;
    world.miss_news();
    assert!(end_of(&guard).await.1 <= Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn an_expiry_is_met_to_the_instant_and_a_rotation_moves_it() {
    let world = World::new();
    let live = live(&world);
    let issued = world.issue("a", Duration::from_secs(60)).await;
    let guard = live.register(&issued.session);
    pause(40_000).await;
    world.rotate(&issued.token).await;
    pause(30_000).await;
    assert!(guard.is_open(), "the rotation gave it another minute");
    let (cut, took) = end_of(&guard).await;
    assert_eq!(cut, Cut::Ended(Refusal::Expired));
    let late = took - Duration::from_secs(30);
    assert!(late <= Duration::from_millis(10), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_passes_after_the_expiry_even_before_anybody_looked() {
    let world = World::new();
    let live = live(&world);
    let session = world.issue("a", Duration::from_secs(10)).await.session;
    let guard = live.register(&session);
    assert_eq!(guard.pass().await, Ok(()));
    // Time passes without letting the driver run.
    tokio::time::advance(Duration::from_millis(9_999)).await;
    assert!(guard.is_open());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert!(!guard.is_open());
    assert_eq!(guard.pass().await, Err(Cut::Ended(Refusal::Expired)));
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_made_no_news_keeps_the_connection() {
    let world = World::new();
    let live = live(&world);
    let issued = world.issue("a", Duration::from_secs(2)).await;
    let guard = live.register(&issued.session);
    pause(1_000).await;
    world.set_silent(true);
    world.rotate(&issued.token).await;
    pause(1_500).await;
    assert_eq!(guard.pass().await, Ok(()));
    assert_eq!(end_of(&guard).await.0, Cut::Ended(Refusal::Expired));
}

#[tokio::test(start_paused = true)]
async fn only_use_keeps_a_session_from_being_idle() {
    let world = World::idling(Millis::seconds(30));
    let live = live(&world);
    let (used, left) = (world.issue("a", HOUR).await.session, world.issue("b", HOUR).await.session);
    let (used, left) = (live.register(&used), live.register(&left));
    let start = Instant::now();
    for _ in 0..100 {
        pause(1_000).await;
        used.pass().await.unwrap();
        used.note_activity();
    }
    assert!(used.is_open());
    let (cut, _) = end_of(&left).await;
    assert_eq!(cut, Cut::Ended(Refusal::Ended(EndReason::Idle)));
    assert!(world.record(left.session()).end.is_some(), "it was ended before it was told");
    assert!(end_of(&used).await.0 == cut && start.elapsed() < Duration::from_secs(132));
}

#[tokio::test(start_paused = true)]
async fn activity_is_noted_once_a_second() {
    let world = World::idling(Millis::seconds(30));
    let live = live(&world);
    let session = world.issue("a", HOUR).await.session;
    let guard = live.register(&session);
    for _ in 0..50 {
        pause(100).await;
        guard.note_activity();
    }
    assert!(world.sessions.flush_activity().await.is_ok());
    let used = world.record(session.id).last_activity.since(session.created_at);
    assert!(used >= Millis::new(4_000) && used <= Millis::new(5_000), "{used:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_store_is_borne_for_the_grace_and_not_past_an_expiry() {
    let world = World::new();
    let live = live(&world);
    let short = live.register(&world.issue("a", Duration::from_secs(20)).await.session);
    let long = live.register(&world.issue("b", HOUR).await.session);
    pause(10_000).await;
    world.set_down(true);
    let (cut, took) = end_of(&short).await;
    assert_eq!(cut, Cut::Ended(Refusal::Expired));
    assert!(took <= Duration::from_millis(10_100), "{took:?}");
    assert_eq!(long.pass().await, Ok(()), "within the grace data passes");
    let (cut, more) = end_of(&long).await;
    assert_eq!((cut, cut.close_code()), (Cut::StoreLost, 1013));
    let lasted = took + more;
    assert!(lasted >= GRACE, "the whole grace, from when the loss was noticed: {lasted:?}");
    assert!(lasted <= GRACE + Duration::from_secs(5), "which is within 4.5 s: {lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn one_session_that_cannot_be_read_is_borne_no_longer_for_others_that_can() {
    let world = World::new();
    let live = live(&world);
    let lost = world.issue("a", HOUR).await.session;
    let guard = live.register(&lost);
    let mut others = Vec::new();
    for n in 0..20 {
        others.push(live.register(&world.issue(&format!("d{n}"), HOUR).await.session));
    }
    pause(10_000).await;
    world.lose(lost.id);
    let (cut, took) = end_of(&guard).await;
    assert_eq!(cut, Cut::StoreLost);
    assert!(took >= GRACE && took <= GRACE + Duration::from_secs(5), "{took:?}");
    assert!(others.iter().all(Guard::is_open));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_returns_within_the_grace_cuts_nobody_but_who_was_revoked() {
    let world = World::new();
    let live = live(&world);
    let sessions: Vec<_> = [world.issue("a", HOUR).await, world.issue("b", HOUR).await].into();
    let guards: Vec<Guard> = sessions.iter().map(|issued| live.register(&issued.session)).collect();
    pause(5_000).await;
    world.set_down(true);
    pause(9_000).await;
    world.set_down(false);
    world.set_silent(true);
    world.revoke(sessions[0].session.id).await;
    let (cut, took) = end_of(&guards[0]).await;
    assert_eq!(cut, Cut::Ended(Refusal::Ended(EndReason::Revoked)));
    assert!(took <= Duration::from_secs(3), "{took:?}");
    pause(60_000).await;
    assert!(guards[1].is_open());
}

#[tokio::test(start_paused = true)]
async fn at_shutdown_everything_ends_and_nothing_begins() {
    let world = World::new();
    let live = live(&world);
    let session = world.issue("a", HOUR).await.session;
    let guard = live.register(&session);
    live.shut_down();
    assert_eq!(end_of(&guard).await.0, Cut::Shutdown);
    assert_eq!(end_of(&live.register(&session)).await.0.close_code(), 1001);
}

#[tokio::test(start_paused = true)]
async fn nothing_stays_open_without_the_registry() {
    let world = World::new();
    let live = live(&world);
    let guard = live.register(&world.issue("a", HOUR).await.session);
    pause(10).await;
    drop(live);
    assert_eq!(end_of(&guard).await.0, Cut::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn thousands_of_sessions_are_looked_at_evenly_and_forgotten_once_they_are_gone() {
    let world = World::new();
    let live = live(&world);
    let mut guards = Vec::new();
    for n in 0..2_000 {
        guards.push(live.register(&world.issue(&format!("d{n}"), HOUR).await.session));
    }
    pause(20_000).await;
    world.miss_news();
    pause(10).await;
    let before = world.finds();
    let mut most = 0;
    let mut last = before;
    for _ in 0..150 {
        pause(100).await;
        let now = world.finds();
        most = most.max(now - last);
        last = now;
    }
    let looks = last - before;
    assert!(looks >= 2_000 * 15 / 5, "each at least every 5 s: {looks}");
    assert!(looks <= 2_000 * 5, "and no more than every 3 s: {looks}");
    assert!(most <= 400, "{most} of 2,000 within 100 ms");
    guards.clear();
    pause(5_000).await;
    assert_eq!(live.counts(), Counts { sessions: 0, connections: 0 });
}
