//! Arguments and environment: tokens in the wrong place, colours, unknown variables, file owners.

use std::fs;

use crate::support::home::{Home, Ran, id_of, mode};

/// Arguments in which a person may put a token by mistake.
const PLACES: &[&[&str]] = &[
    &["TOKEN"],
    &["token", "verify", "TOKEN"],
    &["token", "verify", "--no-touch", "TOKEN"],
    &["token", "verify", "--token", "TOKEN"],
    &["token", "verify", "--token=TOKEN"],
    &["token", "rotate", "TOKEN"],
    &["token", "rotate", "--output", "TOKEN"],
    &["token", "inspect", "TOKEN"],
    &["token", "issue", "--device-id", "TOKEN"],
    &["token", "issue", "--device-id=TOKEN", "--bogus"],
    &["token", "issue", "--device-id", "laptop", "--ttl", "TOKEN"],
    &["sessions", "show", "TOKEN"],
    &["sessions", "show", "--", "TOKEN"],
    &["sessions", "revoke", "k3f9", "TOKEN"],
    &["sessions", "revoke", "--all", "--reason", "the token TOKEN leaked"],
    &["sessions", "revoke", "--all", "--reason=TOKEN"],
    &["sessions", "list", "--subject", "TOKEN"],
    &["sessions", "list", "--limit", "TOKEN"],
    &["sessions", "import", "TOKEN"],
    &["config", "set", "session.token_ttl", "TOKEN"],
    &["config", "get", "TOKEN"],
    &["--backend", "TOKEN", "sessions", "list"],
    &["--store", "TOKEN", "sessions", "list"],
    &["--config=TOKEN", "sessions", "list"],
    &["--redis-url", "redis://:TOKEN@127.0.0.1", "--backend", "redis", "sessions", "list"],
    &["gateway", "--upstream-secret-file", "TOKEN"],
    &["completions", "TOKEN"],
    &["man", "--dir", "TOKEN"],
    &["help", "TOKEN"],
];

#[test]
fn a_token_among_the_arguments_is_refused_and_never_repeated() {
    let home = Home::json();
    let token = home.issue("laptop");
    let secret = token.split('_').nth(2).unwrap();
    let parts = [&token[..], &token[..45], &token[4..], &format!("{token}x"), &token.to_uppercase()];
    for part in parts {
        for place in PLACES {
            let args: Vec<String> = place.iter().map(|argument| argument.replace("TOKEN", part)).collect();
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let ran = home.run(&args);
            ran.fails(2, "treat it as exposed").fails(2, "standard input (tenure token verify < token.txt)");
            let said = format!("{}{}", ran.out, ran.err).to_lowercase();
            assert!(!said.contains(&secret[..8].to_lowercase()) && !said.contains("tnr_"), "{ran:?}");
        }
    }
    home.run(&["token", "verify", &token]).fails(2, &format!("tenure sessions revoke {}", id_of(&token)));
    assert_eq!(home.list(&[]).len(), 1, "nothing was done");
    home.feed(&["token", "verify"], &token).succeeds();
}

#[test]
fn a_token_in_a_setting_is_not_repeated_either() {
    let token = Home::json().issue("laptop");
    for variable in ["TENURE_SESSION__TOKEN_TTL", "TENURE_STORE", "TENURE_GATEWAY__ADMIN_SECRET_FILE", "TENURE_CONFIG"]
    {
        let mut home = Home::json();
        home.set(variable, &token);
        for args in [&["sessions", "list"][..], &["config", "show"], &["config", "show", "--json"], &["doctor"]] {
            let ran = home.run(args);
            assert!(!format!("{ran:?}").contains(&token[4..]), "{variable}: {ran:?}");
        }
    }
    let home = Home::json();
    fs::create_dir_all(home.path("config/tenure")).unwrap();
    fs::write(home.settings(), format!("\"{token}\" = 1\n[session]\ntoken_ttl = \"{token}\"\n")).unwrap();
    for args in [&["sessions", "list"][..], &["doctor"], &["doctor", "--json"], &["config", "validate"]] {
        let ran = home.run(args);
        assert!(!format!("{ran:?}").contains(&token[4..]), "{ran:?}");
    }
}

