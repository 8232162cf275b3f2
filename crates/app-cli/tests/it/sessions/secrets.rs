//! No output has a token, a secret or a digest, except that issue and rotate print tokens, and exports have digests.

use std::fs;

use serde_json::Value;
use tenure_domain::Token;

use crate::on_both_backends;
use crate::support::home::{Home, id_of};

on_both_backends!(nothing_secret_is_said_or_kept);

/// Returns the characters of a token after the session id, with and without the checksum, and parts of them.
fn traces(token: &str) -> Vec<String> {
    let secret = token.split('_').nth(2).unwrap();
    vec![token.to_owned(), secret.to_owned(), secret[..20].to_owned(), secret[20..40].to_owned()]
}

fn nothing_secret_is_said_or_kept(home: Home) {
    let mut said = String::new();
    let mut hear = |ran: &crate::support::home::Ran, with_data: bool| {
        said.push_str(&ran.err);
        if with_data {
            said.push_str(&ran.out);
        }
    };
    let issued = home.run(&["-vv", "token", "issue", "--device-id", "laptop"]);
    hear(&issued, false);
    let old = issued.succeeds().out.trim_end().to_owned();
    let rotated = home.feed(&["-vv", "token", "rotate"], &old);
    hear(&rotated, false);
    let new = rotated.succeeds().out.trim_end().to_owned();
    let to_file = home.feed(&["-vv", "token", "rotate", "--output", "token.txt", "--json"], &new);
    hear(&to_file, true);
    let newest = fs::read_to_string(home.path("token.txt")).unwrap().trim_end().to_owned();
    let mistyped = format!("{}{}", &newest[..newest.len() - 1], if newest.ends_with('0') { '1' } else { '0' });

    for token in [&old, &new, &newest, &mistyped] {
        for args in
            [&["-vv", "token", "verify"][..], &["-vv", "token", "verify", "--json"], &["-vv", "token", "inspect"]]
        {
            hear(&home.feed(args, token), true);
        }
        hear(&home.run(&["-vv", "sessions", "show", id_of(token)]), true);
    }
    for args in [
        &["-vv", "sessions", "list"][..],
        &["-vv", "sessions", "list", "--all", "--json"],
        &["-vv", "sessions", "show", id_of(&newest), "--json"],
        &["-vv", "doctor", "--json"],
        &["-vv", "config", "show"],
        // A token in place of an id, which is a common mistake.
        &["-vv", "sessions", "show", &newest],
        &["-vv", "sessions", "revoke", &newest],
        &["-vv", "sessions", "list", "--device-id", "laptop", "--bogus"],
    ] {
        hear(&home.run(args), true);
    }
    let exported = home.run(&["-vv", "sessions", "export"]);
    hear(&exported, false);
    let record: Value = serde_json::from_str(exported.succeeds().out.lines().next().unwrap()).unwrap();
    let digests = ["currentSha256", "familySha256"].map(|name| record["credential"][name].as_str().unwrap().to_owned());
    hear(&home.run(&["-vv", "sessions", "revoke", id_of(&newest)]), true);
    hear(&home.run(&["-vv", "sessions", "cleanup"]), true);
    assert!(said.len() > 2_000, "{said}");

    let store = fs::read_to_string(home.store()).unwrap_or_default();
    for token in [&old, &new, &newest] {
        for trace in traces(token) {
            assert!(!said.contains(&trace), "a secret was said");
            assert!(!store.contains(&trace), "a secret is in the store");
            assert!(!exported.out.contains(&trace), "a secret is in the export");
        }
    }
    for digest in digests {
        assert_eq!(digest.len(), 64);
        assert!(!said.contains(&digest) && !said.contains(&digest[..16]), "a digest was said");
    }
}

/// A test cannot tell whether tokens are random. It can tell that processes share no seed, counter or key, since those would
/// repeat.
#[test]
fn no_two_sessions_or_rotations_share_a_secret() {
    let (home, other) = (Home::json(), Home::json());
    let mut families = Vec::new();
    let mut secrets = Vec::new();
    for home in [&home, &other, &home, &other, &home, &other] {
        let first = Token::parse(&home.issue("laptop")).unwrap();
        families.push(*first.secret().family().digest().as_bytes());
        secrets.push(*first.secret().digest().as_bytes());
        let ran = home.feed(&["token", "rotate"], first.to_text().expose());
        let second = Token::parse(ran.succeeds().out.trim_end()).unwrap();
        assert!(first.secret().family().digest() == second.secret().family().digest());
        secrets.push(*second.secret().digest().as_bytes());
    }
    for digests in [&mut families, &mut secrets] {
        let many = digests.len();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), many);
    }
}
