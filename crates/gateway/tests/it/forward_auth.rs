//! The answers to other proxies, and nginx and Caddy themselves with the configurations of docs/forward-auth.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tenure_domain::{Millis, Policy, PolicySettings};
use tenure_gateway::PublicPath;
use tokio::net::TcpStream;

use crate::site::{Reply, Site, echo, send, until};

fn bearer(token: &str) -> String {
    format!("authorization: Bearer {token}")
}

#[tokio::test]
async fn an_answer_says_whose_session_it_is_or_why_there_is_none() {
    let site = Site::with(None, Policy::default(), |_| {}).await;
    let (issued, token) = site.issue("laptop").await;
    let reply = site.get("/_tenure/auth", &[&bearer(&token)]).await;
    assert_eq!(reply.status, 204);
    assert_eq!(reply.header("x-forwarded-user"), Some("alice"));
    assert_eq!(reply.header("x-tenure-session"), Some(&*issued.session.id.to_string()));
    assert_eq!(reply.header("x-tenure-device"), Some("laptop"));
    assert_eq!(reply.header("tenure-rotate"), None);
    assert!(reply.body.is_empty());
    assert_eq!(site.get("/_tenure/auth/some/path", &[&bearer(&token)]).await.status, 200, "as Envoy asks");
    let refused = site.get("/_tenure/auth", &[]).await;
    refused.is_problem(401, "token_required");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"tenure\""));
    site.get("/", &[&bearer(&token)]).await.is_problem(404, "not_found");
    site.memory.set_down(true);
    site.get("/_tenure/auth", &[&bearer(&token)]).await.is_problem(503, "store_unavailable");
    site.memory.set_down(false);
    site.revoke(&issued).await;
    site.get("/_tenure/auth", &[&bearer(&token)]).await.is_problem(401, "revoked");
    site.stop().await;
}

#[tokio::test]
async fn a_token_that_is_due_is_said_to_be() {
    let settings = PolicySettings { token_ttl: Some(Millis::new(120_000)), ..PolicySettings::default() };
    let site = Site::with(None, Policy::new(&settings).unwrap(), |_| {}).await;
    let (_, token) = site.issue("laptop").await;
    site.clock.advance(115_000);
    let reply = site.get("/_tenure/auth", &[&bearer(&token)]).await;
    assert_eq!((reply.status, reply.header("tenure-rotate")), (204, Some("due")));
    site.stop().await;
}

#[tokio::test]
async fn a_path_is_public_only_if_everybody_says_so() {
    let site = Site::with(None, Policy::default(), |options| {
        options.public_paths = vec![PublicPath("/open/".to_owned())];
    })
    .await;
    for lines in [
        &["x-original-url: https://a.test/open/a?b"][..],
        &["x-forwarded-uri: /open/a"],
        &["x-original-uri: /open/a", "x-forwarded-uri: /open/b"],
    ] {
        let reply = site.get("/_tenure/auth", lines).await;
        assert_eq!((reply.status, reply.header("x-forwarded-user")), (204, None), "{lines:?}");
    }
    assert_eq!(site.get("/_tenure/auth/open/a", &[]).await.status, 200);
    for lines in [
        &["x-original-url: https://a.test/open/../a"][..],
        &["x-original-url: /open/a", "x-forwarded-uri: /secret"],
        &["x-original-url: /open/a", "x-original-url: /secret"],
        &["x-original-url: not a url /open/"],
        &[],
    ] {
        site.get("/_tenure/auth", lines).await.is_problem(401, "token_required");
    }
    site.get("/_tenure/auth/secret", &["x-original-url: /open/a"]).await.is_problem(401, "token_required");
    site.stop().await;
}

#[tokio::test]
async fn a_cookie_allows_no_change_for_another_site() {
    let site = Site::with(None, Policy::default(), |_| {}).await;
    let (_, token) = site.issue("laptop").await;
    let cookie = format!("cookie: tenure={token}");
    let (post, foreign) = ("x-original-method: POST", "origin: http://evil.test");
    site.get("/_tenure/auth", &[&cookie, post, foreign]).await.is_problem(403, "forbidden");
    site.get("/_tenure/auth", &[&cookie, "x-forwarded-method: DELETE"]).await.is_problem(403, "forbidden");
    for lines in
        [&[post, "origin: http://tenure.test"][..], &["x-original-method: GET", foreign], &["x-original-method: GET"]]
    {
        let lines: Vec<&str> = [&*cookie].into_iter().chain(lines.iter().copied()).collect();
        assert_eq!(site.get("/_tenure/auth", &lines).await.status, 204, "{lines:?}");
    }
    assert_eq!(site.get("/_tenure/auth", &[&bearer(&token), post, foreign]).await.status, 204, "a header is no cookie");
    site.stop().await;
}

