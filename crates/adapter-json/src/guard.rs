//! Which files and directories may be worked on, and errors with their paths.

use std::io;
use std::path::{Path, PathBuf};

use tenure_ports::StoreError;

use crate::vfs::{Kind, Stat, Vfs};

/// What is said of a store that is not there.
const MISSING: &str = "there is no store; name the one that is meant (--store, TENURE_STORE, HOME), or make one: tenure \
                       token issue, tenure sessions import and tenure gateway do";

pub(crate) fn unavailable(path: &Path, message: impl Into<String>) -> StoreError {
    StoreError::Unavailable { location: path.display().to_string(), message: message.into() }
}

pub(crate) fn corrupt(path: &Path, line: u64, message: &str) -> StoreError {
    StoreError::Corrupt {
        location: format!("{} line {line}", path.display()),
        message: format!("{message}; nothing was changed, restore a back-up or ask `tenure doctor`"),
    }
}

/// What an I/O error means to a caller: no room is told apart.
pub(crate) fn failed(path: &Path, doing: &str, error: &io::Error) -> StoreError {
    let location = path.display().to_string();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => StoreError::Full {
            location,
            message: format!("cannot {doing}: {error}; make room, what the store holds is still served"),
        },
        io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::Unavailable { location, message: format!("cannot {doing}: the file system is read-only") }
        }
        io::ErrorKind::PermissionDenied => StoreError::Unavailable {
            location,
            message: format!("cannot {doing}: {error}; the file and its directory must belong to the user at work"),
        },
        _ => StoreError::Unavailable { location, message: format!("cannot {doing}: {error}") },
    }
}

/// The directory that holds `path`.
pub(crate) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// `path` with something added to its last part.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

/// Refuses a store that is not there.
pub(crate) fn must_exist(vfs: &dyn Vfs, path: &Path) -> Result<(), StoreError> {
    match vfs.stat(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unavailable(path, MISSING)),
        Err(error) => Err(failed(path, "look at the store", &error)),
    }
}

/// Makes the directory that holds `path`, and those above it, where they are missing; for the owner alone.
pub(crate) fn make_parents(vfs: &dyn Vfs, path: &Path) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    let mut directory = parent(path);
    loop {
        match vfs.stat(&directory) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing.push(directory.clone());
                directory = parent(&directory);
            }
            Err(error) => return Err(failed(&directory, "look at the directory", &error)),
        }
        if missing.len() > 64 {
            return Err(unavailable(path, "none of the directories above it exists"));
        }
    }
    if !missing.is_empty() {
        // What is made below somebody's directory would lock that somebody out.
        check_owner(vfs, &directory)?;
    }
    for directory in missing.iter().rev() {
        match vfs.create_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(failed(directory, "make the directory", &error)),
        }
        vfs.sync_dir(&parent(directory)).map_err(|error| failed(directory, "sync the directory above", &error))?;
    }
    Ok(())
}

/// Refuses a directory in which others could replace the store.
pub(crate) fn check_directory(vfs: &dyn Vfs, path: &Path) -> Result<(), StoreError> {
    let directory = parent(path);
    let mut stat = vfs.stat(&directory).map_err(|error| failed(&directory, "look at the directory", &error))?;
    if stat.kind == Kind::Symlink {
        // A link is fine where it leads to a directory that is: the check is of that one.
        stat = vfs.stat(&directory.join(".")).map_err(|error| failed(&directory, "look at the directory", &error))?;
    }
    if stat.kind != Kind::Directory {
        return Err(unavailable(&directory, "it is no directory"));
    }
    if stat.mode & 0o022 != 0 {
        let advice = format!(
            "others may write to the directory (mode {:04o}); chmod go-w {}, or keep the store elsewhere",
            stat.mode,
            directory.display()
        );
        return Err(unavailable(&directory, advice));
    }
    check_owner(vfs, &directory)
}

/// Refuses a directory of another user's.
fn check_owner(vfs: &dyn Vfs, directory: &Path) -> Result<(), StoreError> {
    // A link is fine where it leads to a directory that is.
    let stat = vfs.stat(&directory.join(".")).map_err(|error| failed(directory, "look at the directory", &error))?;
    let user = vfs.user();
    if stat.owner != user && stat.owner != 0 {
        return Err(foreign(user, stat.owner, directory, "directory"));
    }
    Ok(())
}

/// Refuses a file that others could read, write or have put there.
pub(crate) fn check_file(vfs: &dyn Vfs, path: &Path, stat: &Stat) -> Result<(), StoreError> {
    let user = vfs.user();
    match stat.kind {
        Kind::File => {}
        Kind::Symlink => return Err(symlink(path)),
        Kind::Directory => return Err(unavailable(path, "it is a directory; name the file in it")),
        Kind::Other => return Err(unavailable(path, "it is no regular file")),
    }
    if stat.owner != user {
        return Err(foreign(user, stat.owner, path, "file"));
    }
    if stat.mode & 0o077 != 0 {
        return Err(unavailable(
            path,
            format!(
                "others may use the file (mode {:04o}); chmod 600 {}, and revoke the sessions if others had access",
                stat.mode,
                path.display()
            ),
        ));
    }
    if stat.links > 1 {
        return Err(unavailable(path, "it has another name too (a hard link); remove that one, or copy the file"));
    }
    Ok(())
}

pub(crate) fn symlink(path: &Path) -> StoreError {
    unavailable(path, "it is a symbolic link, which somebody could turn elsewhere; name the file itself")
}

fn foreign(user: u32, owner: u32, path: &Path, what: &str) -> StoreError {
    let name = user_name(owner).unwrap_or_else(|| format!("#{owner}"));
    let message = if user == 0 {
        format!(
            "the {what} belongs to {name}, and root would leave files that {name} cannot use; run: sudo -u {name} tenure …"
        )
    } else {
        format!("the {what} belongs to {name}, not to the user at work; use a store of your own (--store)")
    };
    unavailable(path, message)
}

/// The account's name, where the local list has it.
fn user_name(user: u32) -> Option<String> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = accounts.lines().find(|line| line.split(':').nth(2) == Some(user.to_string().as_str()))?;
    line.split(':').next().map(str::to_owned)
}
