//! `tenure gateway` as its users see it: a process, its listeners, and other commands on the same store.

mod gateway_settings;
#[cfg(target_os = "linux")]
mod leftovers;
mod oauth;
mod operators;
mod restart;
mod sockets;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::on_both_backends;
use crate::support::home::{Home, id_of, mode};

on_both_backends!(
    a_request_is_answered_by_the_state_of_its_session,
    operators_see_who_is_there_and_cut_them_off,
    use_is_recorded_by_a_clean_stop,
    new_settings_are_taken_over_while_it_runs,
);

/// The time limit of each step, which even a busy machine does not reach.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway process, which is killed on drop.
pub(crate) struct Gateway {
    child: Child,
    pub(crate) clients: String,
    pub(crate) operators: String,
    pub(crate) admin_secret: String,
}

/// The response to a request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Gateway {
    /// Starts a gateway on free ports, with more arguments.
    pub(crate) fn start(home: &Home, more: &[&str]) -> Self {
        Self::start_at(home, "127.0.0.1:0", more)
    }

    /// Starts a gateway whose client listener has this address.
    pub(crate) fn start_at(home: &Home, listen: &str, more: &[&str]) -> Self {
        let args = ["gateway", "--json", "--listen", listen, "--admin-listen", "127.0.0.1:0"];
        Self::spawn(home, home.command(&[&args, more].concat()))
    }

    /// Starts a gateway with a limit on file descriptors.
    pub(crate) fn start_within(home: &Home, descriptors: u32) -> Self {
        let args = ["gateway", "--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
        let bare = home.command(&args);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]);
        command.arg(bare.get_program()).args(bare.get_args());
        command.env_clear().envs(bare.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.current_dir(home.path("")).stdin(Stdio::null());
        Self::spawn(home, command)
    }

    fn spawn(home: &Home, mut command: Command) -> Self {
        let log = std::fs::File::create(home.path("gateway.log")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("{error}: {line:?} {}", std::fs::read_to_string(home.path("gateway.log")).unwrap())
        });
        let address = |name: &str| said[name].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        let secret = std::fs::read_to_string(said["adminSecretFile"].as_str().unwrap()).unwrap();
        Self {
            child,
            clients: address("listen"),
            operators: address("adminListen"),
            admin_secret: secret.trim().to_owned(),
        }
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends SIGTERM, and returns the exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.exit_code()
    }

    /// Waits until the process ends, and returns its exit code.
    pub(crate) fn exit_code(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Asks `/_tenure/auth` about a token, and returns the response.
    pub(crate) fn auth(&self, token: &str) -> Answer {
        request(
            &self.clients,
            &format!(
                "GET /_tenure/auth HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
            ),
        )
    }
}