#[test]
fn an_issue_into_a_file_is_private_and_whole_or_not_made() {
    let home = Home::json();
    fs::write(home.path("token.txt"), "old\n").unwrap();
    fs::set_permissions(home.path("token.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let ran = home.run(&["token", "issue", "--device-id", "laptop", "--output", "token.txt"]);
    assert_eq!(ran.succeeds().out, "");
    assert_eq!(mode(&home.path("token.txt")), 0o600);
    let token = fs::read_to_string(home.path("token.txt")).unwrap();
    assert!(token.ends_with('\n') && !ran.err.contains(token.trim_end()), "{ran:?}");
    home.feed(&["token", "verify"], &token).succeeds();

    let ran = home.run(&["token", "issue", "--device-id", "phone", "--output", "phone.txt", "--json"]);
    let answer = ran.succeeds().json();
    let token = fs::read_to_string(home.path("phone.txt")).unwrap();
    assert_eq!((&answer["output"], &answer["session"]["sessionId"]), (&"phone.txt".into(), &id_of(&token).into()));
    assert!(answer.get("token").is_none() && !ran.out.contains(token.trim_end()), "{ran:?}");

    fs::create_dir(home.path("dir")).unwrap();
    std::os::unix::fs::symlink(home.path("token.txt"), home.path("link")).unwrap();
    for (place, error) in
        [("no/such/dir/token", "no/such/dir"), ("dir", "not a regular file"), ("link", "not a regular file")]
    {
        home.run(&["token", "issue", "--device-id", "tablet", "--output", place]).fails(1, error);
    }
    assert_eq!(home.list(&["--device-id", "tablet"]).len(), 0, "prepared before the session is made");
    let left = fs::read_dir(home.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(left.filter(|name| name.ends_with(".new")).count(), 0);
}

const ESCAPE: char = '\u{1b}';

#[test]
fn colour_is_as_asked_for_in_all_that_is_said() {
    let home = Home::json();
    home.issue("laptop");
    let lines: &[&[&str]] = &[
        &["--help"],
        &["help", "token", "issue"],
        &["token", "issue", "--help"],
        &["token", "issue"],
        &["--bogus"],
        &["sessions", "show", "zzzz"],
        &["sessions", "list", "--all"],
        &["-vv", "sessions", "list"],
        &["doctor"],
    ];
    let said = |ran: Ran| format!("{}{}", ran.out, ran.err);
    for line in lines {
        for (first, last) in [(&["--color", "always"][..], &[][..]), (&[], &["--color=always"])] {
            let args = [first, line, last].concat();
            assert!(said(home.run(&args)).contains(ESCAPE), "{args:?}");
        }
        assert!(!said(home.run(line)).contains(ESCAPE), "no terminal: {line:?}");
        let with = |args: &[&str], name: &str| Ran::from(home.command(args).env(name, "1").output().unwrap());
        assert!(said(with(line, "CLICOLOR_FORCE")).contains(ESCAPE), "{line:?}");
        for (first, last) in [(&["--color", "never"][..], &[][..]), (&[], &["--color=never"])] {
            let args = [first, line, last].concat();
            assert!(!said(with(&args, "CLICOLOR_FORCE")).contains(ESCAPE), "{args:?}");
        }
        assert!(said(with(&[&["--color", "always"], *line].concat(), "NO_COLOR")).contains(ESCAPE), "{line:?}");
    }
    home.run(&["--color", "pink", "sessions", "list"]).fails(2, "pink");
}

#[test]
fn help_is_a_command_too() {
    let home = Home::json();
    for (help, flag) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "token"], &["token", "--help"]),
        (&["help", "token", "issue"], &["token", "issue", "--help"]),
        (&["help", "sessions", "ls"], &["sessions", "list", "--help"]),
        (&["help", "gateway"], &["gateway", "--help"]),
    ] {
        let by_command = home.run(help);
        assert_eq!(by_command.succeeds().out, home.run(flag).succeeds().out, "{help:?}");
        assert_eq!(by_command.err, "");
    }
    home.run(&["help", "nosuch"]).fails(2, "nosuch");
}

