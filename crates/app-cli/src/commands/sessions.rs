//! `tenure sessions …`

mod cleanup;
mod export;
mod import;
mod kind;
mod list;
mod moltbot;
mod names;
mod over_cap;
mod revoke;
mod show;
mod watch;

use clap::Subcommand;

use crate::backends::{IfMissing, Store, with_store};
use crate::error::CliError;
use crate::global::Global;
use crate::output::Output;

/// List, show, revoke, clean up and move sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List sessions, newest activity first
    #[command(visible_alias = "ls", after_help = list::EXAMPLES)]
    List(list::ListArgs),
    /// Show everything that is known about a session
    #[command(after_help = show::EXAMPLES)]
    Show(show::ShowArgs),
    /// End sessions now
    #[command(after_help = revoke::EXAMPLES)]
    Revoke(revoke::RevokeArgs),
    /// Remove expired and ended sessions now
    #[command(after_help = cleanup::EXAMPLES)]
    Cleanup(cleanup::CleanupArgs),
    /// Print session events as they happen
    #[command(after_help = watch::EXAMPLES)]
    Watch(watch::WatchArgs),
    /// Write all sessions as JSON lines, for another store
    #[command(after_help = export::EXAMPLES)]
    Export(export::ExportArgs),
    /// Import sessions from an export or a Moltbot sessions.json
    #[command(after_help = import::EXAMPLES)]
    Import(import::ImportArgs),
}

pub(crate) fn run(command: SessionsCommand, global: &Global, out: Output) -> Result<(), CliError> {
    match command {
        SessionsCommand::List(args) => {
            let query = args.query()?;
            existing(global, out, async |store| list::run(&query, store, out).await)
        }
        SessionsCommand::Show(args) => {
            args.check()?;
            existing(global, out, async |store| show::run(&args, store, out).await)
        }
        SessionsCommand::Revoke(args) => {
            let cause = args.cause()?;
            let names = args.names()?;
            existing(global, out, async |store| revoke::run(&args, names, &cause, store, out).await)
        }
        SessionsCommand::Cleanup(args) => {
            let older_than = args.older_than()?;
            existing(global, out, async |store| cleanup::run(&args, older_than, store, out).await)
        }
        SessionsCommand::Watch(_) => existing(global, out, async |store| watch::run(store, out).await),
        SessionsCommand::Export(args) => existing(global, out, async |store| export::run(&args, store, out).await),
        SessionsCommand::Import(args) => {
            let source = args.read(out)?;
            let missing = if args.dry_run { IfMissing::Simulate } else { IfMissing::Create };
            with_store(global, missing, out, async |store| import::run(&args, source, &store.sessions, out).await)
        }
    }
}

/// Runs a command's work on a store that exists. In a new store there would be nothing to show and nothing to end.
fn existing(
    global: &Global,
    out: Output,
    work: impl AsyncFnOnce(&Store) -> Result<(), CliError>,
) -> Result<(), CliError> {
    with_store(global, IfMissing::Fail, out, work)
}
