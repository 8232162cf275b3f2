//! Short forms of the experiments of `cargo xtask faults` with Redis.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::process::Command;

#[track_caller]
fn holds(experiment: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_redis_faults"))
        .args(experiment)
        // The experiments run one by one hold the store to its bounds; here they run beside each other.
        .env("TEST_MARGIN", "10000")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{experiment:?}: {}\n{out}\n{err}", output.status);
    println!("{out}");
}

#[test]
fn while_no_server_answers_nothing_is_accepted_and_everything_works_again_soon() {
    holds(&["stop", "1"]);
}

#[test]
fn writers_follow_the_primary() {
    holds(&["failover", "1"]);
}

#[test]
fn slots_that_move_give_no_wrong_answer() {
    holds(&["slots", "4"]);
}

#[test]
fn scripts_that_are_forgotten_give_no_error() {
    holds(&["flush", "3"]);
}

#[test]
fn without_room_sessions_can_be_ended_but_not_issued() {
    holds(&["full"]);
}

#[test]
fn nothing_is_left_but_counters() {
    holds(&["expire", "300"]);
}
