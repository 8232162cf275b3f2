//! `tenure sessions …`

mod cleanup;
mod export;
mod import;
mod list;
mod moltbot;
mod revoke;
mod show;
mod watch;

use clap::Subcommand;

use crate::cli::Global;
use crate::exit::Failure;
use crate::output::Output;
use crate::wiring::with_sessions;

/// List, show, revoke, clean up and move sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum SessionsCommand {
    /// List sessions, newest activity first
    #[command(visible_alias = "ls", after_help = list::EXAMPLES)]
    List(list::ListArgs),
    /// Show everything that is known of a session
    #[command(after_help = show::EXAMPLES)]
    Show(show::ShowArgs),
    /// End sessions now
    #[command(after_help = revoke::EXAMPLES)]
    Revoke(revoke::RevokeArgs),
    /// Remove expired and ended sessions now
    #[command(after_help = cleanup::EXAMPLES)]
    Cleanup(cleanup::CleanupArgs),
    /// Follow what happens to sessions, as it happens
    #[command(after_help = watch::EXAMPLES)]
    Watch(watch::WatchArgs),
    /// Write all sessions as JSON lines, for another store
    #[command(after_help = export::EXAMPLES)]
    Export(export::ExportArgs),
    /// Take over sessions from an export or a Moltbot sessions.json
    #[command(after_help = import::EXAMPLES)]
    Import(import::ImportArgs),
}

pub(crate) fn run(command: SessionsCommand, global: &Global, out: Output) -> Result<(), Failure> {
    match command {
        SessionsCommand::List(args) => {
            let query = args.query()?;
            with_sessions(global, out, async |sessions| list::run(&query, sessions, out).await)
        }
        SessionsCommand::Show(args) => {
            with_sessions(global, out, async |sessions| show::run(&args, sessions, out).await)
        }
        SessionsCommand::Revoke(args) => {
            let cause = args.cause()?;
            let names = args.names()?;
            with_sessions(global, out, async |sessions| revoke::run(&args, names, &cause, sessions, out).await)
        }
        SessionsCommand::Cleanup(args) => {
            let older_than = args.older_than()?;
            with_sessions(global, out, async |sessions| cleanup::run(&args, older_than, sessions, out).await)
        }
        SessionsCommand::Watch(_) => with_sessions(global, out, async |sessions| watch::run(sessions, out).await),
        SessionsCommand::Export(args) => {
            with_sessions(global, out, async |sessions| export::run(&args, sessions, out).await)
        }
        SessionsCommand::Import(args) => {
            let source = args.read()?;
            with_sessions(global, out, async |sessions| import::run(&args, source, sessions, out).await)
        }
    }
}