#[test]
fn the_environment_of_a_service_called_tenure_stops_nothing() {
    let mut home = Home::json();
    home.issue("laptop");
    let silent = |home: &Home| {
        let ran = home.run(&["sessions", "list", "--json"]);
        assert_eq!((ran.succeeds().json().as_array().unwrap().len(), &ran.err[..]), (1, ""));
    };
    // Set by Kubernetes for the services tenure, tenure-redis and tenure-store, and by Docker for a link.
    for (name, value) in [
        ("TENURE_SERVICE_HOST", "10.96.0.17"),
        ("TENURE_SERVICE_PORT", "8470"),
        ("TENURE_SERVICE_PORT_HTTP", "8470"),
        ("TENURE_SERVICE_PORT_ADMIN_API", "8471"),
        ("TENURE_PORT", "tcp://10.96.0.17:8470"),
        ("TENURE_PORT_8470_TCP", "tcp://10.96.0.17:8470"),
        ("TENURE_PORT_8470_TCP_PROTO", "tcp"),
        ("TENURE_PORT_8470_TCP_PORT", "8470"),
        ("TENURE_PORT_8470_TCP_ADDR", "10.96.0.17"),
        ("TENURE_REDIS_SERVICE_HOST", "10.96.0.18"),
        ("TENURE_REDIS_PORT_6379_TCP_ADDR", "10.96.0.18"),
        ("TENURE_STORE_PORT", "tcp://10.96.0.19:80"),
    ] {
        home.set(name, value);
    }
    silent(&home);

    home.set("TENURE_VERSION", "1.2");
    home.set("TENURE_REDIS_PASSWORD", "geheim");
    let ran = home.run(&["sessions", "list"]);
    ran.succeeds();
    assert!(ran.err.contains("warning: the environment variable TENURE_VERSION is not a setting"), "{ran:?}");
    assert!(ran.err.contains("did you mean TENURE_REDIS_PASSWORD_FILE") && !ran.err.contains("geheim"), "{ran:?}");
    assert_eq!(home.run(&["-q", "sessions", "list"]).succeeds().err, "");
    let found = home.run(&["doctor", "--json"]).succeeds().json();
    let found = found["findings"].as_array().unwrap().iter().filter(|finding| finding["level"] == "warn");
    assert_eq!(found.filter(|finding| finding["what"].as_str().unwrap().contains("TENURE_VERSION")).count(), 1);
    for args in [&["completions", "bash"][..], &["config", "path"], &["help"]] {
        assert_eq!(home.run(args).succeeds().err, "", "{args:?}");
    }
}

#[test]
fn a_mistyped_or_wrong_setting_in_the_environment_still_stops_it() {
    for (name, value, error) in [
        ("TENURE_GATEWAY__TLS_KEYS", "k.pem", "did you mean TENURE_GATEWAY__TLS_KEY?"),
        ("TENURE_GATEWAY__PORT", "tcp://10.0.0.1:1", "the environment variable TENURE_GATEWAY__PORT is not a setting"),
        (
            "TENURE_REDIS__DURABILITY",
            "fsync",
            "redis.durability is fsync (TENURE_REDIS__DURABILITY): it takes local or replicated",
        ),
        ("TENURE_STORE", "", "json.store is empty (TENURE_STORE)"),
    ] {
        let mut home = Home::json();
        home.set(name, value);
        home.run(&["sessions", "list"]).fails(2, error);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn values_that_are_no_text_stop_only_what_is_a_setting() {
    use std::os::unix::ffi::OsStrExt as _;
    let home = Home::json();
    home.issue("laptop");
    let odd = std::ffi::OsStr::from_bytes(b"/tmp/\xff");
    let with = |name: &str| Ran::from(home.command(&["sessions", "list"]).env(name, odd).output().unwrap());
    for name in ["TENURE_PORT", "TENURE_VERSION", "TENURE_SERVICE_HOST"] {
        with(name).succeeds();
    }
    with("TENURE_STORE").fails(2, "TENURE_STORE is not UTF-8");
    with("TENURE_SESSION__TOKEN_TTL").fails(2, "TENURE_SESSION__TOKEN_TTL is not UTF-8");
    let mut odd_name = home.command(&["sessions", "list"]);
    Ran::from(odd_name.env(std::ffi::OsStr::from_bytes(b"TENURE_\xff"), "1").output().unwrap()).succeeds();
}

#[test]
fn root_leaves_no_files_in_another_users_home() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::json();
    let anna = Some(rustix::fs::Uid::from_raw(12_345));
    rustix::fs::chown(home.path("."), anna, None).unwrap();
    for args in [
        &["token", "issue", "--device-id", "laptop"][..],
        &["sessions", "import", "-"],
        &["gateway", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"],
        &["config", "set", "session.token_ttl", "1h"],
        &["config", "init"],
    ] {
        let ran = home.run(args);
        assert!(matches!(ran.code, Some(1 | 5)), "{args:?}: {ran:?}");
        assert!(ran.err.contains("root") && ran.err.contains("sudo -u"), "{args:?}: {ran:?}");
        assert_eq!(fs::read_dir(home.path(".")).unwrap().count(), 0, "{args:?}");
    }
    // The same if some of the directories already exist.
    fs::create_dir_all(home.path("state")).unwrap();
    fs::create_dir_all(home.path("config")).unwrap();
    for name in ["state", "config"] {
        rustix::fs::chown(home.path(name), anna, None).unwrap();
    }
    home.run(&["token", "issue", "--device-id", "laptop"]).fails(5, "sudo -u");
    home.run(&["config", "set", "session.token_ttl", "1h"]).fails(1, "sudo -u");
    // Root may write in its own directories.
    rustix::fs::chown(home.path("."), Some(rustix::fs::Uid::ROOT), None).unwrap();
    for name in ["state", "config"] {
        rustix::fs::chown(home.path(name), Some(rustix::fs::Uid::ROOT), None).unwrap();
    }
    home.run(&["config", "set", "session.token_ttl", "1h"]).succeeds();
}
