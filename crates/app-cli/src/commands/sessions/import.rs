//! `tenure sessions import`

use std::collections::HashMap;
use std::path::PathBuf;

use serde_json::json;
use tenure_domain::Session;
use tenure_service::{ImportReport, OldCredential, SessionRecord, Sessions};

use super::kind::{self, Kind};
use super::moltbot;
use super::over_cap::{name_over_cap, over_cap_json};
use crate::error::CliError;
use crate::output::Output;
use crate::output::format;
use crate::output::progress::Progress;
use crate::{input, signals};

pub(super) const EXAMPLES: &str = "\
Reads what `tenure sessions export` wrote, or a Moltbot sessions.json. If both sides know a
session, the ended one wins. Each device is imported whole or not at all. Before a move, stop
everything that writes to either store.

The tokens in a Moltbot file are in plain text, so each session gets a new one: --tokens-out
names the file for them (0600, one JSON object a line: oldSessionId, sessionId, token).

Examples:
  tenure --backend redis sessions import sessions.export.jsonl
  tenure sessions import ~/.moltbot/sessions.json --tokens-out new-tokens.jsonl";

/// Import sessions from an export or a Moltbot sessions.json.
#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    /// The file to read; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only show what would be imported
    #[arg(long)]
    pub(super) dry_run: bool,
    /// New file for the new tokens of a Moltbot import
    #[arg(long, value_name = "FILE")]
    pub(super) tokens_out: Option<PathBuf>,
}

/// The content of a file to import.
pub(super) enum Incoming {
    Export(Vec<Session>),
    Moltbot(Vec<OldCredential>),
}

impl ImportArgs {
    /// Reads the whole file, so that an invalid line is reported before anything is imported.
    ///
    /// # Errors
    /// [`CliError::Failed`] that names the file and the line, or [`CliError::Usage`].
    pub(super) fn read(&self, out: Output) -> Result<Incoming, CliError> {
        let text = input::file(&self.file)?;
        let name = self.file.display();
        let told = |problem: String| CliError::Failed(format!("{name}: {problem}; nothing was imported"));
        let kind = kind::of(&text).map_err(told)?;
        if kind == Kind::Empty {
            if self.tokens_out.is_some() {
                return Err(told("it is empty, so it is not a Moltbot sessions.json".to_owned()));
            }
            out.warn(format_args!("{name} is empty: an export of no sessions"));
        }
        if kind == Kind::Moltbot {
            if self.tokens_out.is_none() && !self.dry_run {
                return Err(CliError::Usage(format!(
                    "{name} is a Moltbot file, whose sessions get new tokens: name a new file for them with \
                     --tokens-out FILE, or look first with --dry-run"
                )));
            }
            let sessions =
                crate::moltbot::parse(&text).map_err(|error| CliError::Failed(format!("{name}: {error}")))?;
            return Ok(Incoming::Moltbot(sessions));
        }
        if self.tokens_out.is_some() {
            return Err(CliError::Usage(format!(
                "{name} is an export, whose tokens stay valid: leave out --tokens-out"
            )));
        }
        lines(&text).map(Incoming::Export).map_err(|error| CliError::Failed(format!("{name}: {error}")))
    }
}

fn lines(text: &str) -> Result<Vec<Session>, String> {
    let mut sessions = Vec::new();
    let mut seen = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let session = SessionRecord::parse(number, line).map_err(|error| format!("{error}; nothing was imported"))?;
        if let Some(first) = seen.insert(session.id, number) {
            let id = session.id;
            return Err(format!("line {number}: session {id} is already on line {first}; nothing was imported"));
        }
        sessions.push(session);
    }
    Ok(sessions)
}

pub(super) async fn run(
    args: &ImportArgs,
    incoming: Incoming,
    sessions: &Sessions,
    out: Output,
) -> Result<(), CliError> {
    if !args.dry_run {
        out.note(
            "stop everything that writes to either store until this is done: changes made meanwhile may be missed",
        );
    }
    match incoming {
        Incoming::Moltbot(incoming) => {
            moltbot::run(args.tokens_out.as_deref(), args.dry_run, incoming, sessions, out).await
        }
        Incoming::Export(incoming) => export(incoming, args.dry_run, sessions, out).await,
    }
}

async fn export(incoming: Vec<Session>, dry_run: bool, sessions: &Sessions, out: Output) -> Result<(), CliError> {
    let total = incoming.len();
    let progress = Progress::new(out, "importing", Some(total as u64));
    let work = sessions.import(incoming, dry_run, |done| progress.at(done));
    let outcome = signals::unless_stopped(work).await;
    let done = progress.done();
    drop(progress);
    let (all, were) = (format::sessions(total), format::agreeing(total, "was", "were"));
    let so_far = format!("{done} of {all} {were} processed; run it again for the rest");
    let report = match outcome {
        None => return Err(signals::stopped(so_far)),
        Some(Err(error)) => {
            out.note(so_far);
            return Err(error.into());
        }
        Some(Ok(report)) => report,
    };
    print(&report, dry_run, out)?;
    name_over_cap(&report.over_cap);
    if !report.blocked.is_empty() {
        crate::output::errors(&format!(
            "not imported, because {} may have ended here and been removed since: {}",
            format::agreeing(report.blocked.len(), "it", "they"),
            format::ids(&report.blocked)
        ));
    }
    if !report.changed_since.is_empty() {
        out.warn(format_args!("changed by another process meanwhile: {}", format::ids(&report.changed_since)));
    }
    if report.over_cap.is_empty() && report.blocked.is_empty() { Ok(()) } else { Err(CliError::Partly) }
}

fn print(report: &ImportReport, dry_run: bool, out: Output) -> Result<(), CliError> {
    if out.json {
        return out.value(&json!({
            "taken": report.imported,
            "kept": report.already_present,
            "lapsed": report.not_retained,
            "barred": report.blocked.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "overCap": over_cap_json(&report.over_cap),
            "changedSince": report.changed_since.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "dryRun": dry_run,
        }));
    }
    let verb = if dry_run { "would import" } else { "imported and read back" };
    out.data(&format!(
        "{verb} {}; {} already known here, {} no longer retained\n",
        format::sessions(report.imported),
        report.already_present,
        report.not_retained
    ))
}
