//! Errors of the catalog, grouped by what an operator or a caller should do about them.

use rusqlite::{ErrorCode, ffi};

/// A failed catalog operation. Cloneable, because one failed commit fails every operation that shared it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("topic {0:?} already exists")]
    TopicExists(String),
    #[error("topic {0:?} does not exist")]
    NoSuchTopic(String),
    /// Written by a later release; opening it could lose data that this one does not know.
    #[error(
        "the catalog {path} has schema version {found}, but this release knows versions up to {known}: \
         start the release that wrote it, or restore a copy made before the upgrade"
    )]
    NewerSchema {
        path: String,
        found: i64,
        known: i64,
    },
    /// Another process held the database's lock for longer than the busy timeout.
    #[error("the catalog is locked by another process: {0}")]
    Busy(String),
    #[error("no space left for the catalog: {0}")]
    DiskFull(String),
    #[error("the catalog is corrupt: {0}")]
    Corrupt(String),
    /// The catalog's files cannot be read, written or created.
    #[error("the catalog cannot be accessed: {0}")]
    Io(String),
    /// The writer has ended; no more changes are possible.
    #[error("the catalog is closed")]
    Closed,
    #[error("SQLite refused a statement of the catalog: {0}")]
    Statement(String),
}

impl Error {
    /// Returns true if the operation failed because of the catalog's environment, not because of the request.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Error::TopicExists(_) | Error::NoSuchTopic(_))
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        let detail = error.to_string();
        // The file with the index of the write-ahead log could not grow: the first thing to fail on a full disk.
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
    fn a_full_disk_at_start_is_distinguished_from_a_failing_disk() {
        let of = |code| Error::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
        assert!(matches!(of(ffi::SQLITE_FULL), Error::DiskFull(_)));
        assert!(matches!(of(ffi::SQLITE_IOERR_SHMSIZE), Error::DiskFull(_)));
        assert!(matches!(of(ffi::SQLITE_IOERR_READ), Error::Io(_)));
    }
}
