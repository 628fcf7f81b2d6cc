//! Control records: the markers that end transactions.

use super::record::Record;

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    Abort,
    Commit,
    /// Markers of Kafka's own metadata quorum, and those yet to be invented, by number.
    Other(i16),
}

/// A control record's key: version and type, two 16-bit numbers. Later versions may append fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRecord {
    pub version: i16,
    pub control_type: ControlType,
}

impl ControlRecord {
    /// Reads the key of a record of a control batch; `None` when it is too short to be one.
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
