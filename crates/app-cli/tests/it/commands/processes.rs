//! Closed pipes, and Ctrl-C.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::home::Home;
use crate::support::model::export_of;

#[test]
fn a_pipe_that_closes_ends_a_listing_quietly() {
    let home = Home::json();
    home.issue("laptop");
    for args in [&["sessions", "list"][..], &["sessions", "list", "--json"], &["sessions", "export"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = home.command(args).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn a_token_that_nobody_reads_is_told() {
    let home = Home::json();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = home.command(&["token", "issue", "--device-id", "laptop"]);
    let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("its token is lost: tenure sessions revoke "));
}

#[test]
fn ctrl_c_leaves_a_valid_store_and_says_what_was_done() {
    let home = Home::json();
    home.make_store();
    home.write("many.jsonl", &export_of(20_000));
    let mut command = home.command(&["sessions", "import", "many.jsonl"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    errors.read_line(&mut line).unwrap();
    assert!(line.starts_with("stop everything that writes"), "{line}");
    // Wait until the import has written some of the sessions.
    while std::fs::metadata(home.store()).map_or(0, |found| found.len()) < 20_000 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let status = child.wait().unwrap();
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert_eq!(status.code(), Some(130), "{rest}");
    assert!(rest.contains("error: interrupted: "), "{rest}");
    assert!(rest.contains(" of 20000 sessions were processed; run it again for the rest"), "{rest}");

    let there = home.list(&[]).len();
    assert!(there > 0 && there < 20_000, "{there}");
    let again = home.run(&["sessions", "import", "many.jsonl", "--json"]).succeeds().json();
    let (taken, kept) = (again["taken"].as_u64().unwrap(), again["kept"].as_u64().unwrap());
    assert_eq!((taken + kept, kept), (20_000, there as u64));
}
