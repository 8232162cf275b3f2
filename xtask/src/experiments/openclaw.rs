//! `cargo xtask openclaw`: the real OpenClaw behind the gateway. Installs it from npm into a folder outside the tree
//! (a temporary one, or the one that `TEST_OPENCLAW_DIR` names, which is used again) and talks to it through the
//! command line that its users have. Loopback only; no channels, no model.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Result;
use crate::cargo::{cargo, root, stream};

const NODE: &str = "node@24";
const OPENCLAW: &str = "openclaw@2026.9.6";
/// What OpenClaw lets the user of the sessions do: also to approve the devices of its own clients.
const SCOPES: [&str; 5] =
    ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.pairing"];
/// How long OpenClaw may take to start, and each of its commands.
const PATIENCE: Duration = Duration::from_secs(240);

/// Issues, connects, lists, revokes, expires and rotates, and says what came of each.
pub(crate) fn run() -> Result<()> {
    stream(&mut cargo(&["build", "--package", "tenure"]))?;
    let temporary = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let folder = std::env::var_os("TEST_OPENCLAW_DIR").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    install(&folder)?;
    let stand = Stand::start(&folder, temporary.path())?;
    stand.shows_up_and_is_cut()?;
    stand.expires()?;
    stand.is_rotated()?;
    println!("all as it should be");
    Ok(())
}

/// Node first: which OpenClaw npm takes depends on the Node that it runs on.
fn install(folder: &Path) -> Result<()> {
    for package in [NODE, OPENCLAW] {
        let name = package.split('@').next().unwrap_or(package);
        if !folder.join("node_modules").join(name).exists() {
            let mut npm = Command::new("npm");
            npm.args(["install", "--no-audit", "--no-fund", package]).current_dir(folder).env("PATH", path(folder));
            stream(&mut npm)?;
        }
    }
    Ok(())
}

fn path(folder: &Path) -> String {
    let bin = folder.join("node_modules/.bin");
    format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default())
}

/// A process that is gone when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// OpenClaw, the gateway in front of it, and homes for both.
struct Stand<'a> {
    folder: &'a Path,
    home: &'a Path,
    clients: String,
    operators: String,
    secret: String,
    _running: [Running; 2],
}

