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
    source: ErrorSource,
}

impl SettingError {
    pub(crate) fn new(setting: &'static str, message: impl Into<String>) -> Self {
        Self { setting, message: message.into(), source: ErrorSource::default() }
    }

    /// Keeps the error that caused this one, such as that of a file that cannot be read.
    pub(crate) fn with_source(self, source: impl Error + Send + Sync + 'static) -> Self {
        Self { source: ErrorSource::new(source), ..self }
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.message)
    }
}

impl Error for SettingError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.get()
    }
}

impl From<SettingError> for StoreError {
    fn from(error: SettingError) -> Self {
        Self::unavailable(error.setting, error.message).with_source(error.source)
    }
}
