//! Checks of a store's file and directory: that they exist, and that other users cannot read or replace them.

use std::io;
use std::path::Path;

use tenure_ports::StoreError;

use super::{FileKind, Metadata, Storage, parent_directory};
use crate::error::{io_error, unavailable};

/// The message about a store that does not exist.
const MISSING: &str = "there is no store; name another one (--store, TENURE_STORE, HOME), or create it with tenure \
                       token issue, tenure sessions import or tenure gateway";

/// Checks that the store exists.
pub(crate) fn check_exists(storage: &dyn Storage, path: &Path) -> Result<(), StoreError> {
    match storage.metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unavailable(path, MISSING)),
        Err(error) => Err(io_error(path, "look at the store", error)),
    }
}

/// Creates the directory that contains `path` and those above it, as far as they are missing, durably. Only their owner
/// can use them.
pub(crate) fn create_parent_directories(storage: &dyn Storage, path: &Path) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    let mut directory = parent_directory(path);
    loop {
        match storage.metadata(&directory) {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                missing.push(directory.clone());
                directory = parent_directory(&directory);
            }
            Err(error) => return Err(io_error(&directory, "look at the directory", error)),
        }
        if missing.len() > 64 {
            return Err(unavailable(path, "none of the directories above it exists"));
        }
    }
    if !missing.is_empty() {
        // A private directory within another user's directory would lock that user out.
        check_owner(storage, &directory)?;
    }
    for directory in missing.iter().rev() {
        match storage.create_directory(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(io_error(directory, "create the directory", error)),
        }
        storage
            .sync_directory(&parent_directory(directory))
            .map_err(|error| io_error(directory, "sync the parent directory", error))?;
    }
    Ok(())
}

/// Checks that no other user could replace the store in its directory.
pub(crate) fn check_directory(storage: &dyn Storage, path: &Path) -> Result<(), StoreError> {
    let directory = parent_directory(path);
    let mut metadata =
        storage.metadata(&directory).map_err(|error| io_error(&directory, "look at the directory", error))?;
    if metadata.kind == FileKind::Symlink {
        // A symbolic link is as safe as the directory that it leads to, so that directory is checked.
        metadata = storage
            .metadata(&directory.join("."))
            .map_err(|error| io_error(&directory, "look at the directory", error))?;
    }
    if metadata.kind != FileKind::Directory {
        return Err(unavailable(&directory, "it is not a directory"));
    }
    if metadata.mode & 0o022 != 0 {
        let advice = format!(
            "others may write to the directory (mode {:04o}); chmod go-w {}, or keep the store elsewhere",
            metadata.mode,
            directory.display()
        );
        return Err(unavailable(&directory, advice));
    }
    check_owner(storage, &directory)
}

/// Checks that a directory belongs to this user or to root.
fn check_owner(storage: &dyn Storage, directory: &Path) -> Result<(), StoreError> {
    // The dot makes the path follow a symbolic link, so that its target is checked.
    let metadata =
        storage.metadata(&directory.join(".")).map_err(|error| io_error(directory, "look at the directory", error))?;
    let user_id = storage.user_id();
    if metadata.owner != user_id && metadata.owner != 0 {
        return Err(wrong_owner(user_id, metadata.owner, directory, "directory"));
    }
    Ok(())
}

/// Checks that other users can neither read nor write a file, and did not put it there.
pub(crate) fn check_file(storage: &dyn Storage, path: &Path, metadata: &Metadata) -> Result<(), StoreError> {
    let user_id = storage.user_id();
    match metadata.kind {
        FileKind::File => {}
        FileKind::Symlink => return Err(symlink_error(path)),
        FileKind::Directory => return Err(unavailable(path, "it is a directory; name the file in it")),
        FileKind::Other => return Err(unavailable(path, "it is not a regular file")),
    }
    if metadata.owner != user_id {
        return Err(wrong_owner(user_id, metadata.owner, path, "file"));
    }
    if metadata.mode & 0o077 != 0 {
        return Err(unavailable(
            path,
            format!(
                "others may use the file (mode {:04o}); chmod 600 {}, and revoke the sessions if others had access",
                metadata.mode,
                path.display()
            ),
        ));
    }
    if metadata.links > 1 {
        return Err(unavailable(path, "it has another name too (a hard link); remove that one, or copy the file"));
    }
    Ok(())
}

/// Makes the error for a symbolic link in the place of a file.
pub(crate) fn symlink_error(path: &Path) -> StoreError {
    unavailable(path, "it is a symbolic link, which could be redirected; name the file itself")
}

/// Makes the error for a file or directory of another user.
fn wrong_owner(user_id: u32, owner: u32, path: &Path, what: &str) -> StoreError {
    let name = user_name(owner).unwrap_or_else(|| format!("#{owner}"));
    let message = if user_id == 0 {
        format!(
            "the {what} belongs to {name}, and root would leave files that {name} cannot use; run: sudo -u {name} tenure …"
        )
    } else {
        format!("the {what} belongs to {name}, not to the user who runs tenure; use a store of your own (--store)")
    };
    unavailable(path, message)
}

/// Returns the name of a user, if `/etc/passwd` has it.
fn user_name(user_id: u32) -> Option<String> {
    let accounts = std::fs::read_to_string("/etc/passwd").ok()?;
    let line = accounts.lines().find(|line| line.split(':').nth(2) == Some(user_id.to_string().as_str()))?;
    line.split(':').next().map(str::to_owned)
}
