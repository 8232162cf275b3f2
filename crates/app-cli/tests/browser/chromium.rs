//! A browser for each test.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

/// The time limit of each step, which even a busy machine does not reach.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The name of this machine for the browser.
pub(crate) const HOST: &str = "gateway.lan";
/// The name of another site, which is also this machine.
pub(crate) const STRANGER: &str = "stranger.test";

/// A browser with one tab, which is killed on drop.
pub(crate) struct Browser {
    child: Child,
    socket: WebSocketStream<TcpStream>,
    calls: u64,
    tab: String,
    _profile: TempDir,
}

impl Browser {
    pub(crate) async fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-extensions", "--disable-background-networking", "--remote-debugging-port=0"])
            .args(["--ignore-certificate-errors", "--remote-allow-origins=*"])
            .arg(format!("--host-resolver-rules=MAP {HOST} 127.0.0.1, MAP {STRANGER} 127.0.0.1"))
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .env("HOME", profile.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let place = tokio::task::spawn_blocking(move || {
            let mut said = String::new();
            let mut lines = lines.map_while(Result::ok);
            let place = lines.find_map(|line| {
                said += &format!("{line}\n");
                line.split_once("DevTools listening on ").map(|(_, place)| place.trim().to_owned())
            });
            // The rest of the output is read, so that it does not fill the pipe.
            std::thread::spawn(move || lines.for_each(drop));
            place.unwrap_or_else(|| panic!("chromium did not start:\n{said}"))
        });
        let place = timeout(PATIENCE, place).await.expect("a start in time").unwrap();
        let address = place.strip_prefix("ws://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let (socket, _) = client_async(&place, stream).await.unwrap();
        let mut browser = Self { child, socket, calls: 0, tab: String::new(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.call("Target.attachToTarget", attach).await;
        browser.tab = attached["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    /// Calls a method of the DevTools protocol, for the tab once there is one.
    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.try_call(method, parameters).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    async fn try_call(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.calls += 1;
        let mut call = json!({"id": self.calls, "method": method, "params": parameters});
        if !self.tab.is_empty() {
            call["sessionId"] = self.tab.clone().into();
        }
        self.socket.send(Message::text(call.to_string())).await.unwrap();
        loop {
            let message = timeout(PATIENCE, self.socket.next()).await.expect("an answer in time").unwrap().unwrap();
            let Ok(text) = message.to_text() else { continue };
            let mut said: Value = serde_json::from_str(text).unwrap_or_default();
            if said["id"] == self.calls {
                return if said["error"].is_null() { Ok(said["result"].take()) } else { Err(said["error"].take()) };
            }
        }
    }

    /// Evaluates a script on the page. Promises are awaited.
    pub(crate) async fn eval(&mut self, script: &str) -> Value {
        self.try_eval(script).await.unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    async fn try_eval(&mut self, script: &str) -> Result<Value, Value> {
        let parameters = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
        let mut result = self.try_call("Runtime.evaluate", parameters).await?;
        if result["exceptionDetails"].is_null() {
            Ok(result["result"]["value"].take())
        } else {
            Err(result["exceptionDetails"].take())
        }
    }

    /// Opens a URL, and waits for the page.
    pub(crate) async fn go(&mut self, url: &str) {
        let gone = self.call("Page.navigate", json!({"url": url})).await;
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        self.wait_until("document.readyState === 'complete'").await;
    }

    /// Runs a script that leads to another page, and waits for the page.
    pub(crate) async fn leave_by(&mut self, script: &str) {
        self.eval(&format!("window.left = false; {script}")).await;
        self.wait_until("window.left === undefined && document.readyState === 'complete'").await;
    }

    /// Clicks the only button with this text, and waits for the next page.
    pub(crate) async fn press(&mut self, text: &str) {
        let text = json!(text);
        let find =
            format!("[...document.querySelectorAll('button')].find(b => b.innerText === {text} && b.offsetParent)");
        self.leave_by(&format!("{find}.click()")).await;
    }

    /// Waits until a script returns true, also if the page changes meanwhile.
    pub(crate) async fn wait_until(&mut self, script: &str) {
        let begun = Instant::now();
        // Between two pages, no page can evaluate a script.
        while self.try_eval(script).await != Ok(Value::Bool(true)) {
            assert!(
                begun.elapsed() < PATIENCE,
                "{script} did not come about on {}: {}",
                self.url().await,
                self.text().await
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn fill(&mut self, selector: &str, text: &str) {
        self.eval(&format!("document.querySelector({}).value = {}", json!(selector), json!(text))).await;
    }

    pub(crate) async fn url(&mut self) -> String {
        self.eval("location.href").await.as_str().unwrap().to_owned()
    }

    /// Returns the visible text of the page.
    pub(crate) async fn text(&mut self) -> String {
        self.eval("document.body.innerText").await.as_str().unwrap().to_owned()
    }

    /// Returns the cookies that the browser would send, including those hidden from scripts.
    pub(crate) async fn cookies(&mut self, url: &str) -> Vec<Value> {
        let mut found = self.call("Network.getCookies", json!({"urls": [url]})).await;
        found["cookies"].as_array_mut().unwrap().drain(..).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser leads a process group, so this ends all its processes.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("TEST_CHROMIUM") {
        return path.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut places = names.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    places.find(|path| path.is_file()).expect("chromium is missing: install it, or set TEST_CHROMIUM to its path")
}
