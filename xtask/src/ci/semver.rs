//! What the published libraries promise: cargo-semver-checks against the last release. RELEASING.md has the procedure.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::cargo::{capture, cargo, root, stream};
use crate::tools::Host;
use crate::{Looked, Result};

/// Names a cargo-semver-checks that is not in the path.
const VARIABLE: &str = "CARGO_SEMVER_CHECKS";

/// Compares each published library with what it was at the last tag, where there is such a tag and the program. It is not
/// built here: that takes longer than all else.
pub(crate) fn check() -> Result<Looked> {
    let json = capture(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata =
        serde_json::from_slice(&json).map_err(|error| format!("cargo metadata printed no valid JSON: {error}"))?;
    let program = std::env::var_os(VARIABLE).map(PathBuf::from).or_else(|| Host::this().find(&["cargo-semver-checks"]));
    compare(&published(&metadata)?, program.as_deref(), last_tag().as_deref(), was_there)
}

/// A package that is published, and where its manifest is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) name: String,
    manifest: PathBuf,
}

/// The packages that the registry may get.
pub(crate) fn published(metadata: &Value) -> Result<Vec<Published>> {
    let changed = || "cargo metadata has no packages with name and place: its format has changed".to_owned();
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().ok_or_else(changed)? {
        let name = package["name"].as_str().ok_or_else(changed)?;
        let manifest = package["manifest_path"].as_str().ok_or_else(changed)?;
        // `publish = false` is an empty list of registries.
        if package["publish"].as_array().is_none_or(|registries| !registries.is_empty()) {
            found.push(Published { name: name.to_owned(), manifest: manifest.into() });
        }
    }
    Ok(found)
}

/// `tag` is the last release; `was_there` says whether a manifest was there at it.
fn compare(
    published: &[Published],
    program: Option<&Path>,
    tag: Option<&str>,
    was_there: impl Fn(&str, &Path) -> bool,
) -> Result<Looked> {
    let not_checked = |why: &str| Ok(Looked::NotChecked(why.to_owned()));
    let Some(tag) = tag else {
        return not_checked("there is no release to compare with: git knows of no tag that leads here");
    };
    let mut names = Vec::new();
    for Published { name, manifest } in published {
        if was_there(tag, manifest) {
            names.extend(["--package", name]);
        }
    }
    if names.is_empty() {
        return not_checked(&format!("no library that is published was there at {tag}"));
    }
    let Some(program) = program else {
        return not_checked(&format!(
            "cargo-semver-checks is missing: install it with `cargo install --locked cargo-semver-checks`, or set \
             {VARIABLE} to its path"
        ));
    };
    let mut command = Command::new(program);
    command.args(["semver-checks", "--baseline-rev", tag]).args(names).current_dir(root());
    stream(&mut command).map(|()| Looked::Clean)
}

/// The tag of a release that is nearest below what is checked out. Where there is no git there is none.
fn last_tag() -> Option<String> {
    let output = git(&["describe", "--tags", "--abbrev=0", "--match", "v[0-9]*"]).output().ok()?;
    let tag = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !tag.is_empty()).then_some(tag)
}

fn was_there(tag: &str, manifest: &Path) -> bool {
    let root = root();
    let place = manifest.strip_prefix(&root).unwrap_or(manifest);
    git(&["cat-file", "-e", &format!("{tag}:{}", place.display())]).status().is_ok_and(|status| status.success())
}

fn git(args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.args(args).current_dir(root()).stderr(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    fn package(name: &str) -> Published {
        Published { name: name.to_owned(), manifest: format!("crates/{name}/Cargo.toml").into() }
    }

    /// Compares two libraries, one of which is new, by a program that fails unless it is called so.
    fn compare_by(expected: Option<&str>, tag: Option<&str>, published: &[Published]) -> Result<Looked> {
        let folder = TempDir::new().unwrap();
        let program = folder.path().join("cargo-semver-checks");
        let script = format!("#!/bin/sh\ntest \"$*\" = '{}'\n", expected.unwrap_or_default());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let was_there = |tag: &str, manifest: &Path| tag == "v0.1.0" && manifest == Path::new("crates/old/Cargo.toml");
        compare(published, expected.map(|_| program.as_path()), tag, was_there)
    }

    fn why(looked: Result<Looked>) -> String {
        match looked {
            Ok(Looked::NotChecked(why)) => why,
            Ok(Looked::Clean) => panic!("it was called checked"),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_cannot_be_compared_is_no_pass() {
        let published = [package("old"), package("new")];
        assert!(why(compare_by(Some("never"), None, &published)).contains("no tag"));
        assert!(why(compare_by(None, Some("v0.1.0"), &published)).contains("cargo-semver-checks is missing"));
        assert!(why(compare_by(Some("never"), Some("v0.1.0"), &published[1..])).contains("was there at v0.1.0"));
    }

    #[test]
    fn the_libraries_of_the_last_release_are_compared_and_a_finding_is_a_failure() {
        let published = [package("old"), package("new")];
        let expected = "semver-checks --baseline-rev v0.1.0 --package old";
        assert!(matches!(compare_by(Some(expected), Some("v0.1.0"), &published), Ok(Looked::Clean)));
        assert!(compare_by(Some("something else"), Some("v0.1.0"), &published).is_err());
    }

    #[test]
    fn what_is_not_to_be_published_is_left_out() {
        let package = |name: &str, publish: Value| json!({ "name": name, "manifest_path": "x", "publish": publish });
        let metadata = json!({ "packages": [
            package("a", Value::Null),
            package("b", json!([])),
            package("c", json!(["crates-io"])),
        ] });
        let names: Vec<String> = published(&metadata).unwrap().into_iter().map(|package| package.name).collect();
        assert_eq!(names, ["a", "c"]);
        assert!(published(&json!({})).is_err());
    }
}
