//! Issue, verify, rotate and revoke, on both backends.

use std::fs;

use crate::gateway::eventually;
use crate::on_both_backends;
use crate::support::home::{Home, id_of, mode};

on_both_backends!(
    a_session_from_issue_to_cleanup,
    eleven_issues_leave_the_newest_ten,
    a_token_is_refused_once_its_time_is_over,
    a_rotation_into_the_file_that_it_was_read_from,
    a_rotation_that_is_not_due_is_not_made,
    a_look_is_no_activity,
    a_device_is_its_owners_until_it_is_taken_over,
);

fn a_session_from_issue_to_cleanup(home: Home) {
    let issued = home.run(&[
        "token",
        "issue",
        "--device-id",
        "laptop",
        "--subject",
        "alice",
        "--client-name",
        "Claw",
        "--platform",
        "linux",
        "--json",
    ]);
    let answer = issued.succeeds().json();
    let token = answer["token"].as_str().unwrap().to_owned();
    assert_eq!(answer["session"]["deviceId"], "laptop");
    assert_eq!(answer["evicted"], serde_json::json!([]));

    let verified = home.feed(&["token", "verify", "--json"], &format!("{token}\r\n")).succeeds().json();
    assert_eq!((&verified["active"], &verified["rotationDue"]), (&true.into(), &false.into()));
    assert_eq!(verified["session"]["clientInfo"]["displayName"], "Claw");

    let listed = home.run(&["sessions", "list"]);
    let text = &listed.succeeds().out;
    assert!(text.starts_with("SESSION ") && text.contains("Claw linux") && text.contains("23h 59m"), "{text}");
    let id = home.list(&[])[0]["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(id, id_of(&token));
    assert_eq!(home.list(&["--subject", "bob"]).len(), 0);

    let new = home.feed(&["token", "rotate"], &token).succeeds().out.trim_end().to_owned();
    home.feed(&["token", "verify"], &token).fails(4, "error: token rotated");
    home.feed(&["token", "verify"], &new).succeeds();

    let revoked = home.run(&["sessions", "revoke", &id[..8], "--reason", "laptop lost"]);
    assert_eq!(revoked.succeeds().out, format!("ended 1 session\n{id}  laptop  alice\n"));
    home.feed(&["token", "verify"], &new).fails(4, "error: token revoked");
    let refused = home.feed(&["token", "verify", "--json"], &new);
    assert_eq!(refused.fails(4, "").json(), serde_json::json!({ "active": false, "reason": "revoked" }));
    home.feed(&["token", "rotate"], &new).fails(4, "error: token revoked");

    let shown = home.run(&["sessions", "show", &id, "--json"]).succeeds().json();
    assert_eq!((shown["endText"].as_str(), shown["endActor"].as_str()), (Some("laptop lost"), Some("cli")));
    let again = home.run(&["sessions", "revoke", &id]);
    assert!(again.succeeds().out.contains("has already ended: revoked"), "{again:?}");

    assert_eq!(home.list(&[]).len(), 0);
    assert_eq!(home.list(&["--all"]).len(), 1);
    assert_eq!(home.run(&["sessions", "cleanup", "--older-than", "1h"]).succeeds().out, "removed 0 sessions\n");
    assert_eq!(home.run(&["sessions", "cleanup", "--dry-run"]).succeeds().out, "would remove 1 session\n");
    assert_eq!(home.run(&["sessions", "cleanup", "--json"]).succeeds().json()["removed"], 1);
    assert_eq!(home.list(&["--all"]).len(), 0);
    home.feed(&["token", "verify"], &new).fails(4, "error: token unknown");
}

fn eleven_issues_leave_the_newest_ten(home: Home) {
    let tokens: Vec<String> = (0..10).map(|_| home.issue("laptop")).collect();
    let last = home.run(&["token", "issue", "--device-id", "laptop"]);
    assert!(
        last.succeeds()
            .err
            .contains(&format!("evicted 1 session, the oldest of operator on this device: {}", id_of(&tokens[0])))
    );
    home.feed(&["token", "verify"], &tokens[0]).fails(4, "error: token evicted");
    home.feed(&["token", "verify"], &tokens[1]).succeeds();
    let listed = home.list(&["--sort", "created", "--device-id", "laptop"]);
    assert_eq!(listed.len(), 10);
    assert_eq!(listed[0]["sessionId"], id_of(&last.out));
    assert_eq!(home.list(&["--limit", "3"]).len(), 3);
}

fn a_device_is_its_owners_until_it_is_taken_over(home: Home) {
    let old = home.issue("laptop");
    let issue =
        |more: &[&str]| home.run(&[&["token", "issue", "--device-id", "laptop", "--subject", "anna"], more].concat());
    let refused = issue(&[]);
    refused.fails(1, "error: device laptop has active sessions of operator, so nothing was issued for anna");
    assert!(refused.err.contains("--take-over") && refused.out.is_empty(), "{refused:?}");
    home.feed(&["token", "verify"], &old).succeeds();
    let taken = issue(&["--take-over"]);
    let told = format!("took over the device and revoked 1 session: {} of operator", id_of(&old));
    assert!(taken.succeeds().err.contains(&told), "{taken:?}");
    home.feed(&["token", "verify"], &old).fails(4, "error: token revoked");
    home.feed(&["token", "verify"], &taken.out).succeeds();
    let shown = home.run(&["sessions", "show", id_of(&old), "--json"]).succeeds().json();
    assert_eq!(
        (shown["endText"].as_str(), shown["endActor"].as_str()),
        (Some("the device was taken over for anna"), Some("cli"))
    );
    // On the subject's own device the flag ends no session.
    let again = issue(&["--take-over", "--json"]).succeeds().json();
    assert_eq!((&again["evicted"], &again["revoked"]), (&serde_json::json!([]), &serde_json::Value::Null));
    let back = home.run(&["token", "issue", "--device-id", "laptop", "--take-over", "--json"]).succeeds().json();
    assert_eq!(back["revoked"].as_array().unwrap().len(), 2);
    assert_eq!(home.list(&[]).len(), 1);
}

/// The life of a token with a short TTL, so that the test is fast.
fn a_token_is_refused_once_its_time_is_over(home: Home) {
    home.run(&["config", "set", "session.token_ttl", "1s"]).succeeds();
    let token = home.issue("laptop");
    let mut last = None;
    eventually("it is not accepted any more", || last.insert(home.feed(&["token", "verify"], &token)).code != Some(0));
    assert_eq!(last.unwrap().fails(4, "").err, "error: token expired\n");
    let answer = home.feed(&["token", "verify", "--json"], &token);
    assert_eq!(answer.fails(4, "").json(), serde_json::json!({ "active": false, "reason": "expired" }));
    home.feed(&["token", "rotate"], &token).fails(4, "error: token expired");
    assert_eq!(home.run(&["sessions", "cleanup"]).succeeds().out, "removed 1 session\n");
}

fn a_rotation_into_the_file_that_it_was_read_from(home: Home) {
    let token = home.issue("laptop");
    let file = home.write("token.txt", &token);
    let rotate = |args: &[&str]| {
        let mut command = home.command(&[&["token", "rotate", "--output", "token.txt"], args].concat());
        crate::support::home::Ran::from(command.stdin(fs::File::open(&file).unwrap()).output().unwrap())
    };
    let rotated = rotate(&[]);
    assert_eq!(rotated.succeeds().out, "");
    let new = fs::read_to_string(&file).unwrap();
    assert_ne!(new.trim_end(), token);
    assert_eq!(mode(&file), 0o600);
    home.feed(&["token", "verify"], &new).succeeds();
    home.feed(&["token", "verify"], &token).fails(4, "error: token rotated");

    assert_eq!(rotate(&["--json"]).succeeds().json()["output"], "token.txt");
    let newer = fs::read_to_string(&file).unwrap();
    home.run(&["sessions", "revoke", id_of(&newer)]).succeeds();
    rotate(&[]).fails(4, "error: token revoked");
    assert_eq!(fs::read_to_string(&file).unwrap(), newer, "a refused rotation leaves the file as it was");
    let names: Vec<_> = fs::read_dir(home.path(".")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains(".new")), "{names:?}");
}

