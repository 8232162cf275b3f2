//! The error for a setting of the Redis store that cannot be used.

use std::error::Error;
use std::fmt;

use tenure_ports::{ErrorSource, StoreError};

/// A setting of the Redis store that cannot be used, such as a password file that cannot be read. The message never
/// repeats a password or what a file holds.
#[derive(Debug)]
pub struct SettingError {
    /// The setting's full name, such as `redis.tls_ca`.
    pub setting: &'static str,
    /// What is wrong with the setting's value, and what the setting takes.
    pub message: String,
    source: Option<std::io::Error>,
}

impl SettingError {
    pub(crate) fn new(setting: &'static str, message: impl Into<String>) -> Self {
        Self { setting, message: message.into(), source: None }
    }

    /// Keeps the error of a file that cannot be read.
    pub(crate) fn with_source(self, source: std::io::Error) -> Self {
        Self { source: Some(source), ..self }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.message)
    }
}

impl Error for SettingError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as &(dyn Error + 'static))
    }
}

impl From<SettingError> for StoreError {
    fn from(error: SettingError) -> Self {
        let described = Self::unavailable(error.setting, error.message);
        match error.source {
            Some(source) => described.with_source(ErrorSource::new(source)),
            None => described,
        }
    }
}
