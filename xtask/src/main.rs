//! The development commands: `cargo xtask ci` and its parts.

mod cargo;
mod check;
mod ci;
mod docs;
mod experiments;
mod layers;
mod tools;

use std::process::ExitCode;

/// What went wrong, as a sentence for the developer: what happened, to what, and what to do.
type Result<T> = std::result::Result<T, String>;

/// What came of a check that needs something from outside.
pub(crate) enum Looked {
    /// It was made, and found nothing.
    Clean,
    /// It could not be made.
    NotChecked(String),
}

const USAGE: &str = "\
Usage: cargo xtask <command>

Commands:
  check         run the quick checks, before a commit (about a minute)
  ci            run every check that a change has to pass
  layers        check which crate and file may need which, old names and unused dependencies
  docs          write the generated files
  docs --check  fail if a generated file differs from what would be written, or docs/security.md names no test for a claim
  packages      package the published libraries and build each from its package (a minute; nothing is uploaded)
  bench         measure, each thing beside its bare floor (minutes)
  faults        kill, stop, fill up and damage what a store lives on (an hour or more)
  openclaw      run the real OpenClaw, from npm, behind the gateway (minutes)
  proxies       run the real Traefik and Envoy, from PyPI, before the gateway
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.as_slice() {
        ["check"] => return check::run(),
        ["ci"] => return ci::run(),
        ["layers"] => layers::run(),
        ["docs"] => docs::write(),
        ["docs", "--check"] => docs::check(),
        ["packages"] => ci::packages::check(),
        ["bench"] => experiments::bench(),
        ["faults"] => experiments::faults(),
        ["openclaw"] => experiments::openclaw::run(),
        ["proxies"] => experiments::proxies::run(),
        [] | ["-h" | "--help" | "help", ..] | [_, "-h" | "--help"] => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        unknown => {
            eprint!("error: unknown command `{}`\n\n{USAGE}", unknown.join(" "));
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
