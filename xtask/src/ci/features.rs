//! Each library by itself: a build of the whole workspace turns on, for every package, the features that any of them
//! asks for, and so hides that one of them forgot to ask.

use serde_json::Value;

use crate::Result;
use crate::cargo::{capture, cargo, stream};

/// Checks each library alone, with its default features and with none.
pub(crate) fn check() -> Result<()> {
    let json = capture(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata =
        serde_json::from_slice(&json).map_err(|error| format!("cargo metadata printed no valid JSON: {error}"))?;
    let mut failed = Vec::new();
    for Library { name, has_default } in libraries(&metadata)? {
        let check = ["check", "--quiet", "--lib", "--package", &name];
        failed.extend(stream(&mut cargo(&check)).err());
        // Without default features there is nothing to turn off.
        if has_default {
            failed.extend(stream(&mut cargo(&[&check[..], &["--no-default-features"]].concat())).err());
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

#[derive(Debug, PartialEq, Eq)]
struct Library {
    name: String,
    has_default: bool,
}

/// The packages below `crates/` that have a library.
fn libraries(metadata: &Value) -> Result<Vec<Library>> {
    let changed = || "cargo metadata names no library below crates/: its format has changed".to_owned();
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().ok_or_else(changed)? {
        let manifest = package["manifest_path"].as_str().ok_or_else(changed)?;
        let targets = package["targets"].as_array().ok_or_else(changed)?;
        let is_library =
            |target: &Value| target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "lib"));
        if manifest.contains("/crates/") && targets.iter().any(is_library) {
            let name = package["name"].as_str().ok_or_else(changed)?.to_owned();
            let has_default = package["features"]["default"].as_array().is_some_and(|features| !features.is_empty());
            found.push(Library { name, has_default });
        }
    }
    if found.is_empty() { Err(changed()) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_libraries_of_the_product_are_checked() {
        let package = |name: &str, folder: &str, kind: &str, features: Value| {
            json!({
                "name": name,
                "manifest_path": format!("/here/{folder}/Cargo.toml"),
                "targets": [{ "kind": ["test"] }, { "kind": [kind] }],
                "features": features,
            })
        };
        let metadata = json!({ "packages": [
            package("tenure-domain", "crates/domain", "lib", json!({ "fuzz": [] })),
            package("tenure-tower", "crates/tower", "lib", json!({ "default": ["json"], "json": [] })),
            package("tenure", "crates/app-cli", "bin", json!({})),
            package("tenure-tests", "tests", "lib", json!({})),
        ] });
        assert_eq!(
            libraries(&metadata).unwrap(),
            [
                Library { name: "tenure-domain".to_owned(), has_default: false },
                Library { name: "tenure-tower".to_owned(), has_default: true },
            ]
        );
    }

    #[test]
    fn metadata_of_another_shape_is_an_error_not_a_pass() {
        assert!(libraries(&json!({})).is_err());
        assert!(libraries(&json!({ "packages": [] })).is_err());
        assert!(libraries(&json!({ "packages": [{ "manifest_path": "/here/crates/x/Cargo.toml" }] })).is_err());
    }
}
