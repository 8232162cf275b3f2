//! `tenure completions`

use clap::Command;
use clap_complete::Shell;

use crate::error::CliError;
use crate::output::Output;

/// Print shell completions.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tenure completions bash > ~/.local/share/bash-completion/completions/tenure")]
pub(crate) struct CompletionsArgs {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &CompletionsArgs, mut command: Command, out: Output) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "tenure", &mut script);
    out.data(&String::from_utf8_lossy(&script))
}
