//! The checks of the gateway's settings by `tenure doctor` and `tenure config validate`.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use crate::support::home::Home;

const SECRET: &str = "0123456789abcdef0123456789abcdef\n";

/// Makes a home with a store and these settings.
fn with(settings: &[(&str, &str)]) -> Home {
    let home = Home::json();
    home.make_store();
    let pairs: Vec<&str> = settings.iter().flat_map(|(key, value)| [*key, *value]).collect();
    if !pairs.is_empty() {
        home.run(&[&["config", "set"][..], &pairs].concat()).succeeds();
    }
    home
}

fn private(home: &Home, name: &str, text: &str, mode: u32) {
    let path = home.settings().parent().unwrap().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Returns the finding that contains `part`.
#[track_caller]
fn finding(home: &Home, part: &str) -> Value {
    let found = home.run(&["doctor", "--json"]).json();
    let all = found["findings"].as_array().unwrap();
    let found = all.iter().find(|finding| finding["what"].as_str().unwrap().contains(part));
    found.unwrap_or_else(|| panic!("{part} is not in {all:#?}")).clone()
}

/// Asserts that both commands report the finding, and fail only if it is a failure.
#[track_caller]
fn both_tell(home: &Home, level: &str, part: &str) {
    let found = finding(home, part);
    assert_eq!(found["level"], level, "{found}");
    assert!(found["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{found}");
    let fails = level == "fail";
    assert_eq!(home.run(&["doctor"]).code, Some(i32::from(fails)));
    let validated = home.run(&["config", "validate"]);
    assert_eq!(validated.code, Some(if fails { 2 } else { 0 }), "{validated:?}");
    assert!(validated.err.contains(part), "{validated:?}");
    let validated = home.run(&["config", "validate", "--json"]);
    assert_eq!(validated.json()["valid"], !fails);
    assert!(validated.out.contains(&part.replace('"', "\\\"")), "{validated:?}");
}

#[test]
fn listeners_beyond_loopback_speak_tls() {
    let home = with(&[("gateway.listen", "0.0.0.0:8470")]);
    both_tell(&home, "warn", "gateway.listen is 0.0.0.0:8470, beyond loopback and without TLS");
    let home = with(&[("gateway.admin_listen", "[::]:8471")]);
    both_tell(&home, "warn", "gateway.admin_listen is [::]:8471, beyond loopback and without TLS");
    let home = with(&[("gateway.listen", "127.0.0.2:8470")]);
    assert_eq!(finding(&home, "the gateway listens only on loopback")["level"], "ok");
    assert_eq!(home.run(&["config", "validate"]).succeeds().err, "");
}

#[test]
fn trusted_proxies_are_some_and_not_all() {
    for (networks, level) in
        [("0.0.0.0/0", "fail"), ("10.0.0.1,::/0", "fail"), ("0.0.0.0/1", "warn"), ("fc00::/7", "warn")]
    {
        both_tell(&with(&[("gateway.trusted_proxies", networks)]), level, "gateway.trusted_proxies has");
    }
    let home = with(&[("gateway.trusted_proxies", "10.0.0.0/8,192.168.0.0/16,fd00::/16,::1")]);
    assert_eq!(home.run(&["config", "validate"]).succeeds().err, "");
}

#[test]
fn secrets_are_private_and_hard_to_guess() {
    for (key, file) in [
        ("gateway.admin_secret_file", "admin.secret"),
        ("gateway.enrol_secret_file", "enrol.secret"),
        ("gateway.metrics_secret_file", "metrics.secret"),
        ("gateway.upstream_secret_file", "service.token"),
        ("redis.password_file", "redis.password"),
        ("redis.sentinel_password_file", "sentinel.password"),
    ] {
        let home = with(&[(key, file)]);
        both_tell(&home, "fail", &format!("{key}: could not read"));
        private(&home, file, SECRET, 0o644);
        both_tell(&home, "warn", &format!("{key}: others can read"));
        private(&home, file, SECRET, 0o620);
        both_tell(&home, "fail", &format!("{key}: others can write"));
        private(&home, file, SECRET, 0o600);
        assert_eq!(finding(&home, &format!("{key}: nobody else can read"))["level"], "ok");
        if rustix::process::geteuid().is_root() {
            let path = home.settings().parent().unwrap().join(file);
            rustix::fs::chown(&path, Some(rustix::fs::Uid::from_raw(12_345)), None).unwrap();
            both_tell(&home, "fail", "belongs to the user with the id 12345");
        }
    }
    for key in ["gateway.admin_secret_file", "gateway.enrol_secret_file"] {
        let home = with(&[(key, "short")]);
        private(&home, "short", "guess me\n", 0o600);
        both_tell(&home, "fail", "fewer than 16 characters");
    }
}

/// Makes a certificate that is valid for some days from now on, and its key.
fn certificate(from: i64, until: i64) -> (String, String) {
    let now = time_now();
    let mut wanted = rcgen::CertificateParams::new(["tenure.test".to_owned()]).unwrap();
    let at = |days: i64| {
        rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs((now + days * 86_400).unsigned_abs())
    };
    (wanted.not_before, wanted.not_after) = (at(from), at(until));
    let key = rcgen::KeyPair::generate().unwrap();
    (wanted.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn time_now() -> i64 {
    let home = Home::json();
    let written = fs::metadata(home.write("now", "")).unwrap().modified().unwrap();
    i64::try_from(written.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

#[test]
fn the_certificate_holds_and_fits_its_key() {
    let settings = [("gateway.tls_cert", "c.pem"), ("gateway.tls_key", "k.pem"), ("gateway.listen", "0.0.0.0:8470")];
    let home = with(&settings);
    let put = |cert: &str, key: &str| {
        private(&home, "c.pem", cert, 0o644);
        private(&home, "k.pem", key, 0o600);
    };
    let (cert, key) = certificate(-1, 90);
    put(&cert, &key);
    assert_eq!(finding(&home, "matches its key and is valid until")["level"], "ok");
    home.run(&["doctor"]).succeeds();
    assert_eq!(home.run(&["config", "validate"]).succeeds().err, "");

    put(&cert, &certificate(-1, 90).1);
    both_tell(&home, "fail", "not the key of");
    put("hello", &key);
    both_tell(&home, "fail", "holds no certificate");
    put(&cert, "hello");
    both_tell(&home, "fail", "not a private key in PEM");
    for (from, until, level, part) in
        [(-90, -1, "fail", "expired on"), (-80, 10, "warn", "expires on"), (1, 90, "fail", "is valid only from")]
    {
        let (cert, key) = certificate(from, until);
        put(&cert, &key);
        both_tell(&home, level, part);
    }
    private(&home, "k.pem", &key, 0o644);
    assert_eq!(finding(&home, "gateway.tls_key: others can read")["level"], "warn");
}

#[test]
fn the_upstream_answers_and_only_here() {
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", service.local_addr().unwrap());
    let home = with(&[("gateway.upstream", &url)]);
    assert_eq!(finding(&home, &format!("gateway.upstream is {url}, which answers"))["level"], "ok");
    home.run(&["doctor"]).succeeds();
    // A port that was free a moment ago would not do: another test may use it by now.
    let home = with(&[("gateway.upstream", "http://127.0.0.1:1")]);
    assert_eq!(finding(&home, "no answer: ")["level"], "warn");

    // Everybody who reaches this machine can connect, although the gateway connects over loopback.
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let url = format!("http://127.0.0.1:{}", open.local_addr().unwrap().port());
    let home = with(&[("gateway.upstream", &url)]);
    if cfg!(target_os = "linux") {
        let found = finding(&home, "a client that reaches that address needs no session");
        assert_eq!(found["level"], "warn", "{found}");
        assert!(found["what"].as_str().unwrap().contains("at 0.0.0.0:"), "{found}");
    }
    let home = with(&[("gateway.upstream", "http://127.0.0.1:8470")]);
    assert_eq!(finding(&home, "which is the gateway itself")["level"], "fail");
    let home = with(&[("gateway.upstream", "http://nosuch.invalid")]);
    assert_eq!(finding(&home, "gateway.upstream is http://nosuch.invalid")["level"], "warn");
    both_tell(&with(&[("gateway.profile", "openclaw")]), "fail", "gateway.profile is set, but gateway.upstream is not");
}

#[test]
fn few_open_files_are_told() {
    let home = with(&[]);
    let script = format!("ulimit -n 256; exec {} doctor", env!("CARGO_BIN_EXE_tenure"));
    let plain = home.command(&[]);
    let mut limited = std::process::Command::new("/bin/sh");
    limited.args(["-c", &script]).env_clear();
    limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let ran = crate::support::home::Ran::from(limited.output().unwrap());
    assert!(ran.succeeds().out.contains("a process may have 256 files open"), "{ran:?}");
}
