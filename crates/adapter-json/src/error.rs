//! The errors that users see. Each names its file.

use std::io;
use std::path::Path;

use tenure_ports::{ErrorSource, StoreError};

/// Makes the error for a store that cannot be used now.
pub(crate) fn unavailable(path: &Path, message: impl Into<String>) -> StoreError {
    StoreError::unavailable(path.display().to_string(), message)
}

/// Makes the error for a thread of the store that cannot be started. `purpose` says what the thread does.
pub(crate) fn thread_error(path: &Path, purpose: &str, error: io::Error) -> StoreError {
    unavailable(path, format!("cannot start the thread that {purpose}: {error}")).with_source(ErrorSource::new(error))
}

/// Makes the error for a damaged line. Lines are counted from 1.
pub(crate) fn corrupt(path: &Path, line: u64, message: &str) -> StoreError {
    StoreError::corrupt(
        format!("{} line {line}", path.display()),
        format!("{message}; nothing was changed, restore a back-up or ask `tenure doctor`"),
    )
}

/// Makes the error for an operation that the operating system refused. A lack of space is a kind of its own.
pub(crate) fn io_error(path: &Path, doing: &str, error: io::Error) -> StoreError {
    let location = path.display().to_string();
    let described = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::full(location, format!("cannot {doing}: {error}; free some space; reading still works"))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::unavailable(location, format!("cannot {doing}: the file system is read-only"))
        }
        io::ErrorKind::PermissionDenied => StoreError::unavailable(
            location,
            format!("cannot {doing}: {error}; the file and its directory must belong to the user who runs tenure"),
        ),
        _ => StoreError::unavailable(location, format!("cannot {doing}: {error}")),
    };
    described.with_source(ErrorSource::new(error))
}