#[test]
fn idle_connections_beyond_the_limit_of_descriptors_shut_nobody_out() {
    let home = Home::json();
    let token = home.issue("laptop");
    let mut gateway = Gateway::start_within(&home, 256);
    let crowd = |address: &str| (0..300).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>();
    let (clients, operators) = (crowd(&gateway.clients), crowd(&gateway.operators));
    for _ in 0..3 {
        assert_eq!(gateway.auth(&token).status, 204);
        let listing = format!(
            "GET /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            gateway.admin_secret
        );
        assert_eq!(request(&gateway.operators, &listing).status, 200);
    }
    let log = std::fs::read_to_string(home.path("gateway.log")).unwrap();
    assert!(!log.contains("cannot accept"), "{log}");
    drop((clients, operators));
    assert_eq!(gateway.stop(), Some(0));
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a whole request, and reads until the connection is closed.
pub(crate) fn request(address: &str, text: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let all = String::from_utf8_lossy(&all).into_owned();
    let (head, body) = all.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {text:?}: {all:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn a_request_is_answered_by_the_state_of_its_session(home: Home) {
    let gateway = Gateway::start(&home, &[]);
    assert_eq!(mode(&home.path("state/tenure/admin.secret")), 0o600);
    let bare = request(&gateway.clients, "GET /_tenure/auth HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!(bare.status, 401, "{bare:?}");
    assert!(bare.head.contains("www-authenticate: bearer realm=\"tenure\"\r\n"), "{bare:?}");

    let token = home.issue("laptop");
    let fine = gateway.auth(&token);
    assert!(fine.status == 200 || fine.status == 204, "{fine:?}");
    assert!(fine.head.contains("x-forwarded-user: operator"), "{fine:?}");
    assert!(fine.head.contains(&format!("x-tenure-session: {}", id_of(&token))), "{fine:?}");

    home.run(&["sessions", "revoke", id_of(&token)]).succeeds();
    let refused = gateway.auth(&token);
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(refused.head.contains("error_description=\"token revoked\""), "{refused:?}");
    let problem: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(problem["code"], "revoked");
}

fn operators_see_who_is_there_and_cut_them_off(home: Home) {
    let gateway = Gateway::start(&home, &[]);
    let token = home.issue("laptop");
    let ask = |line: &str, host: &str, secret: &str| {
        let head =
            format!("{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {secret}\r\nConnection: close\r\n\r\n");
        request(&gateway.operators, &head)
    };
    let host = gateway.operators.as_str();
    let listed = ask("GET /api/v1/sessions", host, &gateway.admin_secret);
    assert_eq!(listed.status, 200, "{listed:?}");
    assert!(listed.body.contains(id_of(&token)), "{listed:?}");
    assert_eq!(ask("GET /api/v1/sessions", host, "a wrong secret").status, 401);
    // A name of an attacker that resolves to this address.
    assert_eq!(ask("GET /api/v1/sessions", "rebound.example", &gateway.admin_secret).status / 100, 4);

    let ended = ask(&format!("DELETE /api/v1/sessions/{}", id_of(&token)), host, &gateway.admin_secret);
    assert_eq!(ended.status / 100, 2, "{ended:?}");
    home.feed(&["token", "verify"], &token).fails(4, "token revoked");
}

fn use_is_recorded_by_a_clean_stop(home: Home) {
    let mut gateway = Gateway::start(&home, &[]);
    let token = home.issue("laptop");
    let last = |home: &Home| home.list(&[])[0]["lastActivity"].as_str().unwrap().to_owned();
    let issued = last(&home);
    assert!(gateway.auth(&token).status < 300);
    assert_eq!(gateway.stop(), Some(0));
    assert!(last(&home) > issued);
}

fn new_settings_are_taken_over_while_it_runs(home: Home) {
    let gateway = Gateway::start(&home, &["-v"]);
    let log = || std::fs::read_to_string(home.path("gateway.log")).unwrap();
    home.run(&["config", "set", "gateway.user_header", "X-Remote-User"]).succeeds();
    gateway.signal("HUP");
    eventually("the new settings", || log().contains("settings applied: gateway.user_header"));
    let token = home.issue("laptop");
    let fine = gateway.auth(&token);
    assert!(fine.head.contains("x-remote-user: operator"), "{fine:?}");

    // Invalid settings change nothing.
    home.write("config/tenure/config.toml", "[gateway]\nuser_header = \"no header\"\n");
    gateway.signal("HUP");
    eventually("a warning", || log().contains("the settings are unchanged"));
    assert!(gateway.auth(&token).head.contains("x-remote-user: operator"));
}

#[test]
fn a_store_that_is_lost_is_503_and_never_a_refusal() {
    let mut home = Home::redis();
    let gateway = Gateway::start(&home, &[]);
    let token = home.issue("laptop");
    assert!(gateway.auth(&token).status < 300);
    home.lose_redis();
    let answer = gateway.auth(&token);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.head.contains("\r\nretry-after: "), "{answer:?}");
    home.find_redis();
    eventually("a recovery", || gateway.auth(&token).status < 300);
}

#[test]
fn an_address_that_is_taken_is_named() {
    let home = Home::json();
    let gateway = Gateway::start(&home, &[]);
    let ran = home.run(&["gateway", "--listen", &gateway.clients, "--admin-listen", "127.0.0.1:0"]);
    ran.fails(1, &gateway.clients);
}

#[test]
fn settings_that_contradict_each_other_are_named() {
    let home = Home::json();
    home.run(&["gateway", "--profile", "openclaw"]).fails(2, "gateway.upstream is not");
    home.run(&["gateway", "--tls-cert", "x"]).fails(2, "gateway.tls_key");
    for name in ["Host", "Content_Length", "X-Forwarded-For", "cookie"] {
        home.run(&["gateway", "--user-header", name]).fails(2, "gateway.user_header");
    }
    home.write("upstream", "0123456789abcdef");
    let upstream = ["gateway", "--upstream-secret-file", "upstream", "--upstream-auth-header"];
    home.run(&[&upstream[..], &["Connection"]].concat()).fails(2, "gateway.upstream_auth_header");
    let both = [&upstream[..], &["X-Key", "--user-header", "x-key"]].concat();
    home.run(&both).fails(2, "gateway.user_header");
    home.run(&["gateway", "--hsts", "4y"]).fails(2, "gateway.hsts");
    home.write("short", "abc");
    home.run(&["gateway", "--enrol-secret-file", "short"]).fails(2, "fewer than 16 characters");
    home.run(&["gateway", "--enrol-secret-file", "nowhere"]).fails(2, "nowhere");
}
