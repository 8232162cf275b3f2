//! A store that is not found is never mistaken for one without sessions: another home, a mistyped path.

use std::fs;

use serde_json::json;

use crate::gateway::Gateway;
use crate::on_both_backends;
use crate::support::home::{Home, id_of};

on_both_backends!(every_answer_of_none_names_the_store, nobody_of_that_name_is_3);

const TOKEN: &str = "tnr_a2r4wbygt65w3697398x_0123456789abcdefghijABCDEFGHIJ0123456789abcdefghi";

/// Every command that uses a store and does not create one.
const LOOKING: &[&[&str]] = &[
    &["token", "verify"],
    &["token", "verify", "--json"],
    &["token", "rotate"],
    &["token", "rotate", "--if-due"],
    &["sessions", "list"],
    &["sessions", "list", "--all", "--json"],
    &["sessions", "show", "k3f9"],
    &["sessions", "revoke", "k3f9"],
    &["sessions", "revoke", "--device-id", "laptop"],
    &["sessions", "revoke", "--subject", "anna", "--dry-run"],
    &["sessions", "revoke", "--all", "--yes"],
    &["sessions", "cleanup"],
    &["sessions", "cleanup", "--dry-run"],
    &["sessions", "watch"],
    &["sessions", "export"],
    &["sessions", "export", "export.jsonl"],
    &["doctor", "--repair", "--yes"],
];

/// Returns the names of everything below the home.
fn files(home: &Home) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut directories = vec![home.path("")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            names.push(path.display().to_string());
            if path.is_dir() {
                directories.push(path);
            }
        }
    }
    names.sort();
    names
}

#[test]
fn a_store_that_is_not_there_is_5_for_whoever_looks_and_nothing_is_made() {
    let home = Home::json();
    let usual = home.store().display().to_string();
    let mistyped = home.path("sesions.jsonl").display().to_string();
    for args in LOOKING {
        for (more, path) in [(&[][..], &usual), (&["--store", "sesions.jsonl"][..], &mistyped)] {
            let ran = home.feed(&[more, args].concat(), TOKEN);
            ran.fails(5, &format!("{path}: there is no store")).fails(5, "tenure token issue");
            assert_eq!(ran.out, "", "{ran:?}");
        }
        // The directory alone is not a store.
        fs::create_dir_all(home.path("state/tenure")).unwrap();
        home.feed(args, TOKEN).fails(5, "there is no store");
        fs::remove_dir_all(home.path("state")).unwrap();
        assert_eq!(files(&home), Vec::<String>::new(), "{args:?}");
    }
}

