//! SQLite's errors as errors of the catalog.

use rusqlite::{ErrorCode, ffi};

use crate::catalog::Error;

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
            Some(_) => Error::Statement(format!(
                "SQLite refused a statement of the catalog: {detail}"
            )),
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
