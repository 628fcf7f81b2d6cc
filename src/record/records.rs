//! The records of a fetch response: batches in memory, or a region of a file.

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
    /// Returns the size in bytes.
    pub fn len(&self) -> usize {
        match self {
            Records::Bytes(bytes) => bytes.len(),
            Records::File(region) => region.len,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of bytes held in memory, which is 0 for a file region.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Records::Bytes(bytes) => bytes.len(),
            Records::File(_) => 0,
        }
    }

    /// Returns the bytes, reading them from the file if necessary.
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

/// Whole batches in a segment file. The file stays readable as long as this value exists, even if the segment is deleted
/// meanwhile. The bytes of the region never change.
#[derive(Debug, Clone)]
pub struct FileRegion {
    pub file: Arc<File>,
    /// File position of the first byte.
    pub position: u64,
    /// Length in bytes.
    pub len: usize,
    /// True if the region is probably not in the page cache, so that reading it may wait for the disk.
    pub cold: bool,
}

impl FileRegion {
    /// Reads the region into memory. Blocks if the region is cold.
    pub fn read(&self) -> io::Result<Bytes> {
        let mut bytes = vec![0; self.len];
        self.file.read_exact_at(&mut bytes, self.position)?;
        Ok(bytes.into())
    }
}

/// Two regions are equal if they are the same bytes of the same open file.
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
    fn a_region_reads_only_its_own_bytes() {
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
