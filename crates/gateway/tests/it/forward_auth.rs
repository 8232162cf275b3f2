//! The answers to other proxies, and the others themselves with the configurations of docs/forward-auth.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use futures_util::{SinkExt as _, StreamExt as _};
use http::header::AUTHORIZATION;
use serde_json::Value;
use tempfile::TempDir;
use tenure_domain::{Millis, Policy, PolicySettings};
use tenure_gateway::PublicPath;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::site::{PATIENCE, Reply, Site, echo, send, until};

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
        &["x-original-url: /open/a", "x-rewrite-url: /secret"],
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

/// Another program with a configuration of docs/forward-auth.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Program {
    Nginx,
    Caddy,
    Traefik,
    Envoy,
}

impl Program {
    /// Its name, the variable that says where it is, and its file in docs/forward-auth.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Nginx => ("nginx", "TEST_NGINX", "nginx.conf"),
            Self::Caddy => ("caddy", "TEST_CADDY", "Caddyfile"),
            Self::Traefik => ("traefik", "TEST_TRAEFIK", "traefik.yml"),
            Self::Envoy => ("envoy", "TEST_ENVOY", "envoy.yaml"),
        }
    }

    fn path(self) -> PathBuf {
        let (name, variable, _) = self.names();
        if let Some(path) = std::env::var_os(variable) {
            return path.into();
        }
        let mut folders: Vec<PathBuf> =
            std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap();
        folders.extend(["/usr/local/sbin", "/usr/sbin"].map(PathBuf::from));
        let found = folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        found.unwrap_or_else(|| panic!("{name} is missing: install it, or set {variable} to its path"))
    }

    /// The command that runs it with this configuration, whose clients connect at `address`.
    fn command(self, config: &str, address: SocketAddr, folder: &Path) -> Command {
        let at = folder.join(self.names().2);
        let mut command = Command::new(self.path());
        let root = folder.display();
        match self {
            Self::Nginx => {
                let whole = format!(
                    "daemon off; pid {root}/pid; error_log stderr crit; events {{}}
                     http {{ access_log off; client_body_temp_path {root}/a; proxy_temp_path {root}/b;
                     fastcgi_temp_path {root}/c; uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;\n{config}\n}}"
                );
                std::fs::write(&at, whole).unwrap();
                command.args(["-e", "stderr", "-c"]).arg(&at);
            }
            Self::Caddy => {
                std::fs::write(&at, config).unwrap();
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&at);
                command.env("HOME", folder).env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
                command.stderr(Stdio::null());
            }
            Self::Traefik => {
                std::fs::write(&at, config).unwrap();
                command.arg(format!("--entrypoints.web.address={address}"));
                command.arg(format!("--providers.file.filename={}", at.display()));
                command.arg("--log.level=ERROR");
            }
            Self::Envoy => {
                std::fs::write(&at, config).unwrap();
                command.arg("--config-path").arg(&at).args(["--use-dynamic-base-id", "--log-level", "error"]);
            }
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// One that runs, stopped when it is dropped.
struct Other {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Other {
    async fn start(program: Program, tenure: SocketAddr, app: SocketAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let (name, _, file) = program.names();
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/forward-auth");
        let mut config = std::fs::read_to_string(docs.join(file)).unwrap();
        let port = |before: &str, address: SocketAddr| format!("{before}{}", address.port());
        let places = match program {
            Program::Nginx | Program::Caddy => vec![
                ("127.0.0.1:8470", tenure.to_string()),
                ("127.0.0.1:3000", app.to_string()),
                (":8080", port(":", address)),
            ],
            // Where its clients connect is said when it is started.
            Program::Traefik => vec![("127.0.0.1:8470", tenure.to_string()), ("127.0.0.1:3000", app.to_string())],
            Program::Envoy => vec![
                ("127.0.0.1:8470", tenure.to_string()),
                ("port_value: 8470", port("port_value: ", tenure)),
                ("port_value: 3000", port("port_value: ", app)),
                ("port_value: 8080", port("port_value: ", address)),
            ],
        };
        for (place, here) in places {
            assert!(config.contains(place), "{place} is not in {file}");
            config = config.replace(place, &here);
        }
        let child = program.command(&config, address, folder.path()).spawn().unwrap();
        let other = Self { child, address, _folder: folder };
        // Traefik listens before it has read its configuration.
        let ready =
            async || TcpStream::connect(address).await.is_ok() && other.get("/_tenure/login", &[]).await.status == 200;
        until(name, ready).await;
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

async fn holds_the_rules(program: Program) {
    let name = program.names().0;
    let site = Site::with(None, Policy::default(), |options| {
        options.public_paths = vec![PublicPath("/open/".to_owned())];
        options.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
    })
    .await;
    let other = Other::start(program, site.address, echo().await).await;
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
    // Traefik cannot take one cookie out of several.
    let left = if program == Program::Traefik { Value::Null } else { "a=1; b=2".into() };
    assert_eq!(by_cookie.json()["headers"]["cookie"], left, "{name}");

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
        // nginx passes on what a parser of URLs drops.
        ("/open/#/../../secret", &[]),
    ] {
        let refused = other.get(path, lines).await;
        assert_eq!(refused.status, 401, "{name} {path} {lines:?}: {refused:?}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"tenure\""));
    }
    // Caddy asks with a `#` in the target itself.
    let refused = other.get("/open/a?b#/../../secret", &[]).await;
    assert!([400, 401].contains(&refused.status), "{name}: {refused:?}");
    let page = other.get("/_tenure/login", &["accept: text/html"]).await;
    assert!(page.status == 200 && page.body.contains("<form"), "{page:?}");

    site.revoke(&issued).await;
    let refused = other.get("/", &[&bearer(&token)]).await;
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(refused.header("www-authenticate").unwrap().contains("token revoked"), "{refused:?}");
    site.memory.set_down(true);
    let down = other.get("/", &[&bearer(&token)]).await;
    let expected = if program == Program::Nginx { 500 } else { 503 };
    assert_eq!(down.status, expected, "{name}: {down:?}");
    drop(other);
    site.stop().await;
}

/// An app that sends back whatever text comes in a WebSocket.
async fn parrot() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut socket) = accept_async(stream).await else { return };
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() && socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

impl Other {
    async fn open(&self, token: &str) -> Result<WebSocketStream<TcpStream>, Error> {
        let mut request = format!("ws://{}/live", self.address).into_client_request()?;
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        let stream = TcpStream::connect(self.address).await?;
        Ok(client_async(request, stream).await?.0)
    }
}

/// WebSockets are let in by the same rules, and then left alone.
async fn opens_websockets(program: Program) {
    let site = Site::with(None, Policy::default(), |_| {}).await;
    let other = Other::start(program, site.address, parrot().await).await;
    let (issued, token) = site.issue("laptop").await;
    let mut socket = other.open(&token).await.unwrap();
    site.revoke(&issued).await;
    match other.open(&token).await {
        Err(Error::Http(answer)) => assert_eq!(answer.status(), 401, "{program:?}"),
        opened => panic!("{program:?}: {opened:?}"),
    }
    socket.send(Message::text("still here")).await.unwrap();
    let back = tokio::time::timeout(PATIENCE, socket.next()).await.expect("an answer").unwrap().unwrap();
    assert_eq!(back, Message::text("still here"));
    drop((socket, other));
    site.stop().await;
}

#[tokio::test]
async fn nginx_holds_the_rules() {
    holds_the_rules(Program::Nginx).await;
}

#[tokio::test]
async fn caddy_holds_the_rules() {
    holds_the_rules(Program::Caddy).await;
    opens_websockets(Program::Caddy).await;
}

#[tokio::test]
#[ignore = "no package manager that the tests know has Traefik: `cargo xtask proxies` brings it"]
async fn traefik_holds_the_rules() {
    holds_the_rules(Program::Traefik).await;
    opens_websockets(Program::Traefik).await;
}

#[tokio::test]
#[ignore = "no package manager that the tests know has Envoy: `cargo xtask proxies` brings it"]
async fn envoy_holds_the_rules() {
    holds_the_rules(Program::Envoy).await;
    opens_websockets(Program::Envoy).await;
}
