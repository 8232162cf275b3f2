//! A home directory for each test, and the command run in it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;
use tenure_redis_test_server::Server;

/// A home directory with settings and a store of its own.
pub(crate) struct Home {
    dir: TempDir,
    environment: Vec<(String, String)>,
    server: Option<Server>,
}

/// The result of a command.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Home {
    /// Makes a home with the JSON store.
    pub(crate) fn json() -> Self {
        Self { dir: TempDir::new().unwrap(), environment: Vec::new(), server: None }
    }

    /// Makes a home with a Redis server of its own.
    pub(crate) fn redis() -> Self {
        let server = Server::start();
        let mut home = Self::json();
        home.set("TENURE_BACKEND", "redis");
        home.set("TENURE_REDIS_URL", &server.url());
        // Long timeouts, so that a busy machine does not look like a lost server.
        home.set("TENURE_REDIS__RESPONSE_TIMEOUT", "2s");
        home.set("TENURE_REDIS__CONNECT_TIMEOUT", "2s");
        home.set("TENURE_REDIS__OPERATION_TIMEOUT", "4s");
        home.server = Some(server);
        home
    }

    /// Sets an environment variable for every command from now on.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Returns the URL of its Redis server, if it has one.
    pub(crate) fn redis_url(&self) -> Option<String> {
        self.server.as_ref().map(Server::url)
    }

    /// Kills its Redis server.
    pub(crate) fn lose_redis(&mut self) {
        self.server.as_mut().unwrap().kill();
    }

    /// Restarts its Redis server, with the same data.
    pub(crate) fn find_redis(&mut self) {
        self.server.as_mut().unwrap().restart();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Returns the path of the JSON store.
    pub(crate) fn store(&self) -> PathBuf {
        self.path("state/tenure/sessions.jsonl")
    }

    /// Returns the path of the settings file.
    pub(crate) fn settings(&self) -> PathBuf {
        self.path("config/tenure/config.toml")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenure"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        self.command(args).output().unwrap().into()
    }

    /// Runs a command with a text on standard input.
    pub(crate) fn feed(&self, args: &[&str], input: &str) -> Ran {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A command that refuses its arguments does not read standard input.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap().into()
    }

    /// Creates a store without sessions.
    pub(crate) fn make_store(&self) {
        let ran = self.feed(&["sessions", "import", "-"], "");
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }

    /// Issues a session on a device, and returns its token.
    pub(crate) fn issue(&self, device: &str) -> String {
        let ran = self.run(&["token", "issue", "--device-id", device]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.out.trim_end().to_owned()
    }

    /// Lists the sessions.
    pub(crate) fn list(&self, more: &[&str]) -> Vec<Value> {
        let ran = self.run(&[&["sessions", "list", "--json"], more].concat());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        serde_json::from_str(&ran.out).unwrap()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Ran {
    /// Asserts the exit code, and a part of standard error.
    #[track_caller]
    pub(crate) fn fails(&self, code: i32, error: &str) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.err.contains(error), "{error:?} is not in {self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn succeeds(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Returns the session id in a token.
pub(crate) fn id_of(token: &str) -> &str {
    token.split('_').nth(1).unwrap()
}

pub(crate) fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Makes tests on both backends from functions that take a home.
#[macro_export]
macro_rules! on_both_backends {
    ($($name:ident),+ $(,)?) => {
        mod json {
            $(#[test] fn $name() { super::$name($crate::support::home::Home::json()); })+
        }
        mod redis {
            $(#[test] fn $name() { super::$name($crate::support::home::Home::redis()); })+
        }
    };
}
