//! What consumers tell each other through the broker: the metadata they join with and the assignment they get.
//!
//! To JoinGroup and SyncGroup these are opaque bytes; only consumers, and who shows groups to people, look inside.
//! Both begin with their version. A reader takes a newer version for the newest it knows and ignores what follows.

use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::protocol::decoder::{DecodeError, Decoder, Problem};
use crate::protocol::encoder::{EncodeError, Encoder};
use crate::protocol::message::Message;
use crate::protocol::wire::Version;

const VERSIONS: RangeInclusive<i16> = 0..=3;

messages! {
    ConsumerProtocolSubscription {
        topics: Vec<String>;
        user_data: Option<Bytes>;
        /// What the member owned before, for cooperative rebalancing.
        owned_partitions: Vec<TopicPartition>, in 1..;
        /// The generation in which it owned that; −1 when it is not known.
        generation_id: i32 = -1, in 2..;
        rack_id: Option<String>, in 3..;
    }

    ConsumerProtocolAssignment {
        assigned_partitions: Vec<TopicPartition>;
        user_data: Option<Bytes>;
    }

    TopicPartition {
        topic: String;
        partitions: Vec<i32>;
    }
}

impl ConsumerProtocolSubscription {
    /// Reads the metadata of a member of a group whose protocol type is `consumer`.
    pub fn decode_versioned(bytes: Bytes) -> Result<Self, DecodeError> {
        decode(bytes)
    }

    pub fn encode_versioned(&self, version: i16) -> Result<Bytes, EncodeError> {
        encode(self, version)
    }
}

impl ConsumerProtocolAssignment {
    /// Reads the assignment of a member of a group whose protocol type is `consumer`.
    pub fn decode_versioned(bytes: Bytes) -> Result<Self, DecodeError> {
        decode(bytes)
    }

    pub fn encode_versioned(&self, version: i16) -> Result<Bytes, EncodeError> {
        encode(self, version)
    }
}

fn fixed(number: i16) -> Version {
    Version {
        number,
        flexible: false,
    }
}

fn decode<M: Message>(bytes: Bytes) -> Result<M, DecodeError> {
    let version = Decoder::new(bytes.clone(), fixed(0)).i16()?;
    let known = version.min(*VERSIONS.end());
    let mut decoder = Decoder::new(bytes, fixed(known));
    decoder.i16()?;
    if known < *VERSIONS.start() {
        return Err(decoder.error(Problem::UnsupportedVersion(version)));
    }
    let message = M::decode(&mut decoder)?;
    if version == known {
        decoder.finish()?;
    }
    Ok(message)
}

fn encode<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    if !VERSIONS.contains(&version) {
        return Err(EncodeError::UnsupportedVersion(version));
    }
    let mut encoder = Encoder::new(fixed(version));
    encoder.put_i16(version);
    message.encode(&mut encoder)?;
    Ok(encoder.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription() -> ConsumerProtocolSubscription {
        ConsumerProtocolSubscription {
            topics: vec!["orders".to_owned()],
            user_data: Some(Bytes::from_static(b"opaque")),
            owned_partitions: vec![TopicPartition {
                topic: "orders".to_owned(),
                partitions: vec![0, 2],
            }],
            generation_id: 7,
            rack_id: Some("r1".to_owned()),
        }
    }

    #[test]
    fn the_newest_version_keeps_every_field() {
        let bytes = subscription().encode_versioned(3).unwrap();
        let back = ConsumerProtocolSubscription::decode_versioned(bytes).unwrap();
        assert_eq!(back, subscription());
    }

    #[test]
    fn a_newer_version_is_read_as_far_as_it_is_known() {
        let mut bytes = subscription().encode_versioned(3).unwrap().to_vec();
        bytes[1] = 4;
        bytes.extend_from_slice(b"and more");
        let back = ConsumerProtocolSubscription::decode_versioned(bytes.into()).unwrap();
        assert_eq!(back, subscription());
    }

    #[test]
    fn what_follows_a_known_version_and_versions_below_zero_are_refused() {
        let assignment = ConsumerProtocolAssignment::default();
        let mut bytes = assignment.encode_versioned(0).unwrap().to_vec();
        bytes.push(0);
        assert!(ConsumerProtocolAssignment::decode_versioned(bytes.into()).is_err());
        assert!(
            ConsumerProtocolAssignment::decode_versioned(Bytes::from_static(&[0xff; 20])).is_err()
        );
        assert!(ConsumerProtocolAssignment::decode_versioned(Bytes::new()).is_err());
    }
}
