//! `tenure sessions cleanup`

use serde_json::json;
use tenure_domain::Millis;

use crate::backends::Store;
use crate::error::CliError;
use crate::output::Output;
use crate::output::format;
use crate::output::progress::Progress;
use crate::signals;

pub(super) const EXAMPLES: &str = "\
Ended and expired sessions are removed automatically after session.retention; this does it now.

Examples:
  tenure sessions cleanup
  tenure sessions cleanup --older-than 7d --dry-run";

/// Remove expired and ended sessions now.
#[derive(Debug, clap::Args)]
pub(crate) struct CleanupArgs {
    /// Only those that ended at least this long ago: 36s, 12h, 7d
    #[arg(long, value_name = "DURATION")]
    older_than: Option<String>,
    /// Only count them
    #[arg(long)]
    dry_run: bool,
}

impl CleanupArgs {
    /// Parses `--older-than`.
    ///
    /// # Errors
    /// [`CliError::Usage`] that names the field.
    pub(super) fn older_than(&self) -> Result<Millis, CliError> {
        let parse = |text: &str| text.parse().map_err(|error| CliError::Usage(format!("--older-than: {error}")));
        self.older_than.as_deref().map_or(Ok(Millis::ZERO), parse)
    }
}

pub(super) async fn run(
    args: &CleanupArgs,
    older_than: Millis,
    Store { sessions, location }: &Store,
    out: Output,
) -> Result<(), CliError> {
    let progress = Progress::new(out, "removing", None);
    let work = sessions.cleanup(older_than, args.dry_run, |done| progress.at(done));
    let Some(outcome) = signals::unless_stopped(work).await else {
        let so_far = format::sessions(progress.done());
        return Err(signals::stopped(format_args!("{so_far} removed so far; run it again for the rest")));
    };
    let so_far = progress.done();
    drop(progress);
    let removed = match outcome {
        Ok(removed) => removed,
        Err(error) => {
            if so_far > 0 && !args.dry_run {
                let were = format::agreeing(so_far, "was", "were");
                out.note(format_args!("{} {were} removed before it stopped", format::sessions(so_far)));
            }
            return Err(error.into());
        }
    };
    if removed == 0 {
        out.note(format_args!("nothing to remove in {location}"));
    }
    if out.json {
        return out.value(&json!({ "removed": removed, "dryRun": args.dry_run }));
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    out.data(&format!("{verb} {}\n", format::sessions(removed)))
}
