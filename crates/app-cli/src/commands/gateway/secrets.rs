//! Secrets, which are read from files and never from flags or the environment.

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tenure_gateway::SharedSecret;
use tenure_ports::RandomSource as _;
use zeroize::Zeroizing;

use crate::atomic_file;
use crate::error::CliError;
use crate::output::Output;
use crate::settings::{GATEWAY, Key, SettingsError};
use tenure_ports::SystemRandom;

/// The most bytes that the file of a secret may have.
const BOUND: u64 = 4_096;
/// The fewest characters of a secret that is hard to guess.
const LEAST: usize = 16;

/// Reads the operators' secret. If there is no file, creates one with a random secret and mode 0600.
///
/// # Errors
/// [`CliError`] if it can be neither read nor created.
pub(super) fn of_operators(path: &Path, out: Output) -> Result<SharedSecret, CliError> {
    if let Err(error) = std::fs::symlink_metadata(path)
        && error.kind() == ErrorKind::NotFound
    {
        let mut random = Zeroizing::new([0; 32]);
        SystemRandom.fill(&mut *random)?;
        let hex = random.iter().fold(Zeroizing::new(String::with_capacity(65)), |mut text, byte| {
            use std::fmt::Write as _;
            let _ = write!(text, "{byte:02x}");
            text
        });
        atomic_file::make_directories(path)?;
        atomic_file::create(path, format!("{}\n", hex.as_str()).as_bytes())?;
    }
    of_tenure(&GATEWAY.admin_secret_file, path, out)
}

/// Reads a secret that gives access to Tenure itself, and so must be hard to guess.
///
/// # Errors
/// [`CliError::Settings`] that names the setting and the file.
pub(crate) fn of_tenure(key: &Key, path: &Path, out: Output) -> Result<SharedSecret, CliError> {
    let name = key.name;
    let secret = read(key, path, out)?;
    if secret.expose().len() < LEAST {
        let problem = format!(
            "{name}: {}: the secret has fewer than {LEAST} characters, so it can be guessed; make one with: openssl \
             rand -hex 32",
            path.display()
        );
        return Err(SettingsError::one(problem).into());
    }
    Ok(secret)
}

/// Reads the secret in the file that a setting names.
///
/// # Errors
/// [`CliError::Settings`] that names the setting and the file.
pub(crate) fn read(key: &Key, path: &Path, out: Output) -> Result<SharedSecret, CliError> {
    let name = key.name;
    let refuse =
        |problem: String| CliError::Settings(SettingsError::one(format!("{name}: {}: {problem}", path.display())));
    let mut file = std::fs::File::open(path).map_err(|error| refuse(format!("could not read it: {error}")))?;
    let found = file.metadata().map_err(|error| refuse(format!("could not check it: {error}")))?;
    if !found.is_file() {
        return Err(refuse("it is not a regular file".to_owned()));
    }
    if found.mode() & 0o022 != 0 {
        return Err(refuse(format!("others can write it (mode {:o}); chmod 600 it", found.mode() & 0o7777)));
    }
    if found.mode() & 0o077 != 0 {
        out.warn(format_args!("others can read {} (mode {:o}); chmod 600 it", path.display(), found.mode() & 0o7777));
    }
    let mut text = Zeroizing::new(String::new());
    let read = (&mut file).take(BOUND + 1).read_to_string(&mut text);
    read.map_err(|error| refuse(format!("could not read it: {error}")))?;
    if text.len() as u64 > BOUND {
        return Err(refuse(format!("it is longer than {BOUND} bytes")));
    }
    SharedSecret::new(&text).ok_or_else(|| refuse("it must hold one line of printable ASCII characters".to_owned()))
}
