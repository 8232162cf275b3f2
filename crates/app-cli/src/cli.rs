//! The command line: the global options and all commands.

pub(crate) mod arguments;

use clap::{Parser, Subcommand};

use crate::commands::{completions, config, doctor, gateway, man, sessions, token};
use crate::global::Global;

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

/// The command to run.
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

/// The file to generate for the repository.
#[derive(Debug, Subcommand)]
pub(crate) enum GenerateCommand {
    /// The reference of all commands, in Markdown
    CliReference,
    /// What the gateway sets, removes and passes, in Markdown
    HeaderTable,
    /// The OpenAPI description of the HTTP API, in JSON
    Openapi,
}