#[test]
fn doctor_says_all_else_too() {
    let home = Home::json();
    let ran = home.run(&["doctor"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.out.contains(&format!("fail  {}: there is no store\n", home.store().display())), "{ran:?}");
    assert!(ran.out.contains("the clock says") && ran.out.contains("tenure token issue"), "{ran:?}");
    assert_eq!(home.run(&["doctor", "--json"]).json()["ok"], false);
    assert_eq!(files(&home), Vec::<String>::new());
}

#[test]
fn what_needs_no_store_asks_for_none() {
    let home = Home::json();
    for args in [
        &["config", "show"][..],
        &["config", "get", "backend"],
        &["config", "validate"],
        &["config", "path"],
        &["config", "schema"],
        &["completions", "bash"],
        &["man"],
        &["help"],
    ] {
        home.run(args).succeeds();
    }
    home.feed(&["token", "inspect"], TOKEN).fails(4, "");
    assert_eq!(files(&home), Vec::<String>::new());
}

#[test]
fn who_makes_a_store_says_so_once() {
    let made = |home: &Home, name: &str| format!("created a new store: {}\n", home.path(name).display());
    let home = Home::json();
    let said = made(&home, "a.jsonl");
    let issue = ["--store", "a.jsonl", "token", "issue", "--device-id", "laptop"];
    let first = home.run(&issue);
    assert!(first.succeeds().err.contains(&said) && first.out.starts_with("tnr_"), "{first:?}");
    assert!(!home.run(&issue).succeeds().err.contains("made a new store"));
    let export = home.run(&["--store", "a.jsonl", "sessions", "export"]).succeeds().out.clone();

    let would = home.feed(&["--store", "b.jsonl", "sessions", "import", "-", "--dry-run", "--json"], &export);
    assert_eq!(would.succeeds().json()["taken"], json!(2));
    assert!(would.err.contains("there is no store") && !home.path("b.jsonl").exists(), "{would:?}");
    let imported = home.feed(&["--store", "b.jsonl", "sessions", "import", "-"], &export);
    assert!(imported.succeeds().err.contains(&made(&home, "b.jsonl")), "{imported:?}");

    let gateway = Gateway::start(&home, &["--store", "c.jsonl"]);
    drop(gateway);
    let log = fs::read_to_string(home.path("gateway.log")).unwrap();
    assert!(log.contains(&made(&home, "c.jsonl")), "{log}");
}

/// Returns the location of the home's store, as messages show it.
fn place(home: &Home) -> String {
    match home.redis_url() {
        Some(url) => format!("{url} (prefix tenure)"),
        None => home.store().display().to_string(),
    }
}

fn every_answer_of_none_names_the_store(home: Home) {
    home.make_store();
    let place = place(&home);
    let named = |ran: &crate::support::home::Ran| {
        assert!(ran.err.contains(&place), "{place} is not in {ran:?}");
    };
    for (args, out) in [
        (&["sessions", "list"][..], ""),
        (&["sessions", "list", "--device-id", "laptop", "--all"], ""),
        (&["sessions", "list", "--json"], "[]\n"),
        (&["sessions", "revoke", "--all", "--yes"], "ended 0 sessions\n"),
        (&["sessions", "revoke", "--all", "--dry-run"], "would end 0 sessions\n"),
        (&["sessions", "cleanup"], "removed 0 sessions\n"),
        (&["sessions", "cleanup", "--json"], "{\"dryRun\":false,\"removed\":0}\n"),
        (&["sessions", "export"], ""),
    ] {
        let ran = home.run(args);
        named(ran.succeeds());
        assert_eq!(ran.out, out, "{args:?}");
    }
    for args in [&["token", "verify"][..], &["token", "verify", "--json"], &["token", "rotate"]] {
        named(home.feed(args, &well_formed()).fails(4, ""));
    }
    for args in [&["sessions", "show", "k3f9"][..], &["sessions", "revoke", "k3f9"]] {
        named(home.run(args).fails(3, "no such session: k3f9"));
    }
}

/// Issues a token in another store.
fn well_formed() -> String {
    Home::json().issue("elsewhere")
}

fn nobody_of_that_name_is_3(home: Home) {
    let token = home.issue("laptop");
    let place = place(&home);
    for more in [&[][..], &["--yes"], &["--dry-run"], &["--json"]] {
        for (args, whose) in [
            (&["sessions", "revoke", "--device-id", "nosuch"][..], "device nosuch has no sessions"),
            (&["sessions", "revoke", "--subject", "nosuch"], "nosuch has no sessions"),
        ] {
            let ran = home.run(&[args, more].concat());
            ran.fails(3, whose).fails(3, &place);
            assert_eq!(ran.out, "");
        }
    }
    home.feed(&["token", "verify"], &token).succeeds();

    // If all sessions of a device are ended twice, the second time says that there is nothing to end.
    home.run(&["sessions", "revoke", "--device-id", "laptop"]).succeeds();
    for args in [&["sessions", "revoke", "--device-id", "laptop"][..], &["sessions", "revoke", "--subject", "operator"]]
    {
        let again = home.run(args);
        assert_eq!(again.succeeds().out, "ended 0 sessions\n");
        assert!(again.err.contains(&place), "{again:?}");
    }
    let other = home.issue("laptop");
    let but = home.run(&["sessions", "revoke", "--device-id", "laptop", "--except", id_of(&other)]);
    assert_eq!(but.succeeds().out, "ended 0 sessions\n");
    home.feed(&["token", "verify"], &other).succeeds();
}

#[test]
fn a_device_or_a_subject_in_the_place_of_an_id_is_pointed_to_its_flag() {
    let home = Home::json();
    home.issue("laptop");
    home.run(&["token", "issue", "--device-id", "ham", "--subject", "anna"]).succeeds();
    for command in ["show", "revoke"] {
        // The first cannot be the start of an id; the others can.
        home.run(&["sessions", command, "laptop"]).fails(2, "--device-id laptop");
        home.run(&["sessions", command, "ham"]).fails(3, "it is a device: use --device-id ham");
        home.run(&["sessions", command, "anna"]).fails(3, "it is a subject: use --subject anna");
        home.run(&["sessions", command, "zzz"]).fails(3, "no such session: zzz (tenure sessions list --all");
    }
    assert_eq!(home.list(&[]).len(), 2);
}
