//! How a new token reaches its owner: on standard output, or in a file that is whole or not there.

use std::path::Path;

use tenure_domain::TokenText;

use crate::atomic_file::Prepared;
use crate::error::CliError;
use crate::output::Output;

/// A new token on its way. Its file, where one is wanted, is written and synced before the token holds, and put into its
/// place after.
pub(super) struct HandOver<'a> {
    text: TokenText,
    output: Option<&'a Path>,
    file: Option<Prepared>,
}

impl<'a> HandOver<'a> {
    /// Writes the file, if one is wanted.
    ///
    /// # Errors
    /// [`CliError::Failed`].
    pub(super) fn prepare(text: TokenText, output: Option<&'a Path>) -> Result<Self, CliError> {
        let file = output.map(|place| Prepared::with(place, format!("{}\n", text.expose()).as_bytes())).transpose()?;
        Ok(Self { text, output, file })
    }

    /// Puts the file into its place; `what` says what was made by now.
    ///
    /// # Errors
    /// [`CliError::Failed`], which names where the token is.
    pub(super) fn put(&mut self, what: &str) -> Result<(), CliError> {
        self.file.take().map_or(Ok(()), |file| {
            file.put().map_err(|failure| {
                CliError::Failed(format!("{failure}; {what}, and the token is in the first file named"))
            })
        })
    }

    /// What standard output gets: nothing where a file has it.
    pub(super) fn printed(&self) -> Option<&str> {
        self.output.is_none().then(|| self.text.expose())
    }

    /// The file that has it.
    pub(super) fn output(&self) -> Option<String> {
        self.output.map(|place| place.display().to_string())
    }

    /// Nobody can tell whether the token holds, so it must not be lost: where it is.
    ///
    /// # Errors
    /// As [`Output::data`].
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
