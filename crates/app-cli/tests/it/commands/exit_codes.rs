//! Every exit code, each with an error that says what happened, to what, and what to do next.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use tenure_redis_test_server::free_port;

use crate::support::home::{Home, id_of};

#[test]
fn a_failure_is_1() {
    let home = Home::json();
    let token = home.issue("laptop");
    home.feed(&["token", "rotate", "--output", "no/such/dir/token"], &token).fails(1, "no/such/dir");
    home.feed(&["token", "verify"], &token).succeeds();
    fs::create_dir(home.path("dir")).unwrap();
    home.feed(&["token", "rotate", "--output", "dir"], &token).fails(1, "dir is not a regular file");
    let mut full = home.command(&["token", "issue", "--device-id", "full"]);
    if let Ok(device) = fs::OpenOptions::new().write(true).open("/dev/full") {
        let ran = crate::support::home::Ran::from(full.stdout(device).output().unwrap());
        ran.fails(1, "its token is lost: tenure sessions revoke ");
    }
}

#[test]
fn wrong_usage_is_2_and_names_the_field() {
    let home = Home::json();
    let long = "x".repeat(129);
    home.run(&["token", "issue", "--device-id", ""]).fails(2, "device id is empty; it takes 1 to 128 characters");
    home.run(&["token", "issue", "--device-id", &long]).fails(2, "device id has 129 characters; it takes at most 128");
    home.run(&["token", "issue", "--device-id", "a\nb"]).fails(2, "device id has a control character at position 2");
    home.run(&["token", "issue", "--device-id", "lap\u{200b}top"])
        .fails(2, "device id has an invisible character (U+200B) at position 4; remove it");
    home.run(&["token", "issue", "--device-id", "a", "--subject", "op "])
        .fails(2, "subject ends with a space; remove it");
    home.run(&["token", "issue", "--device-id", "a", "--client-name", "\u{2067}b"])
        .fails(2, "client name has a control character at position 1");
    home.run(&["token", "issue", "--device-id", "a", "--client-id", "b\u{200e}"])
        .fails(2, "client id has an invisible");
    home.run(&["config", "set", "gateway.enrol_subject", "a\u{feff}"]).fails(2, "invisible character (U+FEFF)");
    home.run(&["token", "issue", "--device-id", "a", "--subject", &long]).fails(2, "subject has 129 characters");
    home.run(&["token", "issue", "--device-id", "a", "--client-id", &long]).fails(2, "client id has 129 characters");
    home.run(&["token", "issue", "--device-id", "a", "--platform", ""]).fails(2, "platform is empty");
    home.run(&["token", "issue", "--device-id", "a", "--ttl", "5"]).fails(2, "ttl: \"5\" is not a duration");
    home.run(&["token", "issue"]).fails(2, "--device-id");
    home.run(&["sessions", "list", "--device-id", ""]).fails(2, "device id is empty");
    home.run(&["sessions", "list", "--limit", "0"]).fails(2, "--limit");
    home.run(&["sessions", "revoke"]).fails(2, "required");
    home.run(&["sessions", "revoke", "--all", "--device-id", "a"]).fails(2, "cannot be used with");
    home.run(&["sessions", "revoke", "--all", "--reason", ""]).fails(2, "--reason: text is empty");
    home.run(&["sessions", "revoke", "lou"]).fails(2, "a session id has no 'l'");
    home.run(&["sessions", "cleanup", "--older-than", "x"]).fails(2, "--older-than");
    home.run(&["sesions"]).fails(2, "sessions");
    assert!(!home.store().exists(), "nothing was asked of the store");
    home.run(&["token", "issue", "--device-id", "a", "--ttl", "31d"]).fails(2, "ttl is 31d; it takes 1s to 30d");
}

#[test]
fn more_than_one_session_needs_a_yes() {
    let home = Home::json();
    let tokens = [home.issue("laptop"), home.issue("laptop"), home.issue("phone")];
    home.run(&["sessions", "revoke", "--device-id", "laptop"])
        .fails(2, "this would end 2 sessions of device laptop: add --yes to confirm, or --dry-run");
    let would = home.run(&["sessions", "revoke", "--all", "--except", id_of(&tokens[0]), "--dry-run", "--json"]);
    assert_eq!(would.succeeds().json()["ended"].as_array().unwrap().len(), 2);
    assert_eq!(home.list(&[]).len(), 3);
    home.run(&["sessions", "revoke", "--device-id", "phone"]).succeeds();
    home.run(&["sessions", "revoke", id_of(&tokens[0]), "zzzzzzzzzzzzzzzzzzzz", "--yes"]).fails(3, "no such session");
    assert_eq!(home.list(&[]).len(), 2, "one unknown name, and nothing is ended");
    let all = home.run(&["sessions", "revoke", "--all", "--except", id_of(&tokens[0]), "--yes"]);
    assert!(all.succeeds().out.starts_with("ended 1 session\n"), "{all:?}");
    home.run(&["sessions", "revoke", "--subject", "nobody"]).fails(3, "nobody has no sessions");
}

