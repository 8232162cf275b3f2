//! Checks on the arguments before they are parsed. Parsing may already print, so a token among the arguments must be
//! refused first, and `--color` must be known.

use std::ffi::OsString;

use crate::error::CliError;
use crate::output::masking;

/// Refuses a token among the arguments, whatever it was meant for. Every process on the machine can read the arguments,
/// and shells keep them in their history.
///
/// # Errors
/// [`CliError::Usage`] without the token.
pub(crate) fn refuse_token(arguments: &[OsString]) -> Result<(), CliError> {
    let texts = arguments.iter().map(|argument| argument.to_string_lossy());
    let Some(session) = texts.into_iter().find_map(|text| masking::token_in(&text).map(masking::session_of)) else {
        return Ok(());
    };
    let revoke = session.map_or_else(String::new, |id| format!(": tenure sessions revoke {id}"));
    Err(CliError::Usage(format!(
        "there is a token among the arguments, where other processes and the shell's history can read it: treat it as \
         exposed, and revoke its session{revoke}; pass tokens on standard input (tenure token verify < token.txt) or \
         in TENURE_TOKEN"
    )))
}

/// Returns the value of `--color`, wherever it is among the arguments.
pub(crate) fn color(arguments: &[OsString]) -> clap::ColorChoice {
    let mut choice = clap::ColorChoice::Auto;
    let mut arguments = arguments.iter().take_while(|argument| *argument != "--").map(|text| text.to_str());
    while let Some(argument) = arguments.next() {
        let value = match argument {
            Some("--color") => arguments.next().flatten(),
            Some(text) => text.strip_prefix("--color="),
            None => None,
        };
        choice = match value {
            Some("always") => clap::ColorChoice::Always,
            Some("never") => clap::ColorChoice::Never,
            // The parser reports an invalid value.
            Some(_) => clap::ColorChoice::Auto,
            None => choice,
        };
    }
    choice
}

/// Returns the arguments without `--color` if the command is `help`, which accepts no flags.
pub(crate) fn for_help(arguments: Vec<OsString>) -> Vec<OsString> {
    if !arguments.iter().any(|argument| argument == "help") {
        return arguments;
    }
    let mut kept = Vec::with_capacity(arguments.len());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        if text == "--color" {
            arguments.next();
        } else if !text.starts_with("--color=") {
            kept.push(argument);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn colour_is_found_wherever_it_stands() {
        use clap::ColorChoice::{Always, Auto, Never};
        for (line, wanted) in [
            ("sessions list", Auto),
            ("--color never sessions list", Never),
            ("sessions list --color=never", Never),
            ("help token issue --color always", Always),
            ("--color always --color never", Never),
            ("--color", Auto),
            ("--color pink", Auto),
            ("sessions show -- --color never", Auto),
        ] {
            assert_eq!(color(&words(line)), wanted, "{line}");
        }
    }
}
