//! What a fetch answers with: batches in memory, or the place in a file where they lie.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

/// Zero or more whole batches, ready for the wire.
#[derive(Debug, Clone, PartialEq)]
pub enum Records {
    Bytes(Bytes),
    File(FileRegion),
}

impl Records {
    /// Size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Records::Bytes(bytes) => bytes.len(),
            Records::File(region) => region.len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part of the size that is in our memory, and not in a file.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Records::Bytes(bytes) => bytes.len(),
            Records::File(_) => 0,
        }
    }

    /// The bytes themselves, read from the file where necessary.
    pub fn to_bytes(&self) -> io::Result<Bytes> {
        match self {
            Records::Bytes(bytes) => Ok(bytes.clone()),
            Records::File(region) => region.read(),
        }
    }
}

impl Default for Records {
    fn default() -> Records {
        Records::Bytes(Bytes::new())
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Records {
        Records::Bytes(bytes)
    }
}

/// Whole batches that lie in a segment file. The file stays readable for as long as this holds it, even if the
/// segment is deleted meanwhile; bytes in the region never change.
#[derive(Debug, Clone)]
pub struct FileRegion {
    pub file: Arc<File>,
    /// Of the first byte, from the file's start.
    pub position: u64,
    /// In bytes.
    pub len: usize,
    /// Probably not in the page cache: reading it may wait for the disk.
    pub cold: bool,
}

impl FileRegion {
    /// Reads the region into memory. Blocks when it is cold.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len];
        self.file.read_exact_at(&mut bytes, self.position)?;
        Ok(bytes.into())
    }
}

/// Two regions are equal when they name the same bytes of the same open file.
impl PartialEq for FileRegion {
    fn eq(&self, other: &FileRegion) -> bool {
        Arc::ptr_eq(&self.file, &other.file)
            && self.position == other.position
            && self.len == other.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_region_reads_its_own_bytes_only() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before-region-after").unwrap();
        let region = FileRegion {
            file: Arc::new(file),
            position: 7,
            len: 6,
            cold: false,
        };
        let records = Records::File(region);
        assert_eq!(records.len(), 6);
        assert_eq!(records.to_bytes().unwrap(), "region");
    }

    #[test]
    fn a_region_past_the_end_of_its_file_is_an_error() {
        let region = FileRegion {
            file: Arc::new(tempfile::tempfile().unwrap()),
            position: 0,
            len: 1,
            cold: true,
        };
        assert!(region.read().is_err());
    }
}
