//! The `tenure` command: arguments, settings, backends, output.

mod atomic_file;
mod backends;
mod cli;
mod commands;
mod diagnosis;
mod error;
mod global;
mod input;
mod logging;
mod moltbot;
mod output;
mod settings;
mod signals;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _};

use cli::{Cli, Command, GenerateCommand};
use error::CliError;
use output::Output;

/// The allocator of the program. It wipes freed memory, so that no token stays in a buffer that a library has freed.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let color = cli::arguments::color(&arguments);
    match color {
        clap::ColorChoice::Always => anstream::ColorChoice::Always.write_global(),
        clap::ColorChoice::Never => anstream::ColorChoice::Never.write_global(),
        clap::ColorChoice::Auto => {}
    }
    if let Err(failure) = cli::arguments::refuse_token(&arguments) {
        return output::report::report(Err(failure));
    }
    let parsed = Cli::command().color(color).try_get_matches_from(cli::arguments::for_help(arguments));
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // --help and --version end here too, with code 0. A closed pipe does not matter.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    output::report::report(run(cli))
}

fn run(cli: Cli) -> Result<(), CliError> {
    let Cli { global, command } = cli;
    logging::start(global.verbose, global.quiet);
    let out = Output::new(global.json, global.quiet);
    match command {
        Command::Token(command) => commands::token::run(command, &global, out),
        Command::Sessions(command) => commands::sessions::run(command, &global, out),
        Command::Gateway(args) => commands::gateway::run(&args, &global, out),
        Command::Config(command) => commands::config::run(command, &global, out),
        Command::Doctor(args) => commands::doctor::run(&args, &global, out),
        Command::Completions(args) => commands::completions::run(&args, Cli::command(), out),
        Command::Man(args) => commands::man::run(&args, Cli::command(), out),
        Command::Generate(GenerateCommand::CliReference) => commands::reference::run(Cli::command(), out),
        Command::Generate(GenerateCommand::HeaderTable) => commands::fields::run(out),
        Command::Generate(GenerateCommand::Openapi) => commands::openapi::run(out),
    }
}
