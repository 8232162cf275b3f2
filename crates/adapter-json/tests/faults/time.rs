//! Tests of clocks that are set back or far ahead. No expired session becomes valid again, and time continues.

use super::repair::{planned, repairer};
use super::*;

const DAY: u64 = 86_400_000;

fn reboot(time: &Arc<SimulatedMachine>, wall: u64) -> Arc<SimulatedMachine> {
    let new = restarted(time, "b2");
    new.set_clock(Timestamp::from_millis(wall));
    new
}

async fn is_active(store: &JsonStore, id: SessionId) -> bool {
    let found = store.find(id, FindOptions::EXACT).await.unwrap().unwrap();
    found.state(store.clock().now()) == State::Active
}

#[test]
fn a_clock_set_back_revives_nothing_anywhere() {
    run(async {
        let (fs, time) = (empty_disk(), machine());
        let (a, b) = (mount(&fs, &time).unwrap(), mount(&fs, &time).unwrap());
        let id = issue(&a, "d", 1).await.session.id;
        time.pass(Millis::new(DAY - 1));
        assert!(is_active(&a, id).await && is_active(&b, id).await);
        time.pass(Millis::new(1));
        // This write records the time in the store.
        issue(&a, "e", 2).await;
        assert!(!is_active(&a, id).await);
        for back in [1, 60_000, DAY, 30 * DAY] {
            time.set_clock(Timestamp::from_millis(START + DAY - back));
            assert!(!is_active(&a, id).await, "in this process, {back} ms back");
            assert!(!is_active(&b, id).await, "in another one, {back} ms back");
            assert!(!is_active(&mount(&fs, &time).unwrap(), id).await, "in a new one, {back} ms back");
        }
        // After a restart of the machine, a clock may be behind by the tolerance. One that is further behind is refused.
        for back in [1, 59_999, 60_000] {
            let store = mount(&fs, &reboot(&time, START + DAY - back)).unwrap();
            assert!(!is_active(&store, id).await, "after a restart, {back} ms back");
        }
        let store = mount(&fs, &reboot(&time, START + DAY - 60_001)).unwrap();
        assert!(matches!(store.find(id, FindOptions::EXACT).await, Err(StoreError::Unavailable { .. })));
    });
}

#[test]
fn one_clock_far_ahead_does_not_freeze_time() {
    run(async {
        let (fs, time) = (empty_disk(), machine());
        let store = mount(&fs, &time).unwrap();
        time.set_clock(Timestamp::from_millis(START + 3_650 * DAY));
        let id = issue(&store, "d", 1).await.session.id;
        time.set_clock(Timestamp::from_millis(START));
        for store in [&store, &mount(&fs, &time).unwrap()] {
            assert!(is_active(store, id).await);
        }
        time.pass_uptime(Millis::new(DAY));
        for store in [&store, &mount(&fs, &time).unwrap()] {
            assert!(!is_active(store, id).await, "a day has passed by the machine's uptime");
        }
    });
}

#[test]
fn a_clock_behind_after_a_restart_is_refused_until_it_is_accepted() {
    run(async {
        let (fs, time) = (empty_disk(), machine());
        let before = mount(&fs, &time).unwrap();
        let old = issue(&before, "d", 1).await.session.id;
        // The clock is set far ahead, and after a restart it is right again.
        time.set_clock(Timestamp::from_millis(START + 100 * DAY));
        let early = issue(&before, "e", 2).await.session.id;
        let time = reboot(&time, START + 5_000);
        let running = mount(&fs, &time).unwrap();
        for id in [old, early] {
            let refused = running.find(id, FindOptions::EXACT).await.unwrap_err();
            assert!(
                matches!(&refused, StoreError::Unavailable { message, .. } if message.contains("doctor --repair")),
                "{refused}"
            );
        }
        assert!(running.load(&device("x")).await.is_err());
        let plan = planned(&fs, &time);
        let behind = plan.clock.as_ref().unwrap();
        assert_eq!((behind.recorded, behind.early), (Timestamp::from_millis(START + 100 * DAY), 1));
        assert_eq!((plan.losses.len(), plan.ended.len(), plan.kept), (0, 0, 2));
        repairer(&fs, &time).execute(&plan).unwrap();
        for store in [&running, &mount(&fs, &time).unwrap()] {
            assert!(is_active(store, old).await);
            assert_eq!(store.clock().now(), Timestamp::from_millis(START + 5_000));
        }
        // From then on the usual rules hold: a clock that is set back revives nothing.
        time.pass(Millis::new(DAY));
        issue(&running, "f", 3).await;
        time.set_clock(Timestamp::from_millis(START));
        for store in [&running, &mount(&fs, &time).unwrap()] {
            assert!(!is_active(store, old).await);
        }
        time.set_clock(Timestamp::from_millis(START + 5_000 + DAY));
        assert!(repairer(&fs, &time).plan().unwrap().is_none());
    });
}

#[test]
fn a_time_that_is_ahead_is_corrected_by_accepting_the_clock() {
    run(async {
        let (fs, time) = (empty_disk(), machine());
        let running = mount(&fs, &time).unwrap();
        let old = issue(&running, "d", 1).await.session.id;
        time.set_clock(Timestamp::from_millis(START + 20 * DAY));
        let early = issue(&running, "e", 2).await.session.id;
        time.pass(Millis::new(60_000));
        time.set_clock(Timestamp::from_millis(START + 60_000));
        assert_eq!(running.clock().now(), Timestamp::from_millis(START + 20 * DAY + 60_000));
        assert_eq!(running.clock().wall(), Timestamp::from_millis(START + 60_000));
        assert!(!is_active(&running, old).await && is_active(&running, early).await);

        let plan = planned(&fs, &time);
        let behind = plan.clock.as_ref().unwrap();
        assert_eq!((behind.recorded, behind.restarted), (Timestamp::from_millis(START + 20 * DAY), false));
        assert_eq!((behind.early, behind.until), (1, Timestamp::from_millis(START + 21 * DAY)));
        repairer(&fs, &time).execute(&plan).unwrap();
        for store in [&running, &mount(&fs, &time).unwrap()] {
            assert!(is_active(store, old).await);
            assert_eq!(store.clock().now(), Timestamp::from_millis(START + 60_000));
        }
        // A running process writes the accepted time, and a clock that is set back after that revives nothing.
        time.pass(Millis::new(DAY));
        issue(&running, "f", 3).await;
        assert!(repairer(&fs, &time).plan().unwrap().is_none());
        time.set_clock(Timestamp::from_millis(START));
        for store in [&running, &mount(&fs, &time).unwrap()] {
            assert!(!is_active(store, old).await);
        }
    });
}
