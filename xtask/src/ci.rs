//! `cargo xtask ci`: every check that a change has to pass, the same on every machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::cargo::{cargo, require_component, stream};
use crate::{Result, docs, layers, tools};

/// Runs all steps, even after one has failed, so that one run shows everything there is to mend.
pub(crate) fn run() -> Result<()> {
    let mut report = Report::default();
    report.step("format", format);
    report.step("layers", layers::run);
    report.step("clippy", clippy);
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
    report.finish()
}

fn format() -> Result<()> {
    require_component("rustfmt", "fmt")?;
    stream(&mut cargo(&["fmt", "--all", "--check"]))
        .map_err(|error| format!("{error}: run `cargo fmt --all`"))
}

fn clippy() -> Result<()> {
    require_component("clippy", "clippy")?;
    stream(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--all-features",
        "--",
        "-D",
        "warnings",
    ]))
}

fn tests(tools: &[(&str, PathBuf)]) -> Result<()> {
    let mut command = cargo(&[
        "test",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
        "--lib",
        "--bins",
        "--tests",
    ]);
    stream(command.envs(tools.iter().cloned()))
}

fn doc_tests(tools: &[(&str, PathBuf)]) -> Result<()> {
    let mut command = cargo(&[
        "test",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
        "--doc",
    ]);
    stream(command.envs(tools.iter().cloned()))
}

fn documentation() -> Result<()> {
    let mut command = cargo(&["doc", "--workspace", "--all-features", "--no-deps"]);
    stream(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// What each step came to, in the order they ran.
#[derive(Default)]
struct Report {
    steps: Vec<Done>,
}

struct Done {
    name: &'static str,
    took: Duration,
    error: Option<String>,
}

impl Report {
    fn step(&mut self, name: &'static str, run: impl FnOnce() -> Result<()>) {
        println!("\n==> {name}");
        let start = Instant::now();
        let error = run().err();
        if let Some(error) = &error {
            println!("error: {error}");
        }
        self.steps.push(Done {
            name,
            took: start.elapsed(),
            error,
        });
    }

    /// Prints the summary; an error where a step failed.
    fn finish(&self) -> Result<()> {
        print!("\n{}", self.summary());
        let failed: Vec<&str> = self.failed().map(|step| step.name).collect();
        if failed.is_empty() {
            Ok(())
        } else {
            Err(format!("failed: {}", failed.join(", ")))
        }
    }

    fn failed(&self) -> impl Iterator<Item = &Done> {
        self.steps.iter().filter(|step| step.error.is_some())
    }

    fn summary(&self) -> String {
        let mut text = String::new();
        for Done { name, took, error } in &self.steps {
            let result = if error.is_some() { "FAILED" } else { "passed" };
            text += &format!("{result}  {name:<16} {:>7.1} s\n", took.as_secs_f64());
        }
        let total: Duration = self.steps.iter().map(|step| step.took).sum();
        text += &format!("total   {:<16} {:>7.1} s\n", "", total.as_secs_f64());
        let failed = self.failed().count();
        let passed = self.steps.len() - failed;
        text + &format!("{passed} passed, {failed} failed\n")
    }
}
