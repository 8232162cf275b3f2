//! `tenure generate cli-reference`: docs/cli.md, from the same definitions as --help.

use std::fmt::Write as _;

use clap::{Arg, Command};

use crate::error::CliError;
use crate::output::Output;

const HEADER: &str = "\
<!-- Written by `cargo xtask docs` from `tenure generate cli-reference`: change the commands, not this file. -->
# The `tenure` command
";

pub(crate) fn run(mut command: Command, out: Output) -> Result<(), CliError> {
    command.build();
    let mut text = HEADER.to_owned();
    section(&mut text, &command, "tenure", 1);
    out.data(&text)
}

fn section(text: &mut String, command: &Command, name: &str, depth: usize) {
    if depth > 1 {
        let _ = writeln!(text, "\n{} `{name}`", "#".repeat(depth.min(4)));
    }
    if let Some(about) = command.get_about() {
        let _ = writeln!(text, "\n{about}.");
    }
    if !command.has_subcommands() {
        let usage = command.clone().render_usage().to_string();
        let _ = writeln!(text, "\n```text\n{}\n```", usage.trim_start_matches("Usage: "));
    }
    let own = |arg: &&Arg| !arg.is_hide_set() && (depth == 1 || !arg.is_global_set());
    let own: Vec<&Arg> = command
        .get_arguments()
        .filter(own)
        .filter(|arg| !matches!(arg.get_id().as_str(), "help" | "version"))
        .collect();
    if !own.is_empty() {
        let title = if depth == 1 { "Global option" } else { "Argument" };
        let _ = writeln!(text, "\n| {title} | |\n|---|---|");
        for arg in own {
            row(text, arg);
        }
    }
    if let Some(after) = command.get_after_help() {
        let _ = writeln!(text, "\n```text\n{}\n```", after.to_string().trim());
    }
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
        section(text, below, &format!("{name} {}", below.get_name()), depth + 1);
    }
}

fn row(text: &mut String, arg: &Arg) {
    let value = arg.get_value_names().map(|names| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" "));
    let value = value.filter(|_| arg.get_action().takes_values());
    let name = match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("-{short}, --{long}"),
        (None, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, None) => String::new(),
    };
    let shown =
        [name, value.unwrap_or_default()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let words: Vec<String> = match arg.get_action().takes_values() {
        true => arg.get_possible_values().iter().map(|word| format!("`{}`", word.get_name())).collect(),
        false => Vec::new(),
    };
    if !words.is_empty() {
        let _ = write!(help, ": {}", words.join(", "));
    }
    let _ = writeln!(text, "| `{shown}` | {} |", help.replace('|', "\\|"));
}
