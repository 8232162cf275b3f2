//! `tenure sessions export`

use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use tenure_service::SessionRecord;

use crate::atomic_file::Prepared;
use crate::backends::Store;
use crate::error::CliError;
use crate::output::Output;
use crate::output::format;
use crate::output::progress::Progress;
use crate::signals;

pub(super) const EXAMPLES: &str = "\
One session a line, with the digests of its secrets and never a token. Before a move, stop
everything that writes to the store: what changes during an export may or may not be in it.

Examples:
  tenure sessions export sessions.export.jsonl
  tenure sessions export | tenure --backend redis sessions import -";

/// Write all sessions as JSON lines, for another store.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// The file to write, with mode 0600 [default: standard output]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) async fn run(
    args: &ExportArgs,
    Store { sessions, location: from }: &Store,
    out: Output,
) -> Result<(), CliError> {
    let progress = Progress::new(out, "exporting", None);
    let count = match &args.file {
        None => {
            let mut stdout = BufWriter::new(std::io::stdout().lock());
            stopping(sessions.export(&mut stdout, |done| progress.at(done)), &progress).await?
        }
        Some(place) => {
            let mut prepared = Prepared::beside(place)?;
            let mut writer = BufWriter::new(prepared.writer());
            let count = stopping(sessions.export(&mut writer, |done| progress.at(done)), &progress).await?;
            drop(writer);
            prepared.sync()?;
            verify(&mut prepared, place, count)?;
            prepared.put()?;
            count
        }
    };
    drop(progress);
    match &args.file {
        Some(place) if out.json => out.value(&json!({ "exported": count, "file": place.display().to_string() }))?,
        Some(place) => out.note(format_args!("exported {} to {}", format::sessions(count), place.display())),
        None => out.note(format_args!("exported {}", format::sessions(count))),
    }
    if count == 0 {
        out.note(format_args!("there are no sessions in {from}"));
    }
    Ok(())
}

async fn stopping(
    work: impl Future<Output = Result<u64, tenure_service::ExportError>>,
    progress: &Progress,
) -> Result<u64, CliError> {
    match signals::unless_stopped(work).await {
        Some(outcome) => Ok(outcome?),
        None => Err(signals::stopped(format_args!(
            "the export is incomplete, {} {} written; the store is unchanged",
            format::sessions(progress.done()),
            format::agreeing(progress.done(), "was", "were")
        ))),
    }
}

/// Reads the export back and checks that it has all sessions and can be imported.
fn verify(prepared: &mut Prepared, place: &Path, count: u64) -> Result<(), CliError> {
    let failed = |problem: &dyn std::fmt::Display| {
        CliError::Failed(format!("{}: the export could not be verified: {problem}", place.display()))
    };
    let mut text = String::new();
    let file = prepared.writer();
    let read = file.flush().and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.read_to_string(&mut text));
    read.map_err(|error| failed(&error))?;
    let mut lines = 0;
    for line in text.lines() {
        lines += 1;
        SessionRecord::parse(lines, line).map_err(|error| failed(&error))?;
    }
    if lines == count {
        Ok(())
    } else {
        Err(failed(&format!("{} for {}", format::counted(lines, "line"), format::sessions(count))))
    }
}
