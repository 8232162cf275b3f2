//! The command line as a whole.

use std::path::PathBuf;

use clap::{ArgAction, Parser, Subcommand};

use crate::commands::{completions, config, doctor, gateway, man, sessions, token};

/// Expiring, rotating, revocable sessions per device, in place of one static token.
#[derive(Parser)]
#[command(name = "tenure", version, max_term_width = 100, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  tenure token issue --device-id laptop --output token.txt
  tenure token verify < token.txt
  tenure sessions list
  tenure sessions revoke k3f9

Exit codes:
  0 done   1 failure   2 wrong usage or settings   3 no such session
  4 token refused   5 store unavailable   6 store corrupt   130 interrupted";

/// Options of every command.
// No `Debug` here nor around it: a URL may hold a password.
#[derive(Clone, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Which store keeps the sessions [env: TENURE_BACKEND] [default: json]
    #[arg(long, global = true, value_name = "NAME", value_parser = ["json", "redis"])]
    pub(crate) backend: Option<String>,
    /// The file of the json backend [env: TENURE_STORE] [default: $XDG_STATE_HOME/tenure/sessions.jsonl]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) store: Option<String>,
    /// The Redis server, Sentinels or cluster [env: TENURE_REDIS_URL] [default: redis://127.0.0.1:6379]
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) redis_url: Option<String>,
    /// When redis acknowledges a change: once the server has it, or a replica too [default: local]
    #[arg(long, global = true, value_name = "WHEN", value_parser = ["local", "replicated"])]
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

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Issue, verify, rotate and inspect tokens
    #[command(subcommand, disable_help_subcommand = true)]
    Token(token::TokenCommand),
    /// List, show, revoke, clean up and move sessions
    #[command(subcommand, disable_help_subcommand = true)]
    Sessions(sessions::SessionsCommand),
    /// Stand in front of a service and let only valid sessions through
    #[command(after_help = gateway::EXAMPLES)]
    Gateway(Box<gateway::GatewayArgs>),
    /// Show, check and edit the settings
    #[command(subcommand, disable_help_subcommand = true)]
    Config(config::ConfigCommand),
    /// Check settings, gateway, store, permissions and clock, and suggest fixes
    Doctor(doctor::DoctorArgs),
    /// Print shell completions
    Completions(completions::CompletionsArgs),
    /// Print the manual page
    Man(man::ManArgs),
    /// Write what the repository keeps a copy of
    #[command(subcommand, hide = true, disable_help_subcommand = true)]
    Generate(GenerateCommand),
}

/// What to generate.
#[derive(Debug, Subcommand)]
pub(crate) enum GenerateCommand {
    /// The reference of all commands, in Markdown
    CliReference,
    /// What the gateway sets, removes and passes, in Markdown
    HeaderTable,
    /// The OpenAPI description of the HTTP API, in JSON
    Openapi,
}
