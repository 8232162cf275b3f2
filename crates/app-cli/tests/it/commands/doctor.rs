//! `tenure doctor`: findings, advice and repairs.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::support::home::{Home, id_of, mode};

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
    let url = format!("redis://127.0.0.1:{}", tenure_redis_test_server::free_port());
    let ran = home.run(&["--redis-url", &url, "doctor"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.out.contains("fail"), "{ran:?}");
}

/// Changes the bytes of the JSON store, and returns them.
fn damage(home: &Home, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = fs::read(home.store()).unwrap();
    change(&mut bytes);
    fs::write(home.store(), &bytes).unwrap();
    bytes
}

fn position(bytes: &[u8], part: &str) -> usize {
    bytes.windows(part.len()).position(|window| window == part.as_bytes()).unwrap()
}

fn backup(home: &Home) -> std::path::PathBuf {
    home.path("state/tenure/sessions.jsonl.before-repair")
}

#[test]
fn a_damaged_store_is_explained_and_repaired_only_after_a_yes() {
    let home = Home::json();
    let (kept, ended) = (home.issue("laptop"), home.issue("phone"));
    home.run(&["sessions", "revoke", id_of(&ended)]).succeeds();
    home.issue("tablet");
    let damaged = damage(&home, |bytes| {
        let at = position(bytes, "\"reason\":\"revoked\"");
        bytes[at..at + 18].copy_from_slice(b"\"reason\":\"#######\"");
    });
    let found = home.run(&["doctor"]);
    found.fails(1, "");
    assert!(found.out.contains("line 4") && found.out.contains("doctor --repair"), "{found:?}");

    let shown = home.run(&["doctor", "--repair"]);
    shown.fails(2, "this would change the store: add --yes to confirm");
    for part in [
        "line 4 (",
        " bytes at byte ",
        id_of(&ended),
        "1 session would be ended, because its revocation may be",
        "1 transaction would be lost",
    ] {
        assert!(shown.out.contains(part), "{part}: {shown:?}");
    }
    assert!(shown.out.contains("3 sessions would be kept"), "{shown:?}");
    assert_eq!(fs::read(home.store()).unwrap(), damaged);
    assert!(!backup(&home).exists());

    let done = home.run(&["doctor", "--repair", "--yes", "--json"]);
    let answer = done.succeeds().json();
    assert_eq!((&answer["ok"], &answer["repair"]["lost"]), (&true.into(), &1.into()), "{answer}");
    assert_eq!(answer["repair"]["ended"], serde_json::json!([id_of(&ended)]));
    assert_eq!((fs::read(backup(&home)).unwrap(), mode(&backup(&home))), (damaged, 0o600));
    assert_eq!(mode(&home.store()), 0o600);
    home.feed(&["token", "verify"], &kept).succeeds();
    home.feed(&["token", "verify"], &ended).fails(4, "token revoked");
    assert!(home.run(&["sessions", "show", id_of(&ended)]).out.contains("the store was repaired"));
    home.run(&["doctor"]).succeeds();
    let again = home.run(&["doctor", "--repair"]);
    assert!(again.succeeds().err.contains("the store needs no repair"), "{again:?}");
}

#[test]
fn one_changed_bit_costs_nothing() {
    let home = Home::json();
    let (kept, ended) = (home.issue("laptop"), home.issue("phone"));
    home.run(&["sessions", "revoke", id_of(&ended)]).succeeds();
    damage(&home, |bytes| {
        let at = position(bytes, "revoked");
        bytes[at] ^= 4;
    });
    home.feed(&["token", "verify"], &ended).fails(6, "line 4");
    let done = home.run(&["doctor", "--repair", "--yes"]);
    assert!(done.succeeds().out.contains("line 4: one bit has changed"), "{done:?}");
    home.feed(&["token", "verify"], &kept).succeeds();
    home.feed(&["token", "verify"], &ended).fails(4, "token revoked");
    assert!(!home.run(&["sessions", "show", id_of(&ended)]).out.contains("repaired"));
}

#[test]
fn a_second_repair_keeps_its_own_file() {
    let home = Home::json();
    home.issue("laptop");
    for name in ["sessions.jsonl.before-repair", "sessions.jsonl.before-repair-2"] {
        let damaged = damage(&home, |bytes| {
            let last = bytes.len() - 3;
            bytes[last] ^= 1;
        });
        home.run(&["doctor", "--repair", "--yes"]).succeeds();
        assert_eq!(fs::read(home.path("state/tenure").join(name)).unwrap(), damaged);
    }
}

