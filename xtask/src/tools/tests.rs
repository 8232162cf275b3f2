//! Finding and installing, against made-up programs in a directory of their own.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use super::*;

/// A machine whose programs are shell scripts. One at a time: a script that another thread is about to fork with still
/// open for writing cannot be run ("text file busy").
struct Machine {
    directory: TempDir,
    root: bool,
    _alone: MutexGuard<'static, ()>,
}

static ALONE: Mutex<()> = Mutex::new(());

impl Machine {
    fn new(root: bool) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { directory: tempfile::tempdir().unwrap(), root, _alone: alone }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A program that notes how it was called and then does this.
    fn program(self, name: &str, body: &str) -> Self {
        let log = self.file("log");
        let text = format!("#!/bin/sh\necho \"{name} $*\" >> '{}'\n{body}\n", log.display());
        let path = self.file(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn redis(self, version: &str) -> Self {
        self.program("redis-server", &format!("echo 'Redis server v={version} sha=00000000:0 bits=64'"))
    }

    /// A package manager whose `install` brings redis-server.
    fn manager(self, name: &str) -> Self {
        let to = self.file("redis-server");
        let body = format!(
            "case \"$*\" in *redis*) printf '#!/bin/sh\\necho v=7.4.1\\n' > '{0}'; /bin/chmod +x '{0}';; esac",
            to.display()
        );
        self.program(name, &body)
    }

    fn ensure(&self, named: Option<&str>) -> Result<(PathBuf, Version)> {
        let host = Host { path: self.directory.path().into(), root: self.root };
        ensure(&TOOLS[0], &host, named.map(OsStr::new))
    }

    fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_tool_that_is_there_is_taken_and_nothing_is_installed_or_stopped() {
    let machine = Machine::new(true).redis("7.0.15").manager("apt-get").program("service", "");
    let expected = (machine.file("redis-server"), Version(7, 0));
    assert_eq!(machine.ensure(None), Ok(expected));
    assert_eq!(machine.calls(), ["redis-server --version"]);
}

#[test]
fn valkey_will_do() {
    let machine = Machine::new(true).program("valkey-server", "echo 'Valkey server v=8.0.1'");
    let expected = (machine.file("valkey-server"), Version(8, 0));
    assert_eq!(machine.ensure(None), Ok(expected));
}

#[test]
fn an_old_version_is_refused() {
    let machine = Machine::new(true).redis("6.2.14").manager("apt-get");
    let error = machine.ensure(None).unwrap_err();
    assert!(error.contains("is version 6.2, but the tests need 7.0 or later"));
    assert_eq!(machine.calls(), ["redis-server --version"]);
}

#[test]
fn a_program_without_a_version_is_refused() {
    let machine = Machine::new(true).program("redis-server", "echo hello");
    let error = machine.ensure(None).unwrap_err();
    assert!(error.contains("no version in what"), "{error}");
}

#[test]
fn root_installs_what_is_missing_and_stops_the_service_that_came_with_it() {
    let machine = Machine::new(true).manager("apt-get").program("service", "exit 1");
    let expected = (machine.file("redis-server"), Version(7, 4));
    assert_eq!(machine.ensure(None), Ok(expected));
    assert_eq!(
        machine.calls(),
        [
            "apt-get update",
            "apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120 redis-server",
            "service redis-server stop",
        ]
    );
}

#[test]
fn lists_that_cannot_be_fetched_do_not_keep_it_from_trying() {
    let machine = Machine::new(true);
    let to = machine.file("redis-server");
    let body = format!(
        "[ \"$1\" = install ] || exit 100\nprintf '#!/bin/sh\\necho v=7.4.1\\n' > '{0}'; /bin/chmod +x '{0}'",
        to.display()
    );
    let machine = machine.program("apt-get", &body);
    assert_eq!(machine.ensure(None), Ok((to, Version(7, 4))));
}

#[test]
fn a_failed_installation_is_an_error() {
    let machine = Machine::new(true).program("apt-get", "exit 100");
    let error = machine.ensure(None).unwrap_err();
    assert!(error.contains("redis-server 7.0 or later is missing"));
    assert!(error.contains("exit status: 100"), "{error}");
}

#[test]
fn an_installation_that_brings_nothing_is_an_error() {
    let machine = Machine::new(true).program("apk", "");
    let error = machine.ensure(None).unwrap_err();
    assert!(error.contains("is not in PATH"), "{error}");
    assert_eq!(machine.calls(), ["apk add --no-cache redis"]);
}

#[test]
fn another_user_is_told_what_to_run() {
    let machine = Machine::new(false).manager("dnf");
    let error = machine.ensure(None).unwrap_err();
    assert!(error.contains("run `sudo dnf install -y redis`"), "{error}");
    assert!(machine.calls().is_empty());
}

#[test]
fn another_user_may_use_brew_beside_a_manager_for_root() {
    let machine = Machine::new(false).manager("apt-get").manager("brew");
    assert!(machine.ensure(None).is_ok());
    assert_eq!(machine.calls(), ["brew install redis"]);
}

#[test]
fn without_a_package_manager_it_says_so() {
    let error = Machine::new(true).ensure(None).unwrap_err();
    assert!(error.contains("no package manager that xtask knows"));
    assert!(error.contains("TEST_REDIS_SERVER"), "{error}");
}

#[test]
fn the_program_that_the_developer_named_is_taken_or_refused_but_never_replaced() {
    let machine = Machine::new(true).redis("7.2.4").manager("apt-get");
    let named = machine.file("redis-server");
    let found = machine.ensure(named.to_str()).unwrap();
    assert_eq!(found, (named, Version(7, 2)));
    let gone = machine.file("gone");
    let error = machine.ensure(gone.to_str()).unwrap_err();
    assert!(error.contains("could not start"), "{error}");
}

#[test]
fn a_file_that_cannot_be_run_is_not_found() {
    let machine = Machine::new(true);
    fs::write(machine.file("redis-server"), "").unwrap();
    assert!(machine.ensure(None).is_err());
}

#[test]
fn versions_are_read_out_of_what_programs_say() {
    let said = [
        ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0", Version(7, 0)),
        ("nginx version: nginx/1.22.1", Version(1, 22)),
        ("v2.6.2 h1:abc=", Version(2, 6)),
        ("2.6.2", Version(2, 6)),
    ];
    for (text, version) in said {
        assert_eq!(parse_version(text), Some(version), "{text}");
    }
    assert_eq!(parse_version("no 7 here."), None);
}
