//! `tenure doctor`: what is well, what is not, and what to do.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::home::Home;

#[test]
fn a_store_that_is_well_is_said_to_be_so() {
    let home = Home::json();
    home.issue("laptop");
    let found = home.run(&["doctor", "--json"]).succeeds().json();
    assert_eq!(found["ok"], true);
    assert!(found["findings"].as_array().unwrap().iter().all(|finding| finding["level"] == "ok"), "{found}");
    let before = fs::read(home.store()).unwrap();
    home.run(&["doctor"]).succeeds();
    assert_eq!(fs::read(home.store()).unwrap(), before);
}

#[test]
fn what_is_wrong_comes_with_what_to_do() {
    let home = Home::json();
    home.issue("laptop");
    fs::set_permissions(home.store(), Permissions::from_mode(0o666)).unwrap();
    home.run(&["config", "init"]).succeeds();
    fs::set_permissions(home.settings(), Permissions::from_mode(0o666)).unwrap();
    let ran = home.run(&["doctor"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("others can write") && ran.out.contains("chmod 600"), "{ran:?}");
    let found = home.run(&["doctor", "--json"]);
    let found = found.fails(1, "").json();
    let failed: Vec<_> =
        found["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] == "fail").collect();
    assert!(failed.len() >= 2, "{found}");
    assert!(failed.iter().all(|finding| finding["advice"].is_string()), "{found}");
}

#[test]
fn settings_that_are_wrong_are_a_finding() {
    let mut home = Home::json();
    home.set("TENURE_SESSION__TOKEN_TTL", "0s");
    let ran = home.run(&["doctor"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.out.contains("session.token_ttl is 0s (TENURE_SESSION__TOKEN_TTL): it takes 1s to 365d"), "{ran:?}");
}

#[test]
fn a_redis_is_examined_and_one_that_is_not_there_fails() {
    let home = Home::redis();
    let found = home.run(&["doctor", "--json"]);
    assert!(matches!(found.code, Some(0 | 1)), "{found:?}");
    assert!(found.json()["findings"].as_array().unwrap().len() > 2, "{found:?}");
    let url = format!("redis://127.0.0.1:{}", tenure_adapter_redis::test_server::free_port());
    let ran = home.run(&["--redis-url", &url, "doctor"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("fail"), "{ran:?}");
}
