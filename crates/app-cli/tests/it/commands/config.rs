//! Settings: the source of each value, errors, and edits that keep comments.

use std::fs;

use crate::support::home::{Home, mode};

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let mut home = Home::json();
    let show = |home: &Home, args: &[&str]| {
        let ran = home.run(&[args, &["config", "show", "--json"]].concat());
        let store = ran.succeeds().json()["json.store"].clone();
        (store["value"].as_str().unwrap().to_owned(), store["source"].as_str().unwrap().to_owned())
    };
    let text = |path: std::path::PathBuf| path.display().to_string();
    assert_eq!(show(&home, &[]), (text(home.store()), "default".to_owned()));
    home.run(&["config", "set", "json.store", "by-file.jsonl"]).succeeds();
    let file = text(home.settings());
    assert_eq!(show(&home, &[]), (text(home.path("config/tenure/by-file.jsonl")), format!("{file}:2")));
    home.set("TENURE_STORE", "by-environment.jsonl");
    assert_eq!(show(&home, &[]), ("by-environment.jsonl".to_owned(), "TENURE_STORE".to_owned()));
    assert_eq!(show(&home, &["--store", "by-flag.jsonl"]), ("by-flag.jsonl".to_owned(), "--store".to_owned()));
}

#[test]
fn what_is_wrong_is_named_with_key_value_range_and_source() {
    let mut home = Home::json();
    home.run(&["config", "init"]).succeeds();
    let path = home.settings();
    fs::write(&path, "[session]\ntoken_ttl = \"1h\"\nrotate_before_expiry = \"1h\"\n").unwrap();
    let file = path.display().to_string();
    home.run(&["sessions", "list"]).fails(
        2,
        &format!("session.rotate_before_expiry is 1h ({file}:3): it takes 0s to less than session.token_ttl (1h)"),
    );
    fs::write(&path, "[session]\ntoken_ttl = 36\nidle = \"1h\"\n\n[sesion]\na = 1\n").unwrap();
    let ran = home.run(&["config", "validate"]);
    ran.fails(2, &format!("session.token_ttl is 36 ({file}:2): write it in quotes with a unit, such as \"36s\""));
    ran.fails(2, &format!("there is no setting session.idle ({file}:3); did you mean session.idle_timeout?"));
    ran.fails(2, &format!("there is no setting sesion ({file}:"));
    fs::write(&path, "[session\n").unwrap();
    home.run(&["token", "issue", "--device-id", "a"]).fails(2, &format!("{file}:1: not TOML"));
    fs::write(&path, "").unwrap();
    home.set("TENURE_SESSION__TOKEN_TLL", "1h");
    home.run(&["sessions", "list"]).fails(
        2,
        "the environment variable TENURE_SESSION__TOKEN_TLL is not a setting; did you mean TENURE_SESSION__TOKEN_TTL?",
    );
}

#[test]
fn a_range_is_checked_wherever_the_value_comes_from() {
    for (key, value, allowed) in [
        ("SESSION__TOKEN_TTL", "999ms", "1s to 365d"),
        ("SESSION__MAX_SESSIONS_PER_DEVICE", "101", "1 to 100"),
        ("SESSION__IDLE_TIMEOUT", "29s", "off, or 30s to"),
        ("SESSION__IDLE_TIMEOUT", "25h", "off, or 30s to session.token_ttl (24h)"),
        ("SESSION__MAX_LIFETIME", "23h", "24h to 3650d"),
        ("SESSION__ROTATION_OVERLAP", "301s", "0s to 5m"),
        ("SESSION__RETENTION", "91d", "0s to 90d"),
        ("REDIS__DURABILITY", "fsync", "local or replicated"),
        ("REDIS__NEAR_CACHE", "maybe", "true or false"),
        ("GATEWAY__LISTEN", "8470", "an IP address and a port"),
        ("GATEWAY__TRUSTED_PROXIES", "10.0.0.0/33", "IP addresses and networks"),
    ] {
        let mut home = Home::json();
        home.set(&format!("TENURE_{key}"), value);
        home.run(&["sessions", "list"]).fails(2, allowed).fails(2, &format!("(TENURE_{key})"));
    }
}

