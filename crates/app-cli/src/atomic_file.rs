//! Files that are written whole or not at all: created beside their destination with mode 0600, synced, and renamed.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::CliError;

/// A file that is written beside its destination and not renamed yet.
pub(crate) struct Prepared {
    file: NamedTempFile,
    place: PathBuf,
}

fn failed(what: &str, path: &Path, error: &io::Error) -> CliError {
    CliError::Failed(format!("could not {what} {}: {error}", path.display()))
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

impl Prepared {
    /// Opens a temporary file beside `place`. If `place` exists, it must be a regular file: a link could lead anywhere.
    ///
    /// # Errors
    /// [`CliError::Failed`].
    pub(crate) fn beside(place: &Path) -> Result<Self, CliError> {
        match place.symlink_metadata() {
            Ok(found) if !found.is_file() => {
                return Err(CliError::Failed(format!("{} is not a regular file; name another path", place.display())));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("examine", place, &error)),
            _ => {}
        }
        let name =
            place.file_name().ok_or_else(|| CliError::Usage(format!("{} does not name a file", place.display())))?;
        let mut start = std::ffi::OsString::from(".");
        start.push(name);
        start.push(".");
        let file = tempfile::Builder::new().prefix(&start).suffix(".new").tempfile_in(directory(place));
        let file = file.map_err(|error| failed("create a file beside", place, &error))?;
        Ok(Self { file, place: place.to_owned() })
    }

    /// Writes and syncs a temporary file beside `place`.
    ///
    /// # Errors
    /// [`CliError`] as from [`Prepared::beside`].
    pub(crate) fn with(place: &Path, content: &[u8]) -> Result<Self, CliError> {
        let mut prepared = Self::beside(place)?;
        prepared.file.write_all(content).map_err(|error| failed("write", place, &error))?;
        prepared.sync()?;
        Ok(prepared)
    }

    /// Returns the temporary file, for writing.
    pub(crate) fn writer(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Syncs the temporary file and its directory to the disk.
    ///
    /// # Errors
    /// [`CliError::Failed`].
    pub(crate) fn sync(&self) -> Result<(), CliError> {
        let synced = self.file.as_file().sync_all().and_then(|()| sync_directory(&self.place));
        synced.map_err(|error| failed("write", &self.place, &error))
    }

    /// Renames the temporary file to its destination. If that fails, the file stays, and the error names it.
    ///
    /// # Errors
    /// [`CliError::Failed`].
    pub(crate) fn put(self) -> Result<(), CliError> {
        let Self { file, place } = self;
        if let Err(error) = file.persist(&place) {
            let why = error.error;
            let kept = kept(error.file);
            return Err(CliError::Failed(format!("could not rename {kept} to {}: {why}", place.display())));
        }
        sync_directory(&place).map_err(|error| failed("sync the directory of", &place, &error))
    }

    /// Keeps the temporary file and returns its path.
    pub(crate) fn keep(self) -> String {
        kept(self.file)
    }
}

fn kept(file: NamedTempFile) -> String {
    match file.keep() {
        Ok((_, path)) => path.display().to_string(),
        Err(error) => error.file.path().display().to_string(),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

/// Replaces a file, or creates it.
///
/// # Errors
/// [`CliError::Failed`].
pub(crate) fn replace(place: &Path, content: &[u8]) -> Result<(), CliError> {
    Prepared::with(place, content)?.put()
}

/// Refuses to write as root into another user's directory, since that user could not use the file.
///
/// # Errors
/// [`CliError::Failed`] with the command to use instead.
pub(crate) fn check_owner(place: &Path) -> Result<(), CliError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let place = std::path::absolute(place).map_err(|error| failed("examine", place, &error))?;
    let nearest = place.ancestors().find_map(|path| Some((path, std::fs::metadata(path).ok()?.uid())));
    match nearest {
        Some((path, owner)) if owner != 0 => Err(CliError::Failed(format!(
            "{} belongs to the user with the id {owner}, and root would leave files in it that this user cannot use; \
             run it as that user: sudo -u '#{owner}' tenure …",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Creates the directories above a file, with access for their owner alone.
///
/// # Errors
/// [`CliError::Failed`], also as from [`check_owner`].
pub(crate) fn make_directories(place: &Path) -> Result<(), CliError> {
    check_owner(place)?;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory(place));
    made.map_err(|error| failed("create the directory of", place, &error))
}

/// Creates a file with mode 0600. It must not exist yet.
///
/// # Errors
/// [`CliError::Failed`].
pub(crate) fn create(place: &Path, content: &[u8]) -> Result<(), CliError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place);
    let mut file = opened.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => CliError::Failed(format!("{} already exists; name a new file", place.display())),
        _ => failed("create", place, &error),
    })?;
    let written = file.write_all(content).and_then(|()| file.sync_all()).and_then(|()| sync_directory(place));
    written.map_err(|error| failed("write", place, &error))
}
