//! Input from outside: tokens, files, and answers to questions.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::CliError;
use crate::output::Output;
use crate::output::masking::masked;

/// The most bytes that are read for a token. Every token is shorter, also with white space around it.
const TOKEN_BOUND: u64 = 4_096;
/// The most bytes that are read from a file. No file that this program reads is larger.
const FILE_BOUND: u64 = 4 << 30;

const HOW: &str = "pass it on standard input (tenure token verify < token.txt) or in TENURE_TOKEN";

/// Reads the token's text from `TENURE_TOKEN` or standard input, without trailing white space. Input that is not UTF-8
/// becomes a text that is not a token.
///
/// # Errors
/// [`CliError::Usage`] if there is no token, or one in each place.
pub(crate) fn token(out: Output) -> Result<Zeroizing<String>, CliError> {
    let text = match std::env::var_os("TENURE_TOKEN").filter(|text| !text.is_empty()) {
        Some(text) => {
            if stdin_is_a_file() {
                return Err(CliError::Usage(
                    "there are two tokens: one in TENURE_TOKEN and one on standard input; remove one".to_owned(),
                ));
            }
            tracing::info!("reading the token from TENURE_TOKEN");
            Zeroizing::new(text.to_string_lossy().into_owned())
        }
        None => from_stdin(out)?,
    };
    let trimmed = text.trim_end();
    if trimmed.is_empty() {
        return Err(CliError::Usage(format!("there is no token; {HOW}")));
    }
    Ok(Zeroizing::new(trimmed.to_owned()))
}

fn from_stdin(out: Output) -> Result<Zeroizing<String>, CliError> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        out.note("paste the token, then press Enter and Ctrl-D");
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(256));
    let read = stdin.lock().take(TOKEN_BOUND).read_to_end(&mut bytes);
    read.map_err(|error| CliError::Failed(format!("could not read standard input: {error}")))?;
    Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Returns whether standard input is a file that is not empty.
fn stdin_is_a_file() -> bool {
    let stdin = std::io::stdin().as_fd().try_clone_to_owned().map(File::from);
    stdin.and_then(|file| file.metadata()).is_ok_and(|found| found.is_file() && found.len() > 0)
}

/// Reads the text of a file. `-` is standard input.
///
/// # Errors
/// [`CliError::Failed`].
pub(crate) fn file(path: &Path) -> Result<String, CliError> {
    let failed =
        |error: &dyn std::fmt::Display| CliError::Failed(format!("could not read {}: {error}", path.display()));
    let mut text = String::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(FILE_BOUND).read_to_string(&mut text).map_err(|error| failed(&error))?;
        return Ok(text);
    }
    let file = File::open(path).map_err(|error| failed(&error))?;
    if file.metadata().is_ok_and(|found| found.len() >= FILE_BOUND) {
        return Err(failed(&"it is too large"));
    }
    file.take(FILE_BOUND).read_to_string(&mut text).map_err(|error| failed(&error))?;
    Ok(text)
}

/// Returns whether a person can answer a question: standard input and standard error are terminals.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks a yes-or-no question. Any answer but `y` or `yes` is no.
pub(crate) fn confirmed(question: &str) -> bool {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "{} [y/N] ", masked(question));
    let _ = stderr.flush();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok()
        && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}
