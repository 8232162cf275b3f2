//! The published libraries as packages: what a registry would get is built from what would be uploaded.

use crate::Result;
use crate::cargo::{capture, cargo, stream, target_directory};
use crate::ci::semver::{Published, published};

/// Packages every published library in one call and builds each of them from its package. Nothing is uploaded.
pub(crate) fn check() -> Result<()> {
    let json = capture(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value =
        serde_json::from_slice(&json).map_err(|error| format!("cargo metadata printed no valid JSON: {error}"))?;
    // What is not committed yet is checked too.
    let mut command = cargo(&["package", "--quiet", "--allow-dirty"]);
    for Published { name, .. } in published(&metadata)? {
        command.args(["--package", &name]);
    }
    // A folder of its own each time: cargo keeps what it unpacked by the folder's path, and a version of ours has
    // other contents with each commit.
    let folder = target_directory(&metadata)?.join(format!("packages-{}", std::process::id()));
    let outcome = stream(command.env("CARGO_TARGET_DIR", &folder));
    // Where it cannot be removed, it is in nobody's way.
    let _ = std::fs::remove_dir_all(&folder);
    outcome
}
