//! `tenure sessions watch` follows what other processes do.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::on_both_backends;
use crate::support::home::{Home, id_of};

on_both_backends!(what_other_processes_do_is_told_as_it_happens);

struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn what_other_processes_do_is_told_as_it_happens(home: Home) {
    home.make_store();
    let mut command = home.command(&["sessions", "watch", "--json"]);
    let mut watching = Watching(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut said = String::new();
    BufReader::new(watching.0.stderr.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("watching ") && said.ends_with("; Ctrl-C ends it\n"), "{said}");
    let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };

    let token = home.issue("laptop");
    let rotated = home.feed(&["token", "rotate"], &token);
    rotated.succeeds();
    home.run(&["sessions", "revoke", id_of(&token), "--reason", "lost"]).succeeds();
    for event in ["issued", "rotated", "revoked"] {
        let told = next();
        assert_eq!((&told["event"], &told["sessionId"]), (&event.into(), &id_of(&token).into()), "{told}");
        assert!(told["at"].as_str().unwrap().ends_with('Z'));
    }

    let brief = home.run(&["token", "issue", "--device-id", "phone", "--ttl", "1s"]);
    brief.succeeds();
    assert_eq!(next()["event"], "issued");
    let told = next();
    assert_eq!((&told["event"], &told["sessionId"]), (&"expired".into(), &id_of(brief.out.trim()).into()), "{told}");
    assert_eq!((&told["at"], &told["session"]["state"]), (&told["session"]["expiresAt"], &"expired".into()));

    // A watch runs until it is interrupted.
    let unacknowledged = Command::new("kill").args(["-INT", &watching.0.id().to_string()]).status().unwrap();
    assert!(unacknowledged.success());
    assert_eq!(watching.0.wait().unwrap().code(), Some(0));
}