fn a_rotation_that_is_not_due_is_not_made(home: Home) {
    let token = home.issue("laptop");
    let ran = home.feed(&["token", "rotate", "--if-due"], &token);
    assert_eq!(ran.succeeds().out, "");
    assert!(ran.err.contains("rotation is not due"), "{ran:?}");
    assert_eq!(home.feed(&["token", "rotate", "--if-due", "--json"], &token).succeeds().json()["rotated"], false);
    home.feed(&["token", "verify"], &token).succeeds();

    home.run(&["config", "set", "session.rotate_before_expiry", "23h 59m 59s 999ms"]).succeeds();
    eventually("the rotation is due", || {
        home.feed(&["token", "verify", "--json"], &token).succeeds().json()["rotationDue"] == true
    });
    let due = home.feed(&["token", "rotate", "--if-due"], &token);
    home.feed(&["token", "verify"], &due.succeeds().out).succeeds();
}

fn a_look_is_no_activity(home: Home) {
    let token = home.issue("laptop");
    let activity = || home.list(&[])[0]["lastActivity"].as_str().unwrap().to_owned();
    let before = activity();
    home.feed(&["token", "verify", "--no-touch"], &token).succeeds();
    assert_eq!(activity(), before);
    eventually("a use in a later millisecond is seen", || {
        home.feed(&["token", "verify"], &token).succeeds();
        activity() > before
    });
}

#[test]
fn a_token_comes_from_the_environment_or_standard_input_but_not_from_both() {
    let mut home = Home::json();
    let token = home.issue("laptop");
    home.run(&["token", "verify"]).fails(2, "there is no token; pass it on standard input");
    home.feed(&["token", "verify"], " \n").fails(2, "there is no token");
    home.feed(&["token", "verify"], &"x".repeat(1 << 20)).fails(4, "error: token malformed");
    home.set("TENURE_TOKEN", &token);
    home.run(&["token", "verify"]).succeeds();
    let file = home.write("token.txt", &token);
    let mut both = home.command(&["token", "verify"]);
    crate::support::home::Ran::from(both.stdin(fs::File::open(file).unwrap()).output().unwrap())
        .fails(2, "there are two tokens");
}

#[test]
fn a_token_is_inspected_without_a_store() {
    let home = Home::json();
    let token = home.issue("laptop");
    fs::remove_dir_all(home.path("state")).unwrap();
    let right = home.feed(&["token", "inspect"], &token);
    assert_eq!(right.succeeds().out, format!("prefix    right\nsession   {}\nchecksum  right\n", id_of(&token)));
    assert!(!home.store().exists());
    let wrong = if token.ends_with('0') { '1' } else { '0' };
    let mistyped = format!("{}{wrong}", &token[..token.len() - 1]);
    let found = home.feed(&["token", "inspect", "--json"], &mistyped);
    let found = found.fails(4, "").json();
    assert_eq!(
        (&found["wellFormed"], &found["prefix"], &found["checksum"]),
        (&false.into(), &true.into(), &false.into())
    );
    home.feed(&["token", "inspect"], "hello").fails(4, "token malformed: a token starts with tnr_");
}
