//! Moving sessions: export, import, and the import of a Moltbot file.

use std::fs;

use serde_json::{Value, json};

use crate::support::home::{Home, id_of, mode};
use crate::support::model::{export_of, export_on};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_move_there_and_back_loses_nothing() {
    let (json, redis) = (Home::json(), Home::redis());
    let (kept, ended) = (json.issue("laptop"), json.issue("phone"));
    let rotated = json.feed(&["token", "rotate"], &kept).succeeds().out.clone();
    json.run(&["sessions", "revoke", id_of(&ended), "--reason", "lost"]).succeeds();
    json.run(&["sessions", "export", "there.jsonl"]).succeeds();
    let there = fs::read_to_string(json.path("there.jsonl")).unwrap();
    assert_eq!(mode(&json.path("there.jsonl")), 0o600);

    let imported = redis.feed(&["sessions", "import", "-", "--json"], &there);
    assert_eq!(imported.succeeds().json()["taken"], 2);
    assert!(imported.err.contains("stop everything that writes"), "{imported:?}");
    redis.feed(&["token", "verify", "--no-touch"], &rotated).succeeds();
    redis.feed(&["token", "verify", "--no-touch"], &kept).fails(4, "error: token rotated");
    redis.feed(&["token", "verify", "--no-touch"], &ended).fails(4, "error: token revoked");

    let back = redis.run(&["sessions", "export"]).succeeds().out.clone();
    assert_eq!(sorted(&back), sorted(&there));
    let again = json.feed(&["sessions", "import", "-", "--json"], &back);
    let again = again.succeeds().json();
    assert_eq!((&again["taken"], &again["kept"]), (&0.into(), &2.into()));
}

#[test]
fn an_older_export_brings_nothing_back() {
    let home = Home::json();
    let token = home.issue("laptop");
    let older = home.run(&["sessions", "export"]).succeeds().out.clone();
    home.run(&["sessions", "revoke", id_of(&token)]).succeeds();
    home.feed(&["sessions", "import", "-"], &older).succeeds();
    home.feed(&["token", "verify"], &token).fails(4, "error: token revoked");
}

#[test]
fn a_bad_line_is_named_and_nothing_is_imported() {
    let (from, to) = (Home::json(), Home::json());
    for device in ["a", "b", "c"] {
        from.issue(device);
    }
    let export = from.run(&["sessions", "export"]).succeeds().out.clone();
    let bad = export.replace("\"order\"", "\"ordr\"");
    let mut text: Vec<&str> = export.lines().collect();
    text[2] = bad.lines().nth(2).unwrap();
    to.write("bad.jsonl", &text.join("\n"));
    let ran = to.run(&["sessions", "import", "bad.jsonl"]);
    ran.fails(1, "bad.jsonl: line 3: ").fails(1, "nothing was imported");
    let digest = lines(&export)[2]["credential"]["currentSha256"].as_str().unwrap().to_owned();
    assert!(!ran.err.contains(&digest[..16]));
    let twice = format!("{export}{}", export.lines().next().unwrap());
    to.feed(&["sessions", "import", "-"], &twice).fails(1, "is already on line 1");
    assert!(!to.store().exists());
    to.run(&["sessions", "import", "missing.jsonl"]).fails(1, "could not read missing.jsonl");
    assert_eq!(to.feed(&["sessions", "import", "-", "--json"], "").succeeds().json()["taken"], 0);
}

#[test]
fn a_device_over_its_cap_is_refused_by_name() {
    let (from, mut to) = (Home::json(), Home::json());
    for device in ["laptop", "laptop", "laptop", "phone"] {
        from.issue(device);
    }
    let export = from.run(&["sessions", "export"]).succeeds().out.clone();
    to.set("TENURE_SESSION__MAX_SESSIONS_PER_DEVICE", "2");
    let would = to.feed(&["sessions", "import", "-", "--dry-run"], &export);
    would.fails(1, "device laptop: not imported, because it would have 3 active sessions and may have 2");
    assert!(!to.store().exists());
    let ran = to.feed(&["sessions", "import", "-", "--json"], &export);
    let report = ran.fails(1, "device laptop: not imported").json();
    assert_eq!(report["taken"], 1);
    assert_eq!(report["overCap"], json!([{ "deviceId": "laptop", "active": 3, "cap": 2 }]));
    assert_eq!(to.list(&[])[0]["deviceId"], "phone");
}

