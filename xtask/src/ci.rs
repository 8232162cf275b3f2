//! `cargo xtask ci`: every check that a change has to pass, the same on every machine.

mod deny;
mod features;
pub(crate) mod packages;
pub(crate) mod report;
mod semver;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cargo::{cargo, require_component, stream};
use crate::{Looked, Result, docs, layers, tools};
use report::Report;

/// Runs all steps, even after one has failed, so that one run shows everything there is to mend.
pub(crate) fn run() -> ExitCode {
    let mut report = Report::default();
    report.step("format", format);
    report.step("layers", layers::run);
    dependencies(&mut report);
    report.step("clippy", clippy);
    report.step("features", features::check);
    let mut tools = Vec::new();
    report.step("system tools", || {
        tools = tools::ensure_all()?;
        Ok(())
    });
    // Also without the tools: what needs none of them is worth knowing, and the step above has failed already.
    report.step("tests", || tests(&tools));
    report.step("doc tests", || doc_tests(&tools));
    report.step("documentation", documentation);
    report.step("generated files", docs::check);
    report.step("packages", packages::check);
    report.look("semver", semver::check);
    report.finish()
}

/// The licences, bans and sources of the dependencies, and the advisories against them.
fn dependencies(report: &mut Report) {
    let mut program = None;
    report.step("dependencies", || {
        let found = deny::ensure()?;
        deny::check(&found)?;
        program = Some(found);
        Ok(())
    });
    match program {
        Some(program) => report.look("advisories", || deny::advisories(&program)),
        None => report.look("advisories", || Ok(Looked::NotChecked("see the dependencies".to_owned()))),
    }
}

pub(crate) fn format() -> Result<()> {
    require_component("rustfmt", "fmt")?;
    stream(&mut cargo(&["fmt", "--all", "--check"])).map_err(|error| format!("{error}: run `cargo fmt --all`"))
}

pub(crate) fn clippy() -> Result<()> {
    require_component("clippy", "clippy")?;
    stream(&mut cargo(&["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]))
}

fn tests(tools: &[(&str, PathBuf)]) -> Result<()> {
    let mut command =
        cargo(&["test", "--workspace", "--all-features", "--no-fail-fast", "--lib", "--bins", "--tests", "--examples"]);
    stream(command.envs(tools.iter().cloned()))
}

fn doc_tests(tools: &[(&str, PathBuf)]) -> Result<()> {
    let mut command = cargo(&["test", "--workspace", "--all-features", "--no-fail-fast", "--doc"]);
    stream(command.envs(tools.iter().cloned()))
}

fn documentation() -> Result<()> {
    let mut command = cargo(&["doc", "--workspace", "--all-features", "--no-deps"]);
    stream(command.env("RUSTDOCFLAGS", "-D warnings"))
}
