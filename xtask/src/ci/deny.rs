//! Licences, bans and sources of the dependencies, and what is known against them: cargo-deny over `deny.toml`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo::{cargo, root, stream};
use crate::tools::Host;
use crate::{Looked, Result};

/// The version that is installed where there is none.
const VERSION: &str = "0.20.2";
/// Names another one.
const VARIABLE: &str = "CARGO_DENY";

/// Finds cargo-deny, or installs it below the target directory, which takes minutes and is done once.
pub(crate) fn ensure() -> Result<PathBuf> {
    let place = target().join("tools");
    let own = place.join("bin/cargo-deny");
    let found = std::env::var_os(VARIABLE).map(PathBuf::from).or_else(|| Host::this().find(&["cargo-deny"]));
    if let Some(found) = found.or_else(|| own.is_file().then(|| own.clone())) {
        return Ok(found);
    }
    println!("cargo-deny is missing: building it, once, into {}", place.display());
    let build = place.join("build");
    // Without optimisation: it runs for seconds and would be built for many more minutes.
    let mut install = cargo(&["install", "--locked", "--debug", "--version", VERSION, "cargo-deny", "--root"]);
    install.arg(&place).env("CARGO_TARGET_DIR", &build).env("CARGO_PROFILE_DEV_DEBUG", "0");
    stream(&mut install).map_err(|error| {
        format!(
            "cargo-deny {VERSION} is missing, which checks licences, bans and sources: {error}: install it with `cargo \
             install --locked cargo-deny`, or set {VARIABLE} to its path"
        )
    })?;
    // A gigabyte that nobody needs again.
    let _gone = std::fs::remove_dir_all(&build);
    Ok(own)
}

/// Checks what needs nothing but the dependencies themselves.
pub(crate) fn check(program: &Path) -> Result<()> {
    stream(&mut deny(program, ["check", "licenses", "bans", "sources"]))
}

/// Checks against the database of advisories, where it can be had. One that is here but cannot be renewed is not used:
/// what it does not know would look like health.
pub(crate) fn advisories(program: &Path) -> Result<Looked> {
    let fetched = deny(program, ["fetch", "db"]).stdin(Stdio::null()).output();
    let fetched = fetched.map_err(|error| format!("could not start {}: {error}", program.display()))?;
    if !fetched.status.success() {
        let said = String::from_utf8_lossy(&fetched.stderr).into_owned();
        return Ok(Looked::NotChecked(format!("the database of advisories could not be had: {}", reason(&said))));
    }
    stream(&mut deny(program, ["check", "--disable-fetch", "advisories"]))?;
    Ok(Looked::Clean)
}

fn deny<const N: usize>(program: &Path, args: [&str; N]) -> Command {
    let mut command = Command::new(program);
    command.args(args.map(OsStr::new)).current_dir(root());
    command
}

/// The line that says why, of all that was printed.
fn reason(said: &str) -> &str {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    lines().find(|line| line.starts_with("fatal:")).or_else(|| lines().next_back()).unwrap_or("nothing was said of it")
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |given| root().join(given))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A program that stands in for cargo-deny.
    fn program(folder: &Path, script: &str) -> PathBuf {
        let path = folder.join("cargo-deny");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn a_database_that_cannot_be_had_is_no_pass_and_a_finding_is_a_failure() {
        let folder = tempfile::TempDir::new().unwrap();
        let out = program(folder.path(), "echo 'fatal: could not resolve host' >&2; echo later >&2; exit 1");
        match advisories(&out) {
            Ok(Looked::NotChecked(why)) => assert!(why.ends_with("fatal: could not resolve host"), "{why}"),
            _ => panic!("it was called checked"),
        }
        let found = program(folder.path(), "test \"$1\" = fetch");
        assert!(advisories(&found).is_err() && check(&found).is_err());
        let clean = program(folder.path(), "exit 0");
        assert!(matches!(advisories(&clean), Ok(Looked::Clean)));
        assert!(check(&clean).is_ok());
        assert!(advisories(Path::new("/nowhere/cargo-deny")).is_err());
    }
}
