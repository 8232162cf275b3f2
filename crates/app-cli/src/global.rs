//! The options that every command has.

use std::path::PathBuf;

use clap::ArgAction;

use crate::backends::BackendKind;
use crate::settings::{Choice as _, Durability};

/// The options that every command has.
// Neither this nor a type that contains it derives `Debug`: a URL may hold a password.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Which store keeps the sessions [env: TENURE_BACKEND] [default: json]
    #[arg(long, global = true, value_name = "NAME", value_parser = BackendKind::NAMES)]
    pub(crate) backend: Option<String>,
    /// The file of the json backend [env: TENURE_STORE] [default: $XDG_STATE_HOME/tenure/sessions.jsonl]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) store: Option<String>,
    /// The Redis server, Sentinels or cluster [env: TENURE_REDIS_URL] [default: redis://127.0.0.1:6379]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) redis_url: Option<String>,
    /// When redis acknowledges a change: once the server has it, or a replica too [default: local]
    #[arg(long, global = true, value_name = "WHEN", value_parser = Durability::NAMES.to_vec())]
    pub(crate) durability: Option<String>,
    /// Settings file [env: TENURE_CONFIG] [default: $XDG_CONFIG_HOME/tenure/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print JSON on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours (NO_COLOR and CLICOLOR_FORCE are respected)
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto", value_parser = ["auto", "always", "never"])]
    color: String,
    /// Log what happens to standard error; repeat for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Print only errors to standard error
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
}