/// Another program with a configuration of docs/forward-auth, stopped when it is dropped.
struct Other {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Other {
    async fn start(name: &str, variable: &str, tenure: SocketAddr, app: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/forward-auth");
        let file = if name == "nginx" { "nginx.conf" } else { "Caddyfile" };
        let written = std::fs::read_to_string(docs.join(file)).unwrap();
        for place in ["127.0.0.1:8470", "127.0.0.1:3000", ":8080"] {
            assert!(written.contains(place), "{place} is not in {file}");
        }
        let text = written
            .replace("127.0.0.1:8470", &tenure.to_string())
            .replace("127.0.0.1:3000", &app.to_string())
            .replace(":8080", &format!(":{}", address.port()));
        let at = folder.path().join(file);
        let program = program(name, variable);
        let mut command = Command::new(program);
        if name == "nginx" {
            let root = folder.path().display();
            let whole = format!(
                "daemon off; pid {root}/pid; error_log stderr crit; events {{}}
                 http {{ access_log off; client_body_temp_path {root}/a; proxy_temp_path {root}/b;
                 fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;\n{text}\n}}"
            );
            std::fs::write(&at, whole).unwrap();
            command.args(["-e", "stderr", "-c"]).arg(&at);
        } else {
            std::fs::write(&at, text).unwrap();
            command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&at);
            command
                .env("HOME", folder.path())
                .env("XDG_DATA_HOME", folder.path())
                .env("XDG_CONFIG_HOME", folder.path());
            command.stderr(Stdio::null());
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let other = Self { child, address, _folder: folder };
        until(name, async || TcpStream::connect(address).await.is_ok()).await;
        other
    }

    async fn get(&self, path: &str, lines: &[&str]) -> Reply {
        let mut request = format!("GET {path} HTTP/1.1\r\nhost: tenure.test\r\nconnection: close\r\n");
        for line in lines {
            request += &format!("{line}\r\n");
        }
        Reply::parse(&send(self.address, &format!("{request}\r\n")).await)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // Asked to end, nginx takes its workers along.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn program(name: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return path.into();
    }
    let mut folders: Vec<PathBuf> =
        std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap();
    folders.extend(["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from));
    let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing: install it, or set {variable} to its path"))
}

async fn holds_the_rules(name: &str, variable: &str) {
    let site = Site::with(None, Policy::default(), |options| {
        options.public_paths = vec![PublicPath("/open/".to_owned())];
        options.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let other = Other::start(name, variable, site.address, echo().await).await;
    let (issued, token) = site.issue("laptop").await;

    let lines = [&*bearer(&token), "x-forwarded-user: root", "x-tenure-device: root", "x-original-url: /open/"];
    let reply = other.get("/some/path?q=1", &lines).await;
    assert_eq!(reply.status, 200, "{name}: {reply:?}");
    let told = reply.json();
    assert_eq!(told["target"], "/some/path?q=1");
    assert_eq!(told["headers"]["x-forwarded-user"], "alice");
    assert_eq!(told["headers"]["x-tenure-session"], issued.session.id.to_string());
    assert_eq!(told["headers"]["x-tenure-device"], "laptop");
    assert!(!reply.body.contains(&token), "{name} passed the token on");

    let by_cookie = other.get("/", &[&format!("cookie: a=1; tenure={token}; b=2")]).await;
    assert_eq!(by_cookie.status, 200, "{by_cookie:?}");
    assert_eq!(by_cookie.json()["headers"]["cookie"], "a=1; b=2");

    let open = other.get("/open/a", &["x-forwarded-user: root", "x-tenure-device: root"]).await;
    assert_eq!(open.status, 200, "{open:?}");
    for absent in ["x-forwarded-user", "x-tenure-device"] {
        assert!(open.json()["headers"].get(absent).is_none(), "{name}: {open:?}");
    }

    for (path, lines) in [
        ("/", &[][..]),
        ("/", &["x-original-url: /open/a", "x-original-uri: /open/a", "x-forwarded-uri: /open/a"]),
        ("/open/../secret", &[]),
        ("/open/%2e%2e/secret", &[]),
        ("/open//../secret", &[]),
    ] {
        let refused = other.get(path, lines).await;
        assert_eq!(refused.status, 401, "{name} {path} {lines:?}: {refused:?}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"tenure\""));
    }
    let page = other.get("/_tenure/login", &["accept: text/html"]).await;
    assert!(page.status == 200 && page.body.contains("<form"), "{page:?}");

    site.revoke(&issued).await;
    let refused = other.get("/", &[&bearer(&token)]).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(refused.header("www-authenticate").unwrap().contains("token revoked"), "{refused:?}");
    site.memory.set_down(true);
    let down = other.get("/", &[&bearer(&token)]).await;
    assert!([500, 503].contains(&down.status), "{down:?}");
    drop(other);
    site.stop().await;
}

#[tokio::test]
async fn nginx_holds_the_rules() {
    holds_the_rules("nginx", "TEST_NGINX").await;
}

#[tokio::test]
async fn caddy_holds_the_rules() {
    holds_the_rules("caddy", "TEST_CADDY").await;
}
