//! Control records: the markers that end transactions.

use super::record::Record;

/// The kind of a control record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    Abort,
    Commit,
    /// Markers of Kafka's metadata quorum and unknown ones, by number.
    Other(i16),
}

/// The key of a control record: version and type, two 16-bit numbers. Later versions may append fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRecord {
    pub version: i16,
    pub control_type: ControlType,
}

impl ControlRecord {
    /// Parses the key of a record of a control batch. Returns `None` if it is too short.
    pub fn of(record: &Record) -> Option<ControlRecord> {
        let key = record.key.as_ref()?;
        let (version, rest) = key.split_first_chunk::<2>()?;
        let (control_type, _) = rest.split_first_chunk::<2>()?;
        Some(ControlRecord {
            version: i16::from_be_bytes(*version),
            control_type: match i16::from_be_bytes(*control_type) {
                0 => ControlType::Abort,
                1 => ControlType::Commit,
                other => ControlType::Other(other),
            },
        })
    }
}
