//! `cargo xtask check`: what of `cargo xtask ci` takes no server and no patience, for before a commit.

use std::process::ExitCode;

use crate::cargo::{cargo, stream};
use crate::ci::report::Report;
use crate::{Result, ci, layers};

/// Runs all steps, even after one has failed.
pub(crate) fn run() -> ExitCode {
    let mut report = Report::default();
    report.step("format", ci::format);
    report.step("layers", layers::run);
    report.step("clippy", ci::clippy);
    report.step("unit tests", unit_tests);
    report.finish()
}

/// The tests inside the libraries and the two programs, and those of the domain and the service. With all features of all
/// packages, as ci builds them, so that neither builds anew what the other has built. Simulated faults and the fuzzers'
/// cases are left to ci: they take most of the time.
fn unit_tests() -> Result<()> {
    stream(&mut cargo(&[
        "test",
        "--workspace",
        "--all-features",
        "--no-fail-fast",
        "--lib",
        "--bin",
        "tenure",
        "--bin",
        "xtask",
        "--test",
        "rules",
        "--test",
        "outcomes",
        "--quiet",
        "--",
        "--skip",
        "faults::",
        "--skip",
        "fuzz::",
    ]))
}
