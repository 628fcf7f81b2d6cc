//! What can go wrong with the catalog, told apart by what an operator or a caller should do about it.

use rusqlite::{ErrorCode, ffi};

/// A failed catalog operation. Cloneable, because one failed commit fails every operation that shared it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("topic {0:?} already exists")]
    TopicExists(String),
    #[error("topic {0:?} does not exist")]
    NoSuchTopic(String),
    /// Written by a later release; opening it could lose what this one does not know about.
    #[error(
        "the catalog {path} has schema version {found}, but this release knows versions up to {known}: \
         start the release that wrote it, or restore a copy made before the upgrade"
    )]
    NewerSchema {
        path: String,
        found: i64,
        known: i64,
    },
    /// Another process holds the database's lock for longer than we are willing to wait.
    #[error("the catalog is locked by another process: {0}")]
    Busy(String),
    #[error("no space left for the catalog: {0}")]
    DiskFull(String),
    #[error("the catalog is damaged: {0}")]
    Corrupt(String),
    /// The catalog's files cannot be read, written or created.
    #[error("the catalog cannot be accessed: {0}")]
    Io(String),
    /// The writer has ended; nothing can be changed any more.
    #[error("the catalog is closed")]
    Closed,
    #[error("the catalog refused a statement: {0}")]
    Statement(String),
}

impl Error {
    /// True when the operation failed because of the catalog's surroundings, and not because of what was asked.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Error::TopicExists(_) | Error::NoSuchTopic(_))
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let detail = error.to_string();
        // The index of the write-ahead log lies in a file that could not grow: on a full disk the first thing that fails.
        let no_room = error
            .sqlite_error()
            .is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE);
        match error.sqlite_error_code() {
            _ if no_room => Error::DiskFull(detail),
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy(detail),
            Some(ErrorCode::DiskFull) => Error::DiskFull(detail),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Error::Corrupt(detail),
            Some(
                ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied
                | ErrorCode::SystemIoFailure
                | ErrorCode::FileLockingProtocolFailed
                | ErrorCode::NoLargeFileSupport,
            ) => Error::Io(detail),
            Some(_) => Error::Statement(detail),
            // No SQLite code: a value of a type or range that this release never writes.
            None => Error::Corrupt(detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_on_a_full_disk_is_told_from_a_disk_that_fails() {
        let of = |code| Error::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(matches!(of(ffi::SQLITE_FULL), Error::DiskFull(_)));
        assert!(matches!(of(ffi::SQLITE_IOERR_SHMSIZE), Error::DiskFull(_)));
        assert!(matches!(of(ffi::SQLITE_IOERR_READ), Error::Io(_)));
    }
}
