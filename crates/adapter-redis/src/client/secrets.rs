//! Passwords and certificates: read again for each connection, since their files change while the program runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redis::RedisConnectionInfo;
use rustls::ClientConfig;
use zeroize::Zeroizing;

use crate::client::request_error::{Failure, RequestError};
use crate::client::tls::{self, TlsFiles};
use crate::setting_error::SettingError;

/// The places of the credentials. It has no `Debug`, because it may hold a password.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    pub(crate) username: Option<String>,
    /// The password in the URL. A file takes precedence.
    pub(crate) password: Option<Zeroizing<String>>,
    /// A file with the password, and the setting that names it.
    pub(crate) password_file: Option<(&'static str, PathBuf)>,
    pub(crate) database: i64,
    /// The TLS files, if TLS is used.
    pub(crate) tls: Option<TlsFiles>,
}

/// The credentials, as they were just read.
pub(crate) struct LoadedSecrets {
    pub(crate) connection_info: RedisConnectionInfo,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Secrets {
    pub(crate) fn have_password(&self) -> bool {
        self.password.is_some() || self.password_file.is_some()
    }

    /// Reads the files.
    ///
    /// # Errors
    /// [`SettingError`], which never contains what a file holds.
    pub(crate) fn read(&self) -> Result<LoadedSecrets, SettingError> {
        // The server need not know the library's name, and the user may have no right to set it.
        let mut connection_info = RedisConnectionInfo::default().set_db(self.database).set_skip_set_lib_name();
        if let Some(username) = &self.username {
            connection_info = connection_info.set_username(username);
        }
        let from_file = self.password_file.as_ref().map(|(setting, file)| read_password(setting, file)).transpose()?;
        if let Some(password) = from_file.as_ref().or(self.password.as_ref()) {
            connection_info = connection_info.set_password(password.as_str());
        }
        let tls = self.tls.as_ref().map(tls::config).transpose()?;
        Ok(LoadedSecrets { connection_info, tls })
    }

    /// Reads the files on a thread for blocking work.
    pub(crate) async fn read_again(&self) -> Result<LoadedSecrets, RequestError> {
        let secrets = self.clone();
        let read = tokio::task::spawn_blocking(move || secrets.read()).await;
        let read = read.map_err(|error| {
            let message = format!("the settings' files could not be read: {error}");
            RequestError::not_sent(Failure::new(message, error))
        })?;
        read.map_err(|error| RequestError::not_sent(Failure::new(error.to_string(), error)))
    }
}

/// Reads the password, which is the first line of the file.
fn read_password(setting: &'static str, file: &Path) -> Result<Zeroizing<String>, SettingError> {
    let text = std::fs::read_to_string(file).map(Zeroizing::new).map_err(|error| {
        SettingError::new(setting, format!("could not read {}: {error}", file.display())).with_source(error)
    })?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => {
            let message = format!("{}: its first line is empty; write the password there", file.display());
            Err(SettingError::new(setting, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn a_password_is_the_first_line_as_it_is_now_and_is_never_told() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("password");
        let secrets = Secrets {
            password: Some(Zeroizing::new("of the URL".to_owned())),
            password_file: Some(("redis.password_file", file.clone())),
            ..Secrets::default()
        };
        for (text, password) in [("one\n", "one"), ("two words\r\nmore\n", "two words"), ("three", "three")] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(secrets.read().ok().unwrap().connection_info.password(), Some(password));
        }
        for bad in [&b""[..], b"\nhunter2\n", b"hunter2\xff\n"] {
            std::fs::write(&file, bad).unwrap();
            let error = secrets.read().err().unwrap();
            assert_eq!(error.setting, "redis.password_file");
            let message = error.to_string();
            assert!(message.contains("password") && !message.contains("hunter2"), "{message}");
        }
        std::fs::remove_file(&file).unwrap();
        let error = secrets.read().err().unwrap();
        let source = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        assert_eq!(source.map(std::io::Error::kind), Some(std::io::ErrorKind::NotFound));
    }
}
