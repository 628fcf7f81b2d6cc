//! Errors of the catalog, grouped by what an operator or a caller should do about them.

/// A failed catalog operation. Cloneable, because one failed commit fails every operation that shared it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("topic {0:?} already exists")]
    TopicExists(String),
    #[error("topic {0:?} does not exist")]
    NoSuchTopic(String),
    /// Written by a later release; opening it could lose data that this one does not know.
    #[error(
        "the catalog {catalog} has schema version {found}, but this release knows versions up to {known}: \
         start the release that wrote it, or restore a copy made before the upgrade"
    )]
    NewerSchema {
        catalog: String,
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
    /// The database cannot be read, written or created.
    #[error("the catalog cannot be accessed: {0}")]
    Io(String),
    /// The writer has ended; no more changes are possible.
    #[error("the catalog is closed")]
    Closed,
    /// The database refused a statement: a defect of this release.
    #[error("{0}")]
    Statement(String),
}

impl Error {
    /// Returns true if the operation failed because of the catalog's environment, not because of the request.
    pub fn is_fault(&self) -> bool {
        !matches!(self, Error::TopicExists(_) | Error::NoSuchTopic(_))
    }
}
