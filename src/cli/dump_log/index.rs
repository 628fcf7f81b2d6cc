//! Checks a segment's indexes against the batches of its log, as the log is read.
//!
//! ```text
//!  .index      relative offset u32 │ position u32          position and last offset of a batch
//!  .timeindex  timestamp i64 │ relative offset u32          largest timestamp so far and the offset of its batch
//! ```
//!
//! An index may end before its log does. Kafka preallocates index files: zeros at the end are padding, not entries.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::cli::error::CliError;
use crate::record::BatchHeader;

/// Result of checking one index.
#[derive(Debug, Default)]
pub(super) struct IndexResult {
    /// False if the file does not exist.
    pub present: bool,
    pub entries: u64,
    /// Descriptions of the first mismatches.
    pub mismatches: Vec<String>,
    pub mismatch_count: u64,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Offsets,
    Times,
}

#[derive(Debug, Clone, Copy)]
enum Entry {
    Offset { offset: i64, position: u64 },
    Time { offset: i64, timestamp_ms: i64 },
}

/// Check of one index, read in step with its log.
#[derive(Debug)]
pub(super) struct IndexCheck {
    kind: Kind,
    path: PathBuf,
    base_offset: i64,
    file: Option<BufReader<File>>,
    /// Next entry, not yet matched with a batch.
    next: Option<Entry>,
    before: Option<Entry>,
    /// Batches may be missing after the last one seen.
    after_damage: bool,
    max_timestamp: i64,
    result: IndexResult,
}

impl IndexCheck {
    const MISMATCHES_SHOWN: usize = 10;

    pub(super) fn offsets(path: &Path, base_offset: i64) -> Result<IndexCheck, CliError> {
        Self::open(Kind::Offsets, path, base_offset)
    }

    pub(super) fn times(path: &Path, base_offset: i64) -> Result<IndexCheck, CliError> {
        Self::open(Kind::Times, path, base_offset)
    }

    fn open(kind: Kind, path: &Path, base_offset: i64) -> Result<IndexCheck, CliError> {
        let file = match File::open(path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(super::cannot_read(path)(error)),
        };
        let mut check = IndexCheck {
            kind,
            path: path.to_owned(),
            base_offset,
            result: IndexResult {
                present: file.is_some(),
                ..IndexResult::default()
            },
            file,
            next: None,
            before: None,
            after_damage: false,
            max_timestamp: -1,
        };
        check.step()?;
        Ok(check)
    }

    /// Checks the entries that refer to this batch. Must be called for each batch in log order.
    pub(super) fn batch(&mut self, position: u64, header: &BatchHeader) -> Result<(), CliError> {
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        while let Some(entry) = self.next {
            match entry {
                Entry::Offset { position: at, .. } if at > position => break,
                Entry::Offset {
                    offset,
                    position: at,
                } => {
                    if at < position {
                        self.unmatched(format!(
                            "no batch begins at position {at}, given for offset {offset}"
                        ));
                    } else if offset != header.last_offset() {
                        self.mismatch(format!(
                            "offset {offset} at position {at}, but the batch there ends with offset {}",
                            header.last_offset()
                        ));
                    }
                }
                Entry::Time { offset, .. } if offset > header.last_offset() => break,
                Entry::Time {
                    offset,
                    timestamp_ms,
                } => {
                    if offset < header.base_offset {
                        self.unmatched(format!(
                            "timestamp {timestamp_ms} at offset {offset}, which is not in any batch"
                        ));
                    } else if timestamp_ms != header.max_timestamp {
                        self.mismatch(format!(
                            "timestamp {timestamp_ms} at offset {offset}, but the batch there has {}",
                            header.max_timestamp
                        ));
                    } else if timestamp_ms < self.max_timestamp {
                        self.mismatch(format!(
                            "timestamp {timestamp_ms} at offset {offset}, but an earlier batch has {}",
                            self.max_timestamp
                        ));
                    }
                }
            }
            self.step()?;
        }
        self.after_damage = false;
        Ok(())
    }

    /// Notes damage in the log: entries up to the next batch cannot be checked.
    pub(super) fn damage(&mut self) {
        self.after_damage = true;
    }

    pub(super) fn finish(mut self) -> Result<IndexResult, CliError> {
        while let Some(entry) = self.next {
            self.unmatched(match entry {
                Entry::Offset { offset, position } => {
                    format!("offset {offset} at position {position}, past the last batch")
                }
                Entry::Time {
                    offset,
                    timestamp_ms,
                } => {
                    format!("timestamp {timestamp_ms} at offset {offset}, past the last batch")
                }
            });
            self.step()?;
        }
        Ok(self.result)
    }

    fn unmatched(&mut self, reason: String) {
        if !self.after_damage {
            self.mismatch(reason);
        }
    }

    fn mismatch(&mut self, reason: String) {
        self.result.mismatch_count += 1;
        if self.result.mismatches.len() < Self::MISMATCHES_SHOWN {
            self.result.mismatches.push(reason);
        }
    }

    /// Advances to the next entry in ascending order, counting others as mismatches: binary search requires order.
    fn step(&mut self) -> Result<(), CliError> {
        self.next = self.read()?;
        while let (Some(entry), Some(before)) = (self.next, self.before) {
            if follows(&entry, &before) {
                break;
            }
            self.mismatch(format!("entry {} is out of order", self.result.entries - 1));
            self.next = self.read()?;
        }
        self.before = self.next;
        Ok(())
    }

    fn read(&mut self) -> Result<Option<Entry>, CliError> {
        let Some(file) = &mut self.file else {
            return Ok(None);
        };
        let mut bytes = Vec::with_capacity(12);
        let len = match self.kind {
            Kind::Offsets => 8,
            Kind::Times => 12,
        };
        let read = file.by_ref().take(len).read_to_end(&mut bytes);
        let read = read.map_err(super::cannot_read(&self.path))?;
        if read < len as usize {
            self.file = None;
            if read > 0 {
                self.mismatch(format!("{read} bytes after the last entry"));
            }
            return Ok(None);
        }
        if bytes.iter().all(|it| *it == 0) {
            // Preallocated space. Non-zero bytes in it would be an entry out of order for Kafka, too.
            self.file = None;
            return Ok(None);
        }
        self.result.entries += 1;
        let number = |range: std::ops::Range<usize>| {
            bytes[range]
                .iter()
                .fold(0u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let offset = |relative: u64| self.base_offset.saturating_add(relative as i64);
        Ok(Some(match self.kind {
            Kind::Offsets => Entry::Offset {
                offset: offset(number(0..4)),
                position: number(4..8),
            },
            Kind::Times => Entry::Time {
                timestamp_ms: number(0..8) as i64,
                offset: offset(number(8..12)),
            },
        }))
    }
}

fn follows(entry: &Entry, before: &Entry) -> bool {
    match (entry, before) {
        (
            Entry::Offset { offset, position },
            Entry::Offset {
                offset: offset_before,
                position: position_before,
            },
        ) => offset > offset_before && position > position_before,
        (
            Entry::Time {
                offset,
                timestamp_ms,
            },
            Entry::Time {
                offset: offset_before,
                timestamp_ms: timestamp_before,
            },
        ) => offset >= offset_before && timestamp_ms > timestamp_before,
        _ => false,
    }
}
