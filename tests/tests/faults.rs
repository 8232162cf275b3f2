//! Short forms of the experiments of `cargo xtask faults`.

#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::process::Command;

#[track_caller]
fn holds(experiment: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_faults")).args(experiment).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{experiment:?}: {}\n{out}\n{err}", output.status);
}

#[test]
fn killed_writers_lose_nothing_and_bring_nothing_back() {
    holds(&["kill", "24", "500"]);
}

#[test]
fn two_writers_and_compactions_lose_nothing() {
    holds(&["contend", "4"]);
}

/// What mounts file systems is of Linux.
#[cfg(target_os = "linux")]
#[test]
fn without_room_nothing_is_acknowledged_and_nothing_lost() {
    holds(&["room", "3"]);
}

#[test]
fn whoever_holds_the_lock_and_stops_stops_no_verify() {
    holds(&["stopped", "1"]);
}
