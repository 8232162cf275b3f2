//! Output: data on standard output, everything else on standard error.

pub(crate) mod format;
pub(crate) mod masking;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod table;

use std::borrow::Cow;
use std::io::{ErrorKind, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;
use tenure_domain::visible;

use crate::error::CliError;
use crate::output::masking::masked;

/// The form of the output, as the global options choose it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Whether data is printed as JSON.
    pub(crate) json: bool,
    quiet: bool,
}

/// The style of headers and names.
pub(crate) const BOLD: Style = Style::new().bold();
/// The style of details.
pub(crate) const DIM: Style = Style::new().dimmed();
/// The style of good news.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// The style of warnings.
pub(crate) const CAREFUL: Style = AnsiColor::Yellow.on_default();
/// The style of errors.
pub(crate) const BAD: Style = AnsiColor::Red.on_default();

/// Returns a text in a style.
pub(crate) fn styled(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

impl Output {
    pub(crate) const fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Writes data to standard output, unchanged.
    ///
    /// # Errors
    /// [`CliError::OutputClosed`] if the reader has closed it, [`CliError::Failed`] if it cannot be written.
    pub(crate) fn data(&self, text: &str) -> Result<(), CliError> {
        let mut out = anstream::stdout().lock();
        written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
    }

    /// Writes a JSON value to standard output: with line breaks for a terminal, on one line for a pipe.
    ///
    /// # Errors
    /// [`CliError`] as from [`Output::data`].
    pub(crate) fn value(&self, value: &impl Serialize) -> Result<(), CliError> {
        let text = if std::io::stdout().is_terminal() {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        let text = text.map_err(|error| CliError::Failed(format!("could not write JSON: {error}")))?;
        self.data(&(escaped(&text) + "\n"))
    }

    /// Prints a remark on standard error, unless `--quiet` is given.
    pub(crate) fn note(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            say(&text.to_string());
        }
    }

    /// Prints a warning on standard error, unless `--quiet` is given.
    pub(crate) fn warn(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            say(&format!("{} {text}", styled(CAREFUL, "warning:")));
        }
    }

    /// Returns whether to show progress: standard error is a terminal, and `--quiet` is not given.
    pub(crate) fn is_watched(&self) -> bool {
        !self.quiet && std::io::stderr().is_terminal()
    }
}

/// Returns the same JSON with invisible characters as escapes. Names from earlier releases can contain them.
pub(crate) fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        let is_seen = c.is_ascii() || matches!(visible(c.encode_utf8(&mut [0; 4])), Cow::Borrowed(_));
        if is_seen {
            text.push(c);
        } else {
            // Outside of strings JSON is ASCII, so this is in a string.
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        }
    }
    text
}

/// Converts the outcome of a write to standard output.
///
/// # Errors
/// [`CliError::OutputClosed`] if the reader has closed it, otherwise [`CliError::Failed`].
pub(crate) fn written(outcome: std::io::Result<()>) -> Result<(), CliError> {
    outcome.map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => CliError::OutputClosed,
        _ => CliError::Failed(format!("could not write to standard output: {error}")),
    })
}

/// Prints each line as an error on standard error.
pub(crate) fn errors(text: &str) {
    for line in text.lines() {
        say(&format!("{} {line}", styled(BAD, "error:")));
    }
}

/// Prints advice about an error on standard error.
pub(crate) fn hint(text: &str) {
    say(&format!("{} {text}", styled(DIM, "hint:")));
}

fn say(line: &str) {
    // The line may quote settings, files and arguments, and any of them may hold a token by mistake. If standard error
    // cannot be written, there is nowhere left to report it.
    let _ = writeln!(anstream::stderr().lock(), "{}", masked(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_says_the_same_with_everything_seen() {
        let value = serde_json::json!({ "a\u{200b}": "\u{202e}b\u{e0041}\u{a0} \u{e9}\u{1f4f1}" });
        let text = escaped(&value.to_string());
        assert_eq!(text, "{\"a\\u200b\":\"\\u202eb\\udb40\\udc41\\u00a0 \u{e9}\u{1f4f1}\"}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
