//! Passwords and certificates: read again for each connection, since their files change while the program runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redis::RedisConnectionInfo;
use rustls::ClientConfig;
use zeroize::Zeroizing;

use crate::tls::{self, TlsFiles};
use crate::trouble::Trouble;

/// What is wrong with a setting: its name, and the problem.
pub(crate) type Problem = (&'static str, String);

/// Where what it takes to be let in is kept. Has no `Debug`: it may hold a password.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    pub(crate) username: Option<String>,
    /// Of the URL; a file comes before it.
    pub(crate) password: Option<Zeroizing<String>>,
    /// A file with the password, and the setting that names it.
    pub(crate) password_file: Option<(&'static str, PathBuf)>,
    pub(crate) database: i64,
    /// Where TLS is spoken.
    pub(crate) tls: Option<TlsFiles>,
}

/// What it takes to be let in, as it was just read.
pub(crate) struct Entry {
    pub(crate) sign_in: RedisConnectionInfo,
    pub(crate) tls: Option<Arc<ClientConfig>>,
}

impl Secrets {
    pub(crate) fn have_password(&self) -> bool {
        self.password.is_some() || self.password_file.is_some()
    }

    /// Reads the files.
    ///
    /// # Errors
    /// [`Problem`] that never repeats what a file holds.
    pub(crate) fn read(&self) -> Result<Entry, Problem> {
        // The name of a library is nothing that a server has to know, nor a right that a user has to have.
        let mut sign_in = RedisConnectionInfo::default().set_db(self.database).set_skip_set_lib_name();
        if let Some(username) = &self.username {
            sign_in = sign_in.set_username(username);
        }
        let read = |(setting, file): &(_, PathBuf)| read_password(file).map_err(|message| (*setting, message));
        let from_file = self.password_file.as_ref().map(read).transpose()?;
        if let Some(password) = from_file.as_ref().or(self.password.as_ref()) {
            sign_in = sign_in.set_password(password.as_str());
        }
        let tls = self.tls.as_ref().map(tls::config).transpose()?;
        Ok(Entry { sign_in, tls })
    }

    /// Reads the files beside other work.
    pub(crate) async fn read_again(&self) -> Result<Entry, Trouble> {
        let secrets = self.clone();
        let read = tokio::task::spawn_blocking(move || secrets.read()).await;
        let read = read.map_err(|error| Trouble::Unsent(format!("the settings' files could not be read: {error}")))?;
        read.map_err(|(setting, message)| Trouble::Unsent(format!("{setting}: {message}")))
    }
}

/// Checks that a file holds a password: its first line.
///
/// # Errors
/// What is wrong with the file, without what it holds.
pub fn check_password_file(file: &Path) -> Result<(), String> {
    read_password(file).map(drop)
}

fn read_password(file: &Path) -> Result<Zeroizing<String>, String> {
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.map_err(|error| format!("could not read {}: {error}", file.display()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(Zeroizing::new(line.to_owned())),
        _ => Err(format!("{}: its first line is empty; write the password there", file.display())),
    }
}

#[cfg(test)]
mod tests {
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
            assert_eq!(secrets.read().ok().unwrap().sign_in.password(), Some(password));
        }
        for bad in [&b""[..], b"\nhunter2\n", b"hunter2\xff\n"] {
            std::fs::write(&file, bad).unwrap();
            let (setting, message) = secrets.read().err().unwrap();
            assert_eq!(setting, "redis.password_file");
            assert!(message.contains("password") && !message.contains("hunter2"), "{message}");
        }
    }
}
