//! The json backend: one journal file.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use tempfile::TempDir;
use tenure_adapter_json::{ClockSkew, JsonStore, Loss, Options, RepairPlan, Repairer};
use tenure_ports::Diagnosis;
use tenure_service::rfc3339;

use super::{Driver, IfMissing, OpenBackend};
use crate::error::CliError;
use crate::output::Output;
use crate::output::format;
use crate::settings::Settings;
use tenure_ports::SystemClock;

/// The driver of the json backend.
pub(super) struct Json;

#[async_trait(?Send)]
impl Driver for Json {
    fn description(&self) -> &'static str {
        "sessions are kept in a file (backend json)"
    }

    fn location(&self, settings: &Settings) -> Result<String, CliError> {
        Ok(file(settings)?.display().to_string())
    }

    async fn open(&self, settings: &Settings, missing: IfMissing, out: Output) -> Result<OpenBackend, CliError> {
        let path = file(settings)?;
        let temporary = if missing == IfMissing::Simulate && !path.exists() {
            out.note(format_args!("there is no store {} yet: the import creates it", path.display()));
            Some(TempDir::new().map_err(|error| CliError::Failed(format!("could not make a directory: {error}")))?)
        } else {
            None
        };
        let path = temporary.as_ref().map_or(path, |directory| directory.path().join("sessions.jsonl"));
        tracing::info!(path = %path.display(), "opening the store");
        let create = missing == IfMissing::Create || temporary.is_some();
        let store = JsonStore::open(&path, Arc::new(SystemClock), Options { create, ..Options::default() })?;
        if store.was_created() && temporary.is_none() {
            out.note(format_args!("created a new store: {}", path.display()));
        }
        Ok(OpenBackend { backend: store, _temporary: temporary })
    }

    /// Returns `false`: a damaged JSON store does not open, and reading all of it again takes time.
    fn is_examined_at_start(&self) -> bool {
        false
    }

    async fn diagnose(&self, settings: &Settings) -> Result<(Vec<Diagnosis>, bool), CliError> {
        let path = file(settings)?;
        let found = tenure_adapter_json::diagnose(&path, Arc::new(SystemClock));
        Ok((found, !path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound)))
    }

    fn plan_repair(&self, settings: &Settings) -> Result<Option<Repair>, CliError> {
        Ok(repairer(settings)?.plan()?.map(Repair))
    }
}

/// Returns the absolute path of the file, so that messages show which directory a relative path starts from.
///
/// # Errors
/// [`CliError`] if the settings name no file.
fn file(settings: &Settings) -> Result<PathBuf, CliError> {
    let path = settings.store()?;
    Ok(std::path::absolute(&path).unwrap_or(path))
}

/// The most findings, and the most ids, that a person is shown.
const SHOWN: usize = 40;

/// A repair that is planned or done.
pub(crate) struct Repair(RepairPlan);

impl Repair {
    /// Repairs the store exactly as [`Repair::describe`] says.
    ///
    /// # Errors
    /// [`CliError`] if the repair fails, or the store has changed since it was planned.
    pub(crate) fn carry_out(&self, settings: &Settings) -> Result<(), CliError> {
        Ok(repairer(settings)?.execute(&self.0)?)
    }

    /// Returns the path at which the original file is kept.
    pub(crate) fn backup(&self) -> String {
        self.0.backup.display().to_string()
    }

    /// Returns the repair as JSON, for scripts, once it is done.
    pub(crate) fn json(&self) -> Value {
        let Self(plan) = self;
        json!({
            "what": plan.losses.iter().map(loss).chain(plan.clock.iter().map(clock)).collect::<Vec<_>>(),
            "lost": plan.lost(),
            "ended": plan.ended.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "kept": plan.kept,
            "backup": self.backup(),
        })
    }

    /// Returns what the repair would do, one fact on each line, for the person who has to agree.
    pub(crate) fn describe(&self) -> Vec<String> {
        let Self(plan) = self;
        let mut lines: Vec<String> = plan.losses.iter().take(SHOWN).map(loss).collect();
        if plan.losses.len() > SHOWN {
            lines.push(format!("… and {} like these", format::counted(plan.losses.len() - SHOWN, "more finding")));
        }
        if !plan.ended.is_empty() {
            let ids = format::ids(&plan.ended[..plan.ended.len().min(SHOWN)]);
            let more = if plan.ended.len() > SHOWN { " …" } else { "" };
            let count = plan.ended.len();
            lines.push(format!(
                "{} would be ended, because {} may be among the lost lines: {ids}{more}",
                format::sessions(count),
                format::agreeing(count, "its revocation", "their revocations")
            ));
        }
        if plan.unnamed {
            lines.push(
                "what is lost does not name its sessions; if it may include a revocation: tenure sessions revoke --all"
                    .to_owned(),
            );
        }
        lines.extend(plan.clock.iter().map(clock));
        if plan.lost() > 0 {
            lines.push(format!("{} would be lost", format::counted(plan.lost(), "transaction")));
        }
        let sessions = format::sessions(plan.kept);
        lines.push(format!(
            "{sessions} would be kept; the original file of {} would be kept as {}",
            format::counted(plan.size, "byte"),
            plan.backup.display()
        ));
        lines
    }
}

