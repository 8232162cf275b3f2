//! Delivery of a new token: on standard output, or in a file that is written whole or not at all.

use std::path::Path;

use tenure_domain::TokenText;

use crate::atomic_file::Prepared;
use crate::error::CliError;
use crate::output::Output;

/// A new token and its destination. If that is a file, it is written and synced before the token becomes valid, and renamed
/// to its destination afterwards.
pub(super) struct HandOver<'a> {
    text: TokenText,
    output: Option<&'a Path>,
    file: Option<Prepared>,
}

impl<'a> HandOver<'a> {
    /// Prepares the delivery, and writes the file if there is one.
    ///
    /// # Errors
    /// [`CliError::Failed`].
    pub(super) fn prepare(text: TokenText, output: Option<&'a Path>) -> Result<Self, CliError> {
        let file = output.map(|place| Prepared::with(place, format!("{}\n", text.expose()).as_bytes())).transpose()?;
        Ok(Self { text, output, file })
    }

    /// Renames the file to its destination. `what` says what has been changed, for the error.
    ///
    /// # Errors
    /// [`CliError::Failed`] that names the file with the token.
    pub(super) fn put(&mut self, what: &str) -> Result<(), CliError> {
        self.file.take().map_or(Ok(()), |file| {
            file.put().map_err(|failure| {
                CliError::Failed(format!("{failure}; {what}, and the token is in the first file named"))
            })
        })
    }

    /// Returns the token for standard output; `None` if it is delivered in a file.
    pub(super) fn printed(&self) -> Option<&str> {
        self.output.is_none().then(|| self.text.expose())
    }

    /// Returns the path of the file with the token.
    pub(super) fn output(&self) -> Option<String> {
        self.output.map(|place| place.display().to_string())
    }

    /// Keeps a token that may or may not be valid, so that it is not lost, and returns where it is.
    ///
    /// # Errors
    /// [`CliError`] as from [`Output::data`].
    pub(super) fn rescue(self, out: Output) -> Result<String, CliError> {
        match self.file {
            Some(file) => Ok(file.keep()),
            None => {
                out.data(&format!("{}\n", self.text.expose()))?;
                Ok("on standard output".to_owned())
            }
        }
    }
}