/// Names that only earlier releases allowed are shown with all their characters, and still work as names.
#[test]
fn names_of_an_earlier_release_are_seen_and_can_be_named() {
    for home in [Home::json(), Home::redis()] {
        let (device, subject) = ("lap\u{200b}top ", "an\u{200f}na");
        let text = export_on([device.to_owned(), "laptop".to_owned()], subject);
        assert_eq!(home.feed(&["sessions", "import", "-", "--json"], &text).succeeds().json()["taken"], 2);
        let table = home.run(&["sessions", "list"]).succeeds().out.clone();
        assert!(table.contains("lap\\u{200b}top\\u{20}  an\\u{200f}na"), "{table}");
        let json = home.run(&["sessions", "list", "--json"]).succeeds().out.clone();
        assert!(json.contains("\"lap\\u200btop \"") && json.is_ascii(), "{json}");
        let own = home.list(&["--device-id", device]);
        assert_eq!((own.len(), &own[0]["deviceId"]), (1, &json!(device)));
        assert_eq!(home.list(&["--subject", subject]).len(), 2);
        let shown = home.run(&["sessions", "show", own[0]["sessionId"].as_str().unwrap()]).succeeds().out.clone();
        assert!(shown.contains("lap\\u{200b}top") && shown.is_ascii(), "{shown}");
        assert_eq!(sorted(&home.run(&["sessions", "export"]).succeeds().out), sorted(&text));
        home.run(&["token", "issue", "--device-id", device, "--subject", subject])
            .fails(2, "device id ends with a space");
        home.run(&["sessions", "revoke", "--device-id", device]).succeeds();
        assert_eq!(home.list(&[])[0]["deviceId"], "laptop");
        home.run(&["sessions", "revoke", "--subject", subject]).succeeds();
        assert_eq!(home.list(&[]).len(), 0);
    }
}

#[test]
fn many_sessions_are_counted_on_both_sides() {
    let home = Home::json();
    let text = export_of(500);
    let first = home.feed(&["sessions", "import", "-", "--json"], &text).succeeds().json();
    assert_eq!(first["taken"], 500);
    let exported = home.run(&["sessions", "export"]).succeeds().out.clone();
    assert_eq!(sorted(&exported), sorted(&text));
}

fn moltbot(expires_at: u128) -> String {
    json!({ "sessions": {
        "one": { "sessionId": "one", "token": "klartext-1", "createdAt": 1, "lastActivity": 2, "expiresAt": expires_at,
            "clientInfo": { "id": "macapp", "platform": "darwin", "version": "2.1", "displayName": "Mac" } },
        "two": { "sessionId": "two", "deviceId": "pi", "token": "klartext-2", "createdAt": 1, "lastActivity": 2,
            "expiresAt": expires_at + 10_000_000_000, "clientInfo": { "id": "cli" } },
        "old": { "sessionId": "old", "token": "klartext-3", "createdAt": 1, "lastActivity": 2, "expiresAt": 3,
            "clientInfo": { "id": "cli" } },
    } })
    .to_string()
}

#[expect(clippy::disallowed_methods, reason = "the file of another program has the wall clock in it")]
fn in_an_hour() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() + 3_600_000
}

#[test]
fn a_moltbot_file_gets_new_sessions_and_new_tokens() {
    let home = Home::json();
    let expires_at = in_an_hour();
    home.write("sessions.json", &moltbot(expires_at));
    home.run(&["sessions", "import", "sessions.json"]).fails(2, "--tokens-out FILE");
    let would = home.run(&["sessions", "import", "sessions.json", "--dry-run", "--json"]).succeeds().json();
    assert_eq!((&would["issued"], &would["expired"]), (&2.into(), &1.into()));
    assert!(!home.store().exists());

    let ran = home.run(&["sessions", "import", "sessions.json", "--tokens-out", "tokens.jsonl"]);
    assert_eq!(ran.succeeds().out, "issued 2 sessions to replace old ones; 1 expired one skipped\n");
    let tokens = fs::read_to_string(home.path("tokens.jsonl")).unwrap();
    assert_eq!(mode(&home.path("tokens.jsonl")), 0o600);
    let tokens = lines(&tokens);
    assert_eq!(tokens.len(), 2);
    for entry in &tokens {
        let token = entry["token"].as_str().unwrap();
        assert_eq!(entry["sessionId"], id_of(token));
        let session = home.feed(&["token", "verify", "--json"], token).succeeds().json()["session"].clone();
        if entry["oldSessionId"] == "one" {
            assert_eq!(
                (&session["deviceId"], &session["clientInfo"]["displayName"]),
                (&"macapp".into(), &"Mac".into())
            );
        } else {
            assert_eq!((&entry["oldSessionId"], &session["deviceId"]), (&"two".into(), &"pi".into()));
        }
    }
    let listed = home.list(&["--sort", "expires"]);
    let first = tenure_service::parse_rfc3339(listed[0]["expiresAt"].as_str().unwrap()).unwrap();
    assert_eq!(u128::from(first.as_millis()), expires_at, "the earlier of the old expiry and the TTL");
    let second = tenure_service::parse_rfc3339(listed[1]["expiresAt"].as_str().unwrap()).unwrap();
    assert!(u128::from(second.as_millis()) < expires_at + 24 * 3_600_000);

    home.run(&["sessions", "import", "sessions.json", "--tokens-out", "tokens.jsonl"]).fails(1, "already exists");
    assert_eq!(home.list(&[]).len(), 2);
    let all = format!("{ran:?}{}", fs::read_to_string(home.store()).unwrap());
    assert!(!all.contains("klartext"));
}

