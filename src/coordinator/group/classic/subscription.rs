//! Subscribed topics from a member's metadata, for groups with the protocol type `consumer`.
//!
//! Clients write `ConsumerProtocolSubscription`. Every version begins like version 0:
//!
//! ```text
//! version: int16 | topics: int32 count, each int16 length + UTF-8 | user data … | fields of later versions …
//! ```
//!
//! Nothing after the topics is parsed, so future versions can be read as well.

use std::collections::BTreeSet;

/// The protocol type of consumers and Kafka Streams.
pub(super) const CONSUMER: &str = "consumer";

/// Returns the subscribed topics, or `None` if the metadata is not a valid subscription.
pub(super) fn topics(metadata: &[u8]) -> Option<BTreeSet<String>> {
    let (version, mut rest) = take_i16(metadata)?;
    if version < 0 {
        return None;
    }
    let (count, after) = take_i32(rest)?;
    rest = after;
    // Each topic takes at least the two bytes of its length, so a false count cannot cause a large allocation or a long
    // loop.
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
pub(in crate::coordinator::group) fn encode(topics: &[&str]) -> bytes::Bytes {
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
    fn data_after_the_topics_is_ignored() {
        let expected = BTreeSet::from(["a".to_owned(), "bcd".to_owned()]);
        assert_eq!(topics(&encode(&["bcd", "a"])), Some(expected));
        assert_eq!(topics(&encode(&[])), Some(BTreeSet::new()));
    }

    #[test]
    fn malformed_subscriptions_are_rejected() {
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
