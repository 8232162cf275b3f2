//! Replies of Redis that are lost on the way to a command.

use tenure_redis_test_server::{Lost, Proxy};

use crate::support::home::{Home, id_of};

/// More attempts than a command makes to send a change.
const ALWAYS: u64 = 1_000;

/// Makes a home whose commands reach Redis through a connection that can break. Returns it with the server's own address.
fn behind_a_proxy() -> (Home, Proxy, String) {
    let mut home = Home::redis();
    let direct = home.redis_url().unwrap();
    // After this the server has cached the scripts.
    let warm_up = home.issue("warm-up");
    home.feed(&["token", "rotate"], &warm_up).succeeds();
    let port = direct.rsplit(':').next().unwrap().parse().unwrap();
    let proxy = Proxy::start(port);
    home.set("TENURE_REDIS_URL", &proxy.url());
    // Only the connection breaks here: long timeouts, so that a busy machine does not look like a lost server.
    for name in ["RESPONSE", "CONNECT", "OPERATION"] {
        home.set(&format!("TENURE_REDIS__{name}_TIMEOUT"), "10s");
    }
    (home, proxy, direct)
}

#[test]
fn a_rotation_whose_answer_is_lost_hands_over_the_new_token() {
    let (home, proxy, _) = behind_a_proxy();
    let old = home.issue("laptop");
    proxy.lose(Lost::Answer, "rotated", 1);
    let new = home.feed(&["token", "rotate"], &old).succeeds().out.trim_end().to_owned();
    assert_eq!(proxy.lost(), 1);
    home.feed(&["token", "verify"], &new).succeeds();
    home.feed(&["token", "verify"], &old).fails(4, "error: token rotated");
    home.feed(&["token", "verify"], &new).succeeds();
}

#[test]
fn a_rotation_of_unknown_outcome_hands_over_the_new_token_with_the_error() {
    let (home, proxy, direct) = behind_a_proxy();
    for into_file in [false, true] {
        let old = home.issue("laptop");
        proxy.lose(Lost::Answer, "rotated", ALWAYS);
        let args: &[&str] = if into_file { &["token", "rotate", "--output", "new.txt"] } else { &["token", "rotate"] };
        let ran = home.feed(args, &old);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.err.contains("outcome unknown: "), "{ran:?}");
        assert!(ran.err.contains("try it first, then the old one"), "{ran:?}");
        let new = if into_file { kept(&home, &ran.err) } else { ran.out.clone() };
        proxy.lose(Lost::Answer, "rotated", 0);
        // The change on the server is valid, and using the token is not a replay.
        let verify = |token: &str| home.feed(&["--redis-url", &direct, "token", "verify"], token);
        verify(&new).succeeds();
        verify(&old).fails(4, "error: token rotated");
        verify(&new).succeeds();
    }
}

/// Reads the token in the file that the warning names.
fn kept(home: &Home, warning: &str) -> String {
    let place = warning.split("the new token is kept (").nth(1).and_then(|rest| rest.split(')').next());
    let place = place.unwrap_or_else(|| panic!("{warning} names no file"));
    let file = place.strip_prefix("in ").unwrap_or(place);
    std::fs::read_to_string(home.path(file)).unwrap_or_else(|error| panic!("{file}: {error}: {warning}"))
}

#[test]
fn a_revocation_whose_answer_is_lost_is_found_out_or_said_to_be_unknown() {
    let (home, proxy, direct) = behind_a_proxy();
    let (found_out, unknown) = (home.issue("laptop"), home.issue("laptop"));
    proxy.lose(Lost::Answer, "revoked", 1);
    let ran = home.run(&["sessions", "revoke", id_of(&found_out)]);
    assert!(ran.succeeds().out.starts_with("ended 1 session\n"), "{ran:?}");
    proxy.lose(Lost::Answer, "revoked", ALWAYS);
    home.run(&["sessions", "revoke", id_of(&unknown)]).fails(1, "outcome unknown: ");
    proxy.lose(Lost::Answer, "revoked", 0);
    for token in [&found_out, &unknown] {
        home.feed(&["--redis-url", &direct, "token", "verify"], token).fails(4, "error: token revoked");
    }
    let again = home.run(&["sessions", "revoke", id_of(&unknown)]);
    assert!(again.succeeds().out.contains("has already ended: revoked"), "{again:?}");
}
