//! The assignment of a consumer, as carried by SyncGroup and DescribeGroups.
//!
//! Both APIs treat it as opaque bytes; only consumers and tools that display groups decode it. It begins with its version.
//! A reader decodes a newer version as the newest one it knows and ignores the remaining bytes. The subscription in
//! JoinGroup is parsed by the coordinator, as far as it needs it.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::protocol::decoder::{DecodeError, Decoder, Problem};
use crate::protocol::wire::{Version, Wire};

const VERSIONS: RangeInclusive<i16> = 0..=3;

messages! {
    ConsumerProtocolAssignment {
        assigned_partitions: Vec<TopicPartition>;
        user_data: Option<Bytes>;
    }

    TopicPartition {
        topic: String;
        partitions: Vec<i32>;
    }
}

impl ConsumerProtocolAssignment {
    /// Reads the assignment of a member of a group whose protocol type is `consumer`.
    pub fn decode_versioned(bytes: Bytes) -> Result<Self, DecodeError> {
        let version = Decoder::new(bytes.clone(), fixed(0)).i16()?;
        let known = version.min(*VERSIONS.end());
        let mut decoder = Decoder::new(bytes, fixed(known));
        decoder.i16()?;
        if known < *VERSIONS.start() {
            return Err(decoder.error(Problem::UnsupportedVersion(version)));
        }
        let assignment = Self::decode(&mut decoder)?;
        if version == known {
            decoder.finish()?;
        }
        Ok(assignment)
    }
}

fn fixed(number: i16) -> Version {
    Version {
        number,
        flexible: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: usize = 1;

    /// Partition 2 of `orders`, in version 3.
    const ORDERS_2: &[u8] = b"\0\x03\0\0\0\x01\0\x06orders\0\0\0\x01\0\0\0\x02\xff\xff\xff\xff";

    fn read(bytes: &[u8]) -> Result<ConsumerProtocolAssignment, DecodeError> {
        ConsumerProtocolAssignment::decode_versioned(Bytes::copy_from_slice(bytes))
    }

    fn orders_2() -> ConsumerProtocolAssignment {
        ConsumerProtocolAssignment {
            assigned_partitions: vec![TopicPartition {
                topic: "orders".to_owned(),
                partitions: vec![2],
            }],
            user_data: None,
        }
    }

    #[test]
    fn a_newer_version_is_read_as_far_as_it_is_known() {
        assert_eq!(read(ORDERS_2), Ok(orders_2()));
        let mut newer = [ORDERS_2, b"and more"].concat();
        newer[VERSION] = 4;
        assert_eq!(read(&newer), Ok(orders_2()));
    }

    #[test]
    fn what_follows_a_known_version_and_versions_below_zero_are_refused() {
        assert!(read(&[ORDERS_2, b"\0"].concat()).is_err());
        assert!(read(&[0xff; 20]).is_err());
        assert!(read(&[]).is_err());
    }
}