#[test]
fn an_unknown_session_is_3() {
    let home = Home::json();
    home.issue("laptop");
    home.run(&["sessions", "show", "zzzzzzzzzzzzzzzzzzzz"]).fails(3, "no such session: zzzzzzzzzzzzzzzzzzzz");
    home.run(&["sessions", "revoke", "zzzz"]).fails(3, "no such session: zzzz");
}

#[test]
fn the_start_of_an_id_must_be_of_one_session_only() {
    let home = Home::json();
    let (a, b) = (home.issue("laptop"), home.issue("laptop"));
    let bucket = &id_of(&a)[..2];
    let ran = home.run(&["sessions", "show", bucket]);
    ran.fails(2, &format!("{bucket} is the start of several session ids ("));
    assert!(ran.err.contains(id_of(&a)) && ran.err.contains(id_of(&b)));
}

#[test]
fn a_refused_token_is_4() {
    let home = Home::json();
    let token = home.issue("laptop");
    home.feed(&["token", "verify"], "hello").fails(4, "error: token malformed");
    fs::remove_dir_all(home.path("state")).unwrap();
    home.make_store();
    home.feed(&["token", "verify"], &token).fails(4, "error: token unknown");
}

#[test]
fn a_store_that_may_not_be_used_is_5_and_stays_as_it_is() {
    let home = Home::json();
    let token = home.issue("laptop");
    let store = home.store();
    let before = fs::read(&store).unwrap();
    fs::set_permissions(&store, Permissions::from_mode(0o644)).unwrap();
    for args in [&["token", "verify"][..], &["sessions", "list"], &["sessions", "cleanup"]] {
        home.feed(args, &token).fails(5, "sessions.jsonl");
    }
    assert_eq!(fs::read(&store).unwrap(), before);
    fs::set_permissions(&store, Permissions::from_mode(0o600)).unwrap();

    let real = home.path("real.jsonl");
    fs::rename(&store, &real).unwrap();
    symlink(&real, &store).unwrap();
    home.run(&["token", "issue", "--device-id", "laptop"]).fails(5, "sessions.jsonl");
    assert_eq!(fs::read(&real).unwrap(), before);
    assert!(fs::symlink_metadata(&store).unwrap().is_symlink());
}

#[test]
fn a_file_that_is_no_store_is_6_and_stays_as_it_is() {
    let home = Home::json();
    for foreign in ["hello\n", "{\"sessions\":{}}\n", "\u{0}\u{0}binary\n{}\n", "[]\n[]\n"] {
        let path = home.write("foreign", foreign);
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        home.run(&["--store", "foreign", "sessions", "list"]).fails(6, "foreign");
        home.run(&["--store", "foreign", "token", "issue", "--device-id", "a"]).fails(6, "foreign");
        assert_eq!(fs::read_to_string(&path).unwrap(), foreign);
    }
}

#[test]
fn a_limit_to_the_files_size_is_5_and_no_end_by_a_signal() {
    let home = Home::json();
    let tokens: Vec<String> = (0..5).map(|n| home.issue(&format!("device-{n}"))).collect();
    // The shell counts in blocks of 512 or 1,024 bytes. With either, no further session fits.
    let script = format!("ulimit -f 2; exec {} token issue --device-id one-more", env!("CARGO_BIN_EXE_tenure"));
    assert!(fs::metadata(home.store()).unwrap().len() > 1_800);
    let plain = home.command(&[]);
    let mut limited = std::process::Command::new("/bin/sh");
    limited.args(["-c", &script]).env_clear();
    limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = crate::support::home::Ran::from(limited.output().unwrap());
    ran.fails(5, "File too large");
    for token in &tokens {
        home.feed(&["token", "verify"], token).succeeds();
    }
    home.issue("one-more");
}

#[test]
fn a_damaged_line_is_6_and_named() {
    let home = Home::json();
    home.issue("laptop");
    home.issue("laptop");
    let store = home.store();
    let text = fs::read_to_string(&store).unwrap();
    let damaged = text.replacen("laptop", "lapdog", 1);
    assert_ne!(damaged, text);
    fs::write(&store, &damaged).unwrap();
    let ran = home.run(&["sessions", "list"]);
    ran.fails(6, "line ");
    assert_eq!(ran.out, "");
    assert_eq!(fs::read_to_string(&store).unwrap(), damaged);
}

