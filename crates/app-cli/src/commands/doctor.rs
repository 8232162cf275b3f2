//! `tenure doctor`

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;

use serde_json::json;
use tenure_domain::Timestamp;
use tenure_ports::{Clock, Diagnosis, Severity};
use tenure_service::rfc3339;

use crate::backends::{self, Repair};
use crate::diagnosis::{self, diagnosis};
use crate::error::CliError;
use crate::global::Global;
use crate::output::{BAD, CAREFUL, GOOD, Output, styled};
use crate::settings::{ConfigPath, REDIS, Settings, masked};
use tenure_ports::SystemClock;

pub(crate) mod gateway;
mod repair;

/// Check settings, gateway, store, permissions and clock, and suggest fixes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Repair the json backend's file: show what would be lost, ask, and keep a copy of the original
    #[arg(long)]
    repair: bool,
    /// Do not ask
    #[arg(short, long, requires = "repair")]
    yes: bool,
}

const EXAMPLES: &str = "\
Exit code 0 if nothing fails, 5 if there is no store, 1 otherwise. Nothing is changed without
--repair and your yes.

A repair keeps every line that checks out, corrects a single changed bit, and ends the sessions
that lost lines name, since a lost line may be a revocation. It also accepts a clock that is
behind what the store has recorded.

Examples:
  tenure doctor
  tenure doctor --json | jq '.findings[] | select(.level != \"ok\")'
  tenure doctor --repair";

pub(crate) fn run(args: &DoctorArgs, global: &Global, out: Output) -> Result<(), CliError> {
    let done = if args.repair { repair::run(&Settings::load(global)?, args.yes, out)? } else { None };
    let mut findings = vec![clock()];
    let mut is_there = true;
    match Settings::load(global) {
        Ok(settings) => {
            findings.extend(config_file(global, &settings));
            findings.extend(settings.warnings().iter().map(|problem| {
                diagnosis(
                    Severity::Warning,
                    problem.as_str(),
                    "if it was meant as a setting of Tenure, correct its name; otherwise unset it",
                )
            }));
            findings.extend(gateway::examine(&settings));
            findings.extend(gateway::probe(&settings));
            let (found, exists) = backends::diagnose(&settings)?;
            findings.extend(found);
            is_there = exists;
        }
        Err(error) => {
            findings.extend(diagnosis::settings_failures(&error));
        }
    }
    print(&findings, done.as_ref(), out)?;
    match findings.iter().any(|finding| finding.severity == Severity::Failure) {
        _ if !is_there => Err(CliError::NoStore),
        true => Err(CliError::Partly),
        false => Ok(()),
    }
}

/// The start of 2025. This program is newer, so an earlier time is wrong.
const LONG_AGO: Timestamp = Timestamp::from_millis(1_735_689_600_000);
/// The start of 2100. A later time is wrong.
const FAR_OFF: Timestamp = Timestamp::from_millis(4_102_444_800_000);

fn clock() -> Diagnosis {
    let now = SystemClock.now();
    if (LONG_AGO..FAR_OFF).contains(&now) {
        return diagnosis(Severity::Ok, format!("the clock says {}", rfc3339(now)), "");
    }
    let advice = "set it (timedatectl set-ntp true); expiry depends on it";
    diagnosis(Severity::Failure, format!("the clock says {}, which cannot be right", rfc3339(now)), advice)
}

fn config_file(global: &Global, settings: &Settings) -> Vec<Diagnosis> {
    let Ok(config) = ConfigPath::find(global) else {
        return Vec::new();
    };
    let path = config.path.display();
    let Ok(found) = std::fs::metadata(&config.path) else {
        let what = format!("there is no settings file {path}: defaults apply");
        return vec![diagnosis(Severity::Ok, what, "")];
    };
    let mut findings = vec![diagnosis(Severity::Ok, format!("the settings are valid ({path})"), "")];
    if found.mode() & 0o022 != 0 {
        let what = format!("others can write {path} (mode {:o})", found.mode() & 0o7777);
        findings.push(diagnosis(Severity::Failure, what, format!("chmod 600 {path}")));
    }
    let has_password = settings.text(&REDIS.url).is_some_and(|url| masked(&url) != url);
    if has_password && found.mode() & 0o077 != 0 {
        let what = format!("{} holds a password that others may read", REDIS.url);
        let advice = format!("move it to {}, or chmod 600 {path}", REDIS.password_file);
        findings.push(diagnosis(Severity::Warning, what, advice));
    }
    findings
}

fn print(findings: &[Diagnosis], done: Option<&Repair>, out: Output) -> Result<(), CliError> {
    if out.json {
        let list = findings.iter().map(diagnosis::json);
        let ok = findings.iter().all(|finding| finding.severity != Severity::Failure);
        let mut answer = json!({ "ok": ok, "findings": list.collect::<Vec<_>>() });
        if let Some(done) = done {
            answer["repair"] = done.json();
        }
        return out.value(&answer);
    }
    let mut text = String::new();
    for Diagnosis { severity, finding, advice } in findings {
        let style = match severity {
            Severity::Ok => GOOD,
            Severity::Warning => CAREFUL,
            Severity::Failure => BAD,
        };
        let _ = writeln!(text, "{}  {finding}", styled(style, format!("{:<4}", diagnosis::code(*severity))));
        if !advice.is_empty() {
            let _ = writeln!(text, "      {advice}");
        }
    }
    out.data(&text)
}
