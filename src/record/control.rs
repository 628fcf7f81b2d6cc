//! Control records: the markers that end transactions.
//!
//! ```text
//! key    version i16 = 0 │ type i16: 0 abort, 1 commit
//! value  version i16 = 0 │ coordinator epoch i32             of these two types
//! ```
//!
//! Later versions may append fields.

use super::record::Record;

/// The kind of a control record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlType {
    Abort,
    Commit,
    /// Markers of Kafka's metadata quorum and unknown ones, by number.
    Other(i16),
}

impl ControlType {
    fn from_number(number: i16) -> Self {
        match number {
            0 => ControlType::Abort,
            1 => ControlType::Commit,
            other => ControlType::Other(other),
        }
    }

    fn number(self) -> i16 {
        match self {
            ControlType::Abort => 0,
            ControlType::Commit => 1,
            ControlType::Other(other) => other,
        }
    }
}

/// The content of a control record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ControlRecord {
    pub version: i16,
    pub control_type: ControlType,
    /// Epoch of the transaction coordinator that wrote an end of a transaction.
    pub coordinator_epoch: Option<i32>,
}

impl ControlRecord {
    /// Parses a record of a control batch. Returns `None` if its key is too short.
    pub fn of(record: &Record) -> Option<ControlRecord> {
        let key = record.key.as_ref()?;
        let (version, rest) = key.split_first_chunk::<2>()?;
        let (control_type, _) = rest.split_first_chunk::<2>()?;
        let control_type = ControlType::from_number(i16::from_be_bytes(*control_type));
        Some(ControlRecord {
            version: i16::from_be_bytes(*version),
            control_type,
            coordinator_epoch: match control_type {
                ControlType::Abort | ControlType::Commit => coordinator_epoch(record),
                ControlType::Other(_) => None,
            },
        })
    }

    /// Creates the end of a transaction.
    pub fn end_of_transaction(control_type: ControlType, coordinator_epoch: i32) -> ControlRecord {
        ControlRecord {
            version: 0,
            control_type,
            coordinator_epoch: Some(coordinator_epoch),
        }
    }

    /// Returns the record's key in wire form.
    pub fn to_key(self) -> [u8; 4] {
        let mut key = [0; 4];
        key[..2].copy_from_slice(&self.version.to_be_bytes());
        key[2..].copy_from_slice(&self.control_type.number().to_be_bytes());
        key
    }

    /// Returns the record's value in wire form.
    pub fn to_value(self) -> [u8; 6] {
        let mut value = [0; 6];
        let coordinator_epoch = self.coordinator_epoch.unwrap_or(-1);
        value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
        value
    }
}

fn coordinator_epoch(record: &Record) -> Option<i32> {
    let (_version, rest) = record.value.as_ref()?.split_first_chunk::<2>()?;
    let (epoch, _) = rest.split_first_chunk::<4>()?;
    Some(i32::from_be_bytes(*epoch))
}