fn repairer(settings: &Settings) -> Result<Repairer, CliError> {
    Ok(Repairer::new(&file(settings)?, Arc::new(SystemClock), &settings.policy()))
}

fn loss(loss: &Loss) -> String {
    match loss {
        Loss::BitRepaired { line } => {
            format!("line {line}: one bit has changed; it would be corrected, and nothing is lost")
        }
        Loss::MissingNewline { line } => format!("line {line}: only its newline is missing; it would be added"),
        Loss::Torn { offset, bytes } => format!(
            "{} after byte {offset}: a write was cut off there, so it was never acknowledged; {} would be dropped",
            format::counted(*bytes, "byte"),
            format::agreeing(*bytes, "it", "they")
        ),
        Loss::Dropped { line: 1, .. } => "line 1: the file's header is damaged; it would be rewritten".to_owned(),
        Loss::Dropped { line, offset, bytes, message, sessions } => {
            let names = match &sessions[..] {
                [] => "it names no readable session".to_owned(),
                ids => format!("it names {}", format::ids(&ids[..ids.len().min(SHOWN)])),
            };
            let bytes = match *bytes {
                0 => "whole".to_owned(),
                bytes => format!("{} at byte {offset}", format::counted(bytes, "byte")),
            };
            format!("line {line} ({bytes}): {message}; it would be dropped, {names}")
        }
        Loss::Missing { from, to } if from == to => format!("transaction {from} is missing"),
        Loss::Missing { from, to } => format!("transactions {from} to {to} are missing"),
        Loss::Skipped { line, message } => format!("line {line}: {message}; that part would be dropped"),
    }
}

fn clock(skew: &ClockSkew) -> String {
    let since = if skew.restarted {
        "the last time recorded before the machine restarted"
    } else {
        "the last time recorded, by a clock that was once ahead"
    };
    let mut text = format!(
        "the clock is behind {}, {since}; it would be accepted: sessions that had expired by the recorded time are \
         valid again until they expire by this clock",
        rfc3339(skew.recorded)
    );
    if skew.early > 0 {
        let count = format::sessions(skew.early);
        text += &format!(
            "; {count} would stay valid until as late as {}, because {} issued or rotated at that later time (revoke {} \
             if that is too long)",
            rfc3339(skew.until),
            format::agreeing(skew.early, "it was", "they were"),
            format::agreeing(skew.early, "it", "them")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use tenure_domain::{SessionId, Timestamp};

    use super::*;

    fn told(count: u64) -> Vec<String> {
        let id: SessionId = "a23jkm69n73pq0nr1q71".parse().unwrap();
        let losses = vec![Loss::Torn { offset: 7, bytes: count }, Loss::Missing { from: 1, to: count }];
        let ended = vec![id; usize::try_from(count).unwrap()];
        Repair(RepairPlan { losses, ended, unnamed: false, clock: None, kept: count, size: count, backup: "/b".into() })
            .describe()
    }

    #[test]
    fn a_repair_is_told_in_good_english_whatever_the_counts() {
        let cut_off = "a write was cut off there, so it was never acknowledged";
        assert_eq!(
            told(1),
            [
                &format!("1 byte after byte 7: {cut_off}; it would be dropped"),
                "transaction 1 is missing",
                "1 session would be ended, because its revocation may be among the lost lines: a23jkm69n73pq0nr1q71",
                "1 transaction would be lost",
                "1 session would be kept; the original file of 1 byte would be kept as /b",
            ]
        );
        assert_eq!(
            told(2),
            [
                &format!("2 bytes after byte 7: {cut_off}; they would be dropped"),
                "transactions 1 to 2 are missing",
                "2 sessions would be ended, because their revocations may be among the lost lines: \
                 a23jkm69n73pq0nr1q71, a23jkm69n73pq0nr1q71",
                "2 transactions would be lost",
                "2 sessions would be kept; the original file of 2 bytes would be kept as /b",
            ]
        );
        let many = u64::try_from(SHOWN).unwrap() + 1;
        let losses = vec![Loss::MissingNewline { line: 1 }; SHOWN + 1];
        let plan = RepairPlan {
            losses,
            ended: Vec::new(),
            unnamed: false,
            clock: None,
            kept: many,
            size: many,
            backup: "/b".into(),
        };
        assert!(Repair(plan).describe().contains(&"… and 1 more finding like these".to_owned()));
    }

    #[test]
    fn a_clock_that_is_behind_is_told_in_good_english() {
        let skew = |early| ClockSkew { recorded: Timestamp::EPOCH, restarted: false, early, until: Timestamp::EPOCH };
        assert!(!clock(&skew(0)).contains("would stay valid"));
        assert!(clock(&skew(1)).ends_with(
            "; 1 session would stay valid until as late as 1970-01-01T00:00:00.000Z, because it was issued or rotated \
             at that later time (revoke it if that is too long)"
        ));
        assert!(clock(&skew(2)).contains("because they were issued") && clock(&skew(2)).contains("(revoke them"));
    }
}