#[test]
fn a_file_asked_for_by_name_must_be_there() {
    let home = Home::json();
    home.run(&["--config", "missing.toml", "sessions", "list"]).fails(2, "could not read the settings missing.toml");
}

#[test]
fn edits_keep_comments_and_refuse_bad_values() {
    let home = Home::json();
    let path = home.settings();
    home.run(&["config", "init"]).succeeds();
    assert_eq!(mode(&path), 0o600);
    home.run(&["config", "init"]).fails(1, "already exists; --force replaces it");
    let before = fs::read_to_string(&path).unwrap();

    home.run(&["config", "set", "session.token_ttl", "0s"]).fails(2, "session.token_ttl is 0s: it takes 1s to 365d");
    home.run(&["config", "set", "session.rotate_before_expiry", "24h"]).fails(2, "less than session.token_ttl (24h)");
    home.run(&["config", "set", "session.ttl", "1h"]).fails(2, "did you mean session.token_ttl?");
    assert_eq!(fs::read_to_string(&path).unwrap(), before);

    home.run(&["config", "set", "session.token_ttl", "36s"]).succeeds();
    assert_eq!(home.run(&["config", "get", "session.token_ttl"]).succeeds().out, "36s\n");
    assert_eq!(home.run(&["config", "get", "session.rotate_before_expiry"]).succeeds().out, "3s\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), before.replace("# token_ttl = \"24h\"", "token_ttl = \"36s\""));
    home.run(&["config", "set", "gateway.trusted_proxies", "10.0.0.0/8, ::1"]).succeeds();
    let got = home.run(&["config", "get", "gateway.trusted_proxies", "--json"]).succeeds().json();
    assert_eq!(got["value"], serde_json::json!(["10.0.0.0/8", "::1"]));

    home.run(&["config", "unset", "session.token_ttl"]).succeeds();
    assert!(
        fs::read_to_string(&path).unwrap().contains("# How long a token is valid after it was issued or rotated.\n")
    );
    assert_eq!(home.run(&["config", "get", "session.token_ttl"]).succeeds().out, "24h\n");
    assert_eq!(mode(&path), 0o600);
}

#[test]
fn a_setting_makes_its_file() {
    let home = Home::json();
    home.run(&["config", "set", "session.token_ttl", "36s"]).succeeds();
    assert_eq!(fs::read_to_string(home.settings()).unwrap(), "[session]\ntoken_ttl = \"36s\"\n");
    assert_eq!(mode(home.settings().parent().unwrap()), 0o700);
    let path = home.run(&["config", "path"]).succeeds().out.clone();
    assert_eq!(path.trim_end(), home.settings().display().to_string());
    home.run(&["config", "get", "gateway.upstream"]).fails(1, "gateway.upstream is not set and has no default");
}

#[test]
fn a_moltbot_configuration_is_taken_over() {
    let home = Home::json();
    let moltbot = home.write(
        "openclaw.json",
        "{ // mine\n  gateway: { port: 18789 },\n  \"security\": { session: { tokenTtlHours: 0.01, \
         'rotateBeforeExpiryHours': 0.001, maxSessionsPerDevice: 3, }, },\n}\n",
    );
    home.run(&["config", "init", "--from-moltbot", &moltbot.display().to_string()]).succeeds();
    let get = |key| home.run(&["config", "get", key]).succeeds().out.trim_end().to_owned();
    assert_eq!(get("session.token_ttl"), "36s");
    assert_eq!(get("session.rotate_before_expiry"), "3s 600ms");
    assert_eq!(get("session.max_sessions_per_device"), "3");
    for bad in ["{", "[]", "{}", "{security:{session:{tokenTtlHours:-1}}}"] {
        home.write("bad.json", bad);
        home.run(&["config", "init", "--force", "--from-moltbot", "bad.json"]).fails(1, "nothing was written");
    }
    home.write("bad.json", "{security:{session:{tokenTtlHours:99999}}}");
    home.run(&["config", "init", "--force", "--from-moltbot", "bad.json"]).fails(2, "it takes 1s to 365d");
    assert_eq!(get("session.token_ttl"), "36s");
}

#[test]
fn a_secret_in_a_url_is_not_shown() {
    let good = [
        "redis://user:geheim@127.0.0.1:1",
        "redis://geheim@127.0.0.1:1",
        "unix:///run/nothing.sock?pass=geheim&user=geheim&db=1",
        "redis+sentinel://user:geheim@127.0.0.1:1/main",
    ];
    let bad = [
        "redis://127.0.0.1:1?password=geheim",
        "redis://127.0.0.1:1?auth=geheim",
        "redis://127.0.0.1:1?PASS=geheim",
        "redis://127.0.0.1:1?p%61ss=geheim",
        "redis://127.0.0.1:1?geheim",
        "redis://127.0.0.1:1#geheim",
        "redis://127.0.0.1:1/geheim",
        "redis://:geheim",
        "redis://u:x@geheim@[127.0.0.1",
        "redis://:x/geheim@127.0.0.1",
        "redis://h?password=x@geheim",
        "geheim://127.0.0.1",
        "u:geheim@127.0.0.1",
        "http://u:geheim@127.0.0.1",
    ];
    let shown = |home: &Home, args: &[&str]| {
        let ran = home.run(args);
        assert!(!format!("{ran:?}").contains("geheim"), "{args:?}: {ran:?}");
    };
    for url in good.iter().chain(&bad) {
        let mut home = Home::json();
        home.set("TENURE_REDIS_URL", url);
        for args in [
            &["config", "show"][..],
            &["config", "show", "--json"],
            &["config", "get", "redis.url"],
            &["config", "validate"],
            &["doctor"],
            &["--backend", "redis", "sessions", "list"],
        ] {
            shown(&home, args);
        }
        let home = Home::json();
        // The arguments have the URL here; only the output is checked.
        let ran = home.run(&["--backend", "redis", "--redis-url", url, "-vv", "sessions", "list"]);
        assert!(!ran.err.contains("geheim") && !ran.out.contains("geheim"), "{url}: {}{}", ran.out, ran.err);
        let ran = home.run(&["config", "set", "redis.url", url]);
        assert!(!ran.err.contains("geheim") && !ran.out.contains("geheim"), "{url}: {}{}", ran.out, ran.err);
        shown(&home, &["config", "show"]);
    }
    for url in
        ["http://u:geheim@127.0.0.1", "http://geheim@h", "http://h/geheim", "http://h/?key=geheim", "http://h#geheim"]
    {
        let mut home = Home::json();
        home.set("TENURE_GATEWAY__UPSTREAM", url);
        for args in [&["config", "show"][..], &["config", "get", "gateway.upstream"], &["doctor"], &["gateway"]] {
            shown(&home, args);
        }
    }
}

#[test]
fn what_the_admin_listener_and_foreign_pages_get_is_checked() {
    let mut home = Home::json();
    home.set("TENURE_GATEWAY__ADMIN_TLS", "true");
    home.run(&["config", "show"]).fails(2, "gateway.admin_tls is true, but gateway.tls_cert is not set");
    for (key, wrong, right) in [
        ("gateway.cors_origins", "https://board.example/", "https://board.example, http://localhost:5173"),
        ("gateway.cors_origins", "*", "http://[::1]:3000"),
        ("gateway.admin_hosts", "tenure:8471", "tenure, gateway.lan"),
        ("gateway.response_timeout", "0s", "20m"),
        ("gateway.keep_alive_timeout", "2h", "5m"),
        ("gateway.stall_timeout", "500ms", "10s"),
        ("gateway.admin_tls", "yes", "false"),
    ] {
        let home = Home::json();
        home.run(&["config", "set", key, wrong]).fails(2, key);
        home.run(&["config", "set", key, right]).succeeds();
        let got = home.run(&["config", "get", key]).succeeds().out.clone();
        assert_eq!(got.trim_end().replace(", ", ","), right.replace(", ", ","), "{key}");
    }
}