/// The sessions of a Moltbot file belong to the operator. A device of another subject is not changed, and is reported.
#[test]
fn a_moltbot_file_takes_nobodys_device() {
    let home = Home::json();
    home.run(&["token", "issue", "--device-id", "pi", "--subject", "anna"]).succeeds();
    home.write("sessions.json", &moltbot(in_an_hour()));
    let ran = home.run(&["sessions", "import", "sessions.json", "--tokens-out", "tokens.jsonl", "--json"]);
    let report = ran.fails(1, "device pi: not imported, because its active sessions belong to anna").json();
    assert_eq!(report["issued"], 1);
    assert_eq!(report["otherOwner"], json!([{ "deviceId": "pi", "owners": ["anna"] }]));
    assert_eq!(home.list(&["--subject", "anna"]).len(), 1);
    assert_eq!(lines(&fs::read_to_string(home.path("tokens.jsonl")).unwrap()).len(), 1);
}

/// A device that several subjects share, as an earlier release allowed, is exported and imported unchanged.
#[test]
fn a_shared_device_is_imported_whole() {
    let (from, to) = (Home::json(), Home::json());
    from.issue("laptop");
    let annas = from.run(&["token", "issue", "--device-id", "phone", "--subject", "anna"]).succeeds().out.clone();
    let export = from.run(&["sessions", "export"]).succeeds().out.clone();
    let other = Home::json();
    other.run(&["token", "issue", "--device-id", "laptop", "--subject", "anna"]).succeeds();
    let mixed = format!("{export}{}", other.run(&["sessions", "export"]).succeeds().out);
    assert_eq!(to.feed(&["sessions", "import", "-", "--json"], &mixed).succeeds().json()["taken"], 3);
    to.feed(&["token", "verify"], &annas).succeeds();
    assert_eq!(to.list(&["--device-id", "laptop"]).len(), 2);
    to.run(&["token", "issue", "--device-id", "laptop", "--subject", "bob"])
        .fails(1, "active sessions of anna, operator");
    to.run(&["token", "issue", "--device-id", "laptop", "--subject", "anna"]).succeeds();
    to.run(&["token", "issue", "--device-id", "laptop"]).succeeds();
    assert_eq!(to.list(&["--device-id", "laptop"]).len(), 4);
}

#[test]
fn a_moltbot_file_that_is_wrong_says_where() {
    let home = Home::json();
    home.write("sessions.json", "{\"sessions\": {\n\"a\": {\"expiresAt\": \"x\"}}}");
    let args = ["sessions", "import", "sessions.json", "--tokens-out", "tokens.jsonl"];
    home.run(&args).fails(1, "sessions.json: session \"a\": it has neither deviceId nor clientInfo.id");
    home.write("sessions.json", "{\"sessions\": {\n\"a\": oops}}");
    home.run(&args).fails(1, "sessions.json: not a Moltbot sessions.json (line 2");
    home.write("sessions.json", "{\"sessions\": {\"a\": {\"expiresAt\": 1}}}");
    home.run(&args).fails(1, "session \"a\": it has neither deviceId nor clientInfo.id");
    assert!(!home.path("tokens.jsonl").exists());
}

#[test]
fn what_cannot_be_taken_over_is_told_for_what_it_is() {
    let home = Home::json();
    let entry = |expiry: &str| format!("{{\"sessions\": {{\"a\": {{\"deviceId\": \"d\", \"expiresAt\": {expiry}}}}}}}");
    for (text, told) in [
        (
            "{\"agent:main:main\": {\"sessionId\": \"x\", \"updatedAt\": 1795000000000}}".to_owned(),
            "map of conversations",
        ),
        (String::new(), "it is empty"),
        (entry("1795000000000")[..40].to_owned(), "it ends in the middle (line 1, column 40)"),
        (format!("\u{feff}{}", entry("1795000000000")), "byte order mark"),
        (format!("// mine\n{}", entry("1795000000000")), "it is JSON5"),
        (entry("\"2026-11-24T00:00:00Z\""), "session \"a\": expiresAt is a string"),
        (entry("1795000000"), "session \"a\": expiresAt looks like seconds"),
        (entry("1795000000000.5"), "session \"a\": expiresAt has a fraction"),
    ] {
        home.write("sessions.json", &text);
        for more in [&["--tokens-out", "tokens.jsonl"][..], &["--tokens-out", "tokens.jsonl", "--dry-run"]] {
            let ran = home.run(&[&["sessions", "import", "sessions.json"], more].concat());
            ran.fails(1, told).fails(1, "sessions.json: ").fails(1, "nothing was imported");
        }
    }
    assert!(!home.store().exists() && !home.path("tokens.jsonl").exists());
    let empty = home.feed(&["sessions", "import", "-"], "");
    assert!(empty.succeeds().err.contains("is empty: an export of no sessions"), "{empty:?}");
}