impl<'a> Stand<'a> {
    fn start(folder: &'a Path, home: &'a Path) -> Result<Self> {
        let port = free_port()?;
        let config = json!({ "gateway": {
            "mode": "local", "bind": "loopback", "port": port,
            "auth": {
                "mode": "trusted-proxy",
                "trustedProxy": { "userHeader": "x-forwarded-user", "allowLoopback": true },
                "identityScopes": { "operator": SCOPES },
            },
            "trustedProxies": ["127.0.0.1"],
        }});
        write(&home.join("openclaw/.openclaw/openclaw.json"), &config.to_string())?;
        let mut openclaw = node(folder, &home.join("openclaw"));
        let port_text = port.to_string();
        openclaw.args(["gateway", "run", "--allow-unconfigured", "--bind", "loopback", "--port", &port_text]);
        let openclaw = spawn(openclaw.env("OPENCLAW_SKIP_CHANNELS", "1"), &home.join("openclaw.log"))?;
        wait_for("OpenClaw", || {
            fs::read_to_string(home.join("openclaw.log")).is_ok_and(|log| log.contains("[gateway] ready"))
        })?;
        let upstream = format!("http://127.0.0.1:{port}");
        let args = ["--json", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--profile", "openclaw"];
        let mut gateway = tenure(home, &[&["gateway", "--upstream", &upstream], &args[..]].concat());
        gateway.stdout(Stdio::piped());
        let mut gateway = gateway.spawn().map_err(|error| format!("tenure did not start: {error}"))?;
        let mut line = String::new();
        let out = gateway.stdout.take().ok_or("no standard output")?;
        BufReader::new(out).read_line(&mut line).map_err(|error| error.to_string())?;
        let said: Value = serde_json::from_str(&line).map_err(|error| format!("{error}: {line}"))?;
        let text = |name: &str| said[name].as_str().unwrap_or_default().trim_start_matches("http://").to_owned();
        let secret = fs::read_to_string(text("adminSecretFile")).map_err(|error| error.to_string())?;
        Ok(Self {
            folder,
            home,
            clients: text("listen"),
            operators: text("adminListen"),
            secret: secret.trim().to_owned(),
            _running: [Running(gateway), openclaw],
        })
    }

    fn tenure(&self, args: &[&str]) -> Result<String> {
        let output = tenure(self.home, args).output().map_err(|error| error.to_string())?;
        succeeded(&format!("tenure {}", args.join(" ")), &output)
    }

    fn issue(&self, device: &str, more: &[&str]) -> Result<String> {
        let token = self.tenure(&[&["token", "issue", "--device-id", device], more].concat())?;
        Ok(token.trim().to_owned())
    }

    /// A call of OpenClaw's own command line: its answer, or its complaint.
    fn call(&self, token: &str, method: &str, params: &str) -> Result<std::result::Result<String, String>> {
        let url = format!("ws://{}", self.clients);
        let mut command = node(self.folder, &self.home.join("client"));
        command.args(["gateway", "call", method, "--params", params, "--url", &url, "--token", token]);
        let output = command.output();
        let output = output.map_err(|error| error.to_string())?;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let all = format!("{}{}", out.trim(), err.trim());
        Ok(if output.status.success() { Ok(all) } else { Err(all) })
    }

    /// OpenClaw's ACP bridge: a client that stays connected, with a device identity of its own.
    fn bridge(&self, token: &str) -> Result<Command> {
        let file = self.home.join("client-token");
        write(&file, token)?;
        let mut command = node(self.folder, &self.home.join("client"));
        let url = format!("ws://{}", self.clients);
        command.args(["acp", "--verbose", "--url", &url, "--token-file"]).arg(&file);
        Ok(command)
    }

    /// Has the bridge's device approved, which OpenClaw asks for whatever the token.
    fn pair(&self, token: &str) -> Result<()> {
        // With its input open: it ends where that does.
        let log = self.home.join("client.log");
        let bridge = spawn(self.bridge(token)?.stdin(Stdio::piped()), &log)?;
        let mut said = String::new();
        wait_for("a request to approve a device", || {
            said = fs::read_to_string(&log).unwrap_or_default();
            said.contains("requestId: ")
        })?;
        drop(bridge);
        let request = said.split_once("requestId: ").and_then(|(_, rest)| rest.split(')').next());
        let request = request.ok_or_else(|| format!("no device was to be approved: {said}"))?;
        let params = json!({ "requestId": request }).to_string();
        let approved = self.call(token, "device.pair.approve", &params)?;
        approved.map(|_| ()).map_err(|complaint| format!("its device was not approved: {complaint}"))
    }

    fn stay(&self, token: &str) -> Result<Running> {
        let running = spawn(self.bridge(token)?.stdin(Stdio::piped()), &self.home.join("client.log"))?;
        wait_for("a client that stays", || self.sockets() == Some(1))?;
        // Connected is not yet admitted: the session says who it is once OpenClaw has said hello.
        let id = token.split('_').nth(1).unwrap_or_default().to_owned();
        wait_for("the client in its session", || {
            self.session(&id).is_ok_and(|session| session["clientInfo"]["deviceKey"].is_string())
        })?;
        Ok(running)
    }

    fn session(&self, id: &str) -> Result<Value> {
        let text = self.tenure(&["sessions", "show", id, "--json"])?;
        serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
    }

    /// How many WebSockets the gateway relays.
    fn sockets(&self) -> Option<u64> {
        let head = format!(
            "GET /metrics HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.operators, self.secret
        );
        let mut stream = TcpStream::connect(&self.operators).ok()?;
        stream.write_all(head.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        text.lines().find_map(|line| line.strip_prefix("tenure_websockets "))?.trim().parse().ok()
    }

    fn shows_up_and_is_cut(&self) -> Result<()> {
        let token = self.issue("laptop", &[])?;
        let answer = self
            .call(&token, "health", "{}")?
            .map_err(|complaint| format!("its command line did not get in: {complaint}"))?;
        println!("called with a Tenure token: {}", first_line(&answer));
        self.pair(&token)?;
        let client = self.stay(&token)?;
        println!("{}", self.tenure(&["sessions", "list"])?.trim_end());
        let id = token.split('_').nth(1).unwrap_or_default();
        println!("clientInfo: {}", self.session(id)?["clientInfo"]);
        self.tenure(&["sessions", "revoke", id])?;
        let took = self.cut("4401: revoked")?;
        println!("revoked in another process: its connection was gone {took:.0?} after the command");
        drop(client);
        self.expect_complaint(&token, "token revoked")
    }

    fn expires(&self) -> Result<()> {
        let token = self.issue("phone", &["--ttl", "20s"])?;
        let client = self.stay(&token)?;
        let took = self.cut("4401: expired")?;
        println!("left to expire: its connection was gone {took:.0?} later");
        drop(client);
        self.expect_complaint(&token, "token expired")
    }

    fn is_rotated(&self) -> Result<()> {
        let old = self.issue("tablet", &[])?;
        let client = self.stay(&old)?;
        let mut rotate = tenure(self.home, &["token", "rotate"]);
        rotate.env("TENURE_TOKEN", &old);
        let output = rotate.output().map_err(|error| error.to_string())?;
        let new = succeeded("tenure token rotate", &output)?;
        self.call(new.trim(), "health", "{}")?
            .map_err(|complaint| format!("the new token does not get in: {complaint}"))?;
        if self.sockets() != Some(1) {
            return Err("the rotation dropped a connection".to_owned());
        }
        println!("rotated: its connection stayed, and the new token gets in");
        self.expect_complaint(&old, "token ")?;
        drop(client);
        Ok(())
    }

    /// Waits until the bridge says that it was closed so, and says how long that took.
    fn cut(&self, said: &str) -> Result<Duration> {
        let start = Instant::now();
        wait_for(said, || fs::read_to_string(self.home.join("client.log")).is_ok_and(|log| log.contains(said)))?;
        let took = start.elapsed();
        wait_for("an end of the relay", || self.sockets() == Some(0))?;
        Ok(took)
    }

    fn expect_complaint(&self, token: &str, wanted: &str) -> Result<()> {
        match self.call(token, "health", "{}")? {
            Ok(answer) => Err(format!("a token that does not hold got in: {}", first_line(&answer))),
            Err(complaint) if complaint.contains(wanted) => {
                println!("its command line then says: {}", first_line(&complaint));
                Ok(())
            }
            Err(complaint) => Err(format!("{wanted:?} is not in what its command line says: {complaint}")),
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default()
}

fn succeeded(what: &str, output: &Output) -> Result<String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("`{what}` failed: {}", String::from_utf8_lossy(&output.stderr).trim_end()))
}

/// OpenClaw's command, with a home of its own.
fn node(folder: &Path, home: &Path) -> Command {
    let mut command = Command::new(folder.join("node_modules/.bin/openclaw"));
    command.env_clear().env("PATH", path(folder)).env("HOME", home).env("NO_COLOR", "1").stdin(Stdio::null());
    let _ = fs::create_dir_all(home);
    command
}

fn tenure(home: &Path, args: &[&str]) -> Command {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    let mut command = Command::new(target.join("debug/tenure"));
    command.args(args).env_clear().env("HOME", home).env("XDG_STATE_HOME", home.join("state"));
    command.env("XDG_CONFIG_HOME", home.join("config")).stdin(Stdio::null());
    command
}

fn spawn(command: &mut Command, log: &Path) -> Result<Running> {
    let file = fs::File::create(log).map_err(|error| format!("{}: {error}", log.display()))?;
    let twin = file.try_clone().map_err(|error| error.to_string())?;
    let child = command.stdout(file).stderr(twin).spawn().map_err(|error| format!("it did not start: {error}"))?;
    Ok(Running(child))
}

fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_there() {
        if Instant::now() > deadline {
            return Err(format!("{what}: not within {PATIENCE:?}"));
        }
        sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(path, text)).map_err(|error| format!("{}: {error}", path.display()))
}

fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    listener.local_addr().map(|address| address.port()).map_err(|error| error.to_string())
}
