//! The topics in a member's metadata, for groups of the protocol type `consumer`.
//!
//! Clients write `ConsumerProtocolSubscription`, of which every version begins like version 0:
//!
//! ```text
//! version: int16 | topics: int32 count, each int16 length + UTF-8 | user data … | fields of later versions …
//! ```
//!
//! Nothing behind the topics is looked at, so versions to come are no obstacle.

use std::collections::BTreeSet;

/// The protocol type under which consumers (and Kafka Streams) join.
pub(super) const CONSUMER: &str = "consumer";

/// The subscribed topics, or `None` when the metadata is not what consumers write.
pub(super) fn topics(metadata: &[u8]) -> Option<BTreeSet<String>> {
    let (version, mut rest) = take_i16(metadata)?;
    if version < 0 {
        return None;
    }
    let (count, after) = take_i32(rest)?;
    rest = after;
    // Each topic takes at least its length's two bytes, so a count that lies cannot make us reserve or loop.
    if usize::try_from(count).ok()? > rest.len() / 2 {
        return None;
    }
    let mut topics = BTreeSet::new();
    for _ in 0..count {
        let (length, after) = take_i16(rest)?;
        let (name, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
        topics.insert(std::str::from_utf8(name).ok()?.to_owned());
        rest = after;
    }
    Some(topics)
}

fn take_i16(bytes: &[u8]) -> Option<(i16, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((i16::from_be_bytes(*head), rest))
}

fn take_i32(bytes: &[u8]) -> Option<(i32, &[u8])> {
    let (head, rest) = bytes.split_first_chunk()?;
    Some((i32::from_be_bytes(*head), rest))
}

#[cfg(test)]
pub(super) fn encode(topics: &[&str]) -> bytes::Bytes {
    let mut bytes = vec![0, 1];
    bytes.extend((topics.len() as i32).to_be_bytes());
    for topic in topics {
        bytes.extend((topic.len() as i16).to_be_bytes());
        bytes.extend(topic.as_bytes());
    }
    // No user data, no owned partitions.
    bytes.extend([0xff; 4]);
    bytes.extend([0; 4]);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_read_whatever_follows_them() {
        let expected = BTreeSet::from(["a".to_owned(), "bcd".to_owned()]);
        assert_eq!(topics(&encode(&["bcd", "a"])), Some(expected));
        assert_eq!(topics(&encode(&[])), Some(BTreeSet::new()));
    }

    #[test]
    fn what_is_no_subscription_has_no_topics() {
        let whole = encode(&["bcd", "a"]);
        let topics_end = 2 + 4 + 2 + 3 + 2 + 1;
        for cut in 0..topics_end {
            assert_eq!(topics(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(topics(&[0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0]), None);
        assert_eq!(topics(&[0, 0, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(topics(&[0xff, 0xff, 0, 0, 0, 0]), None);
        assert_eq!(topics(&[0, 0, 0, 0, 0, 1, 0xff, 0xff]), None);
        assert_eq!(topics(&[0, 0, 0, 0, 0, 1, 0, 1, 0xff]), None);
    }
}