#[test]
fn what_is_no_store_is_not_repaired() {
    let home = Home::json();
    home.issue("laptop");
    for foreign in ["", "hello\n", "{\"sessions\":{}}\n"] {
        fs::write(home.store(), foreign).unwrap();
        home.run(&["doctor", "--repair", "--yes"]).fails(6, "nothing to repair; move it away");
        assert_eq!(fs::read_to_string(home.store()).unwrap(), foreign);
        let found = home.run(&["doctor"]);
        assert!(found.out.contains("restore a back-up, or move it away"), "{found:?}");
    }
    fs::set_permissions(home.store(), Permissions::from_mode(0o644)).unwrap();
    home.run(&["doctor", "--repair", "--yes"]).fails(5, "chmod 600");
    home.run(&["--backend", "redis", "doctor", "--repair"]).fails(2, "--repair is for the json backend");
    home.run(&["doctor", "--yes"]).fails(2, "--repair");
}

/// Computes the checksum of a line: CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1)))
    })
}

/// Changes the last line as if it had been written later, in this boot of the machine or in another.
fn write_later(home: &Home, millis: u64, other_run: bool) {
    damage(home, |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let last = text.lines().last().unwrap();
        let line: serde_json::Value = serde_json::from_str(last).unwrap();
        let (t, boot) = (line["tx"]["t"].as_u64().unwrap(), line["tx"]["b"].as_str().unwrap());
        let tx = &last[23..last.len() - 1];
        assert!(last.starts_with("{\"crc\":") && tx.starts_with("{\"q\":"), "{last}");
        let tx = tx.replacen(&t.to_string(), &(t + millis).to_string(), 1);
        let tx = if other_run { tx.replacen(boot, "another", 1) } else { tx };
        let other = format!("{{\"crc\":\"{:08x}\",\"tx\":{tx}}}", crc32c(tx.as_bytes()));
        *bytes = text.replace(last, &other).into_bytes();
    });
}

#[test]
fn a_clock_that_is_behind_after_a_restart_is_accepted_only_here() {
    let home = Home::json();
    let token = home.issue("laptop");
    write_later(&home, 3_600_000, true);
    home.feed(&["token", "verify"], &token).fails(5, "its clock is 59m 5");
    let found = home.run(&["doctor"]);
    assert!(found.out.contains("doctor --repair") && found.code == Some(1), "{found:?}");
    let shown = home.run(&["doctor", "--repair"]);
    assert!(shown.fails(2, "--yes").out.contains("the clock is behind"), "{shown:?}");
    home.feed(&["token", "verify"], &token).fails(5, "its clock is");
    home.run(&["doctor", "--repair", "--yes"]).succeeds();
    home.feed(&["token", "verify"], &token).succeeds();
}

#[test]
fn a_time_that_a_wrong_clock_left_ahead_is_told_and_settled() {
    const DAYS: u64 = 20 * 86_400;
    let home = Home::json();
    home.issue("laptop");
    write_later(&home, DAYS * 1_000, false);
    let gateway = crate::gateway::Gateway::start(&home, &[]);
    let token = home.issue("phone");

    let found = home.run(&["doctor"]);
    assert!(found.succeeds().out.contains("warn  "), "{found:?}");
    // 20 days, up to a few milliseconds.
    let ahead = ["20d ", "480h ", "479h "].map(|length| format!("the store's time is {length}"));
    assert!(ahead.iter().any(|ahead| found.out.contains(ahead)), "{found:?}");
    assert!(found.out.contains("doctor --repair"), "{found:?}");
    let seconds_left = |gateway: &crate::gateway::Gateway| {
        let (body, address) = (format!("token={token}"), &gateway.operators);
        let head = format!(
            "POST /oauth2/introspect HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\nContent-Type: \
             application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            gateway.admin_secret,
            body.len()
        );
        let answer = crate::gateway::request(address, &(head + &body)).body;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let now = fs::metadata(home.write("now", "")).unwrap().modified().unwrap();
        let now = i64::try_from(now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap();
        (answer["exp"].as_i64().unwrap() - now, now - answer["iat"].as_i64().unwrap())
    };
    let (left, ago) = seconds_left(&gateway);
    assert!((86_000..=86_400).contains(&left) && (0..=400).contains(&ago), "{left} {ago}");

    let shown = home.run(&["doctor", "--repair"]).fails(2, "--yes").out.clone();
    assert!(
        shown.contains("by a clock that was once ahead") && shown.contains("1 session would stay valid"),
        "{shown}"
    );
    home.run(&["doctor", "--repair", "--yes"]).succeeds();
    // A running process continues with the accepted time, also for what it writes.
    assert!(gateway.auth(&token).status < 300);
    home.issue("tablet");
    let found = home.run(&["doctor"]);
    assert!(found.succeeds().out.contains("the clock agrees with what the store has recorded"), "{found:?}");
    let (left, _) = seconds_left(&gateway);
    assert!(
        left > i64::try_from(DAYS).unwrap(),
        "issued by the wrong clock, it holds so long by the right one: {left}"
    );
}