#[test]
fn redis_that_is_not_there_is_5_within_a_second_and_a_half() {
    let url = format!("redis://user:geheim@127.0.0.1:{}", free_port());
    let mut home = Home::json();
    home.set("TENURE_BACKEND", "redis");
    for args in [&["sessions", "list"][..], &["token", "issue", "--device-id", "a"], &["sessions", "cleanup"]] {
        let began = Instant::now();
        let ran = home.run(&[&["--redis-url", &url], args].concat());
        // A second and a half, plus what a busy machine may add.
        assert!(began.elapsed() < Duration::from_millis(1_500 + 8_500), "{:?}", began.elapsed());
        ran.fails(5, "127.0.0.1");
        assert!(!ran.err.contains("geheim"), "{ran:?}");
    }
}

#[test]
fn a_redis_that_became_a_replica_is_5_and_told_what_to_do() {
    let server = tenure_redis_test_server::Server::start();
    let mut home = Home::json();
    home.set("TENURE_BACKEND", "redis");
    home.set("TENURE_REDIS_URL", &server.url());
    let token = home.issue("laptop");
    home.feed(&["token", "verify"], &token).succeeds();
    let nobody = free_port().to_string();
    server.ask::<()>(&["REPLICAOF", "127.0.0.1", &nobody]);
    let told = format!("the server is a replica of 127.0.0.1:{nobody} that has lost it");
    home.feed(&["token", "verify"], &token).fails(5, &told);
    let ran = home.run(&["token", "issue", "--device-id", "phone"]);
    ran.fails(5, "name the primary in redis.url");
    assert!(ran.err.contains(&format!("redis at 127.0.0.1:{}", server.port())), "{ran:?}");
    home.run(&["doctor"]).fails(1, "");
    assert!(home.run(&["doctor"]).out.contains(&told));
}

#[test]
fn a_redis_setting_whose_file_cannot_be_used_is_2_before_any_server_is_asked() {
    let files = ["password_file", "sentinel_password_file", "tls_ca", "tls_cert"];
    let url = format!("rediss://user:geheim@127.0.0.1:{}", free_port());
    for (name, text, message) in [("gone", None, "could not read"), ("empty", Some(""), "it holds no|is empty")] {
        for setting in files {
            let mut home = Home::json();
            let file = text.map_or_else(|| home.path(name), |text| home.write(name, text));
            home.set("TENURE_BACKEND", "redis");
            home.set("TENURE_REDIS_URL", &url);
            home.set(&format!("TENURE_REDIS__{}", setting.to_uppercase()), &file.display().to_string());
            if setting == "tls_cert" {
                home.set("TENURE_REDIS__TLS_KEY", &file.display().to_string());
            }
            let ran = home.run(&["sessions", "list"]);
            ran.fails(2, &format!("redis.{setting}: "));
            assert!(message.split('|').any(|message| ran.err.contains(message)), "{ran:?}");
            assert!(ran.err.contains(&file.display().to_string()) && !ran.err.contains("geheim"), "{ran:?}");
            // doctor continues, and reports the setting as a finding.
            let found = home.run(&["doctor"]);
            assert_eq!(found.code, Some(1), "{found:?}");
            assert!(found.out.contains(&format!("redis.{setting}: ")), "{found:?}");
            assert!(found.out.contains("until then no command runs"), "{found:?}");
        }
    }
    let mut home = Home::json();
    home.set("TENURE_BACKEND", "redis");
    home.set("TENURE_REDIS__TLS_CA", "/nowhere/ca.pem");
    home.run(&["sessions", "list"]).fails(2, "redis.url: it asks for no TLS");
}

#[test]
fn a_revocation_that_no_replica_has_is_1_and_holds() {
    let home = Home::redis();
    let token = home.issue("laptop");
    let id = id_of(&token);
    let revoke = ["--durability", "replicated", "sessions", "revoke", id];
    home.run(&revoke).fails(1, "the change was made, but no replica confirmed it in time");
    home.feed(&["token", "verify"], &token).fails(4, "error: token revoked");
    // The end is reported only once it is durable.
    home.run(&revoke).fails(5, "no replica confirmed it in time");
    home.run(&["sessions", "revoke", id]).succeeds();
    let json = Home::json();
    json.make_store();
    json.run(&["--durability", "local", "sessions", "list"]).fails(2, "--durability has no effect on this backend");
    home.run(&["--durability", "always", "sessions", "list"]).fails(2, "replicated");
}
