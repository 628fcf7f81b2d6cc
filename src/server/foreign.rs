//! Other protocols that reach a Kafka port by mistake, recognised by their first bytes.
//!
//! Bytes that could be the first request of a Kafka client are never taken for another protocol.

/// First bytes of a protocol, and its description for the log.
const BEGINNINGS: &[(&[u8], &str)] = &[
    (b"SSH-", "an SSH banner"),
    (
        b"PROXY ",
        "a PROXY protocol header (disable it on the load balancer)",
    ),
    (
        b"\r\n\r\n\0\r\nQUIT\n",
        "a PROXY protocol header (disable it on the load balancer)",
    ),
    (b"AMQP", "an AMQP header"),
    (b"EHLO", "an SMTP greeting"),
    (b"HELO", "an SMTP greeting"),
    (b"PING", "a Redis command"),
];

/// ZooKeeper's four-letter commands, as monitoring tools send them.
const FOUR_LETTER_WORDS: [&[u8; 4]; 15] = [
    b"conf", b"cons", b"crst", b"dirs", b"dump", b"envi", b"hash", b"isro", b"mntr", b"ruok",
    b"srst", b"srvr", b"stat", b"wchp", b"wchs",
];

/// Describes the protocol of a connection that began with `start`, if these bytes suffice to recognise one.
pub fn recognise(start: &[u8]) -> Option<&'static str> {
    let beginning = BEGINNINGS
        .iter()
        .find(|(beginning, _)| start.starts_with(beginning));
    if let Some((_, name)) = beginning {
        return Some(name);
    }
    let first = start.first_chunk::<4>()?;
    if FOUR_LETTER_WORDS.contains(&first) {
        return Some("a ZooKeeper command");
    }
    if is_redis(first) {
        return Some("a Redis command");
    }
    if is_zookeeper_session(start) {
        return Some("a ZooKeeper session request");
    }
    if is_postgres(start) {
        return Some("a PostgreSQL startup message");
    }
    if is_mqtt(start) {
        return Some("an MQTT CONNECT packet");
    }
    None
}

/// Recognises an array of arguments: `*2\r\n$4\r\n…`.
fn is_redis(first: &[u8; 4]) -> bool {
    let [star, digit, third, fourth] = first;
    let ends_here = (third, fourth) == (&b'\r', &b'\n');
    let continues = third.is_ascii_digit() && (fourth.is_ascii_digit() || *fourth == b'\r');
    *star == b'*' && digit.is_ascii_digit() && (ends_here || continues)
}

/// Recognises a new session: 44 bytes, or 45 with the read-only flag, and zeroes for protocol version and last transaction
/// seen. To Kafka, a Produce of version 0, which is not supported, without correlation id, client id and acks.
fn is_zookeeper_session(start: &[u8]) -> bool {
    start.starts_with(&[0, 0, 0, 44]) | start.starts_with(&[0, 0, 0, 45])
        && start.get(4..16) == Some(&[0; 12])
}

/// Recognises a request for TLS, for GSSAPI encryption, to cancel, or a startup message with the user's name first. The
/// length includes itself, so as a Kafka frame it would lack four bytes, and both sides would wait.
fn is_postgres(start: &[u8]) -> bool {
    match start.get(4..8) {
        Some([0x04, 0xd2, 0x16, 0x2e..=0x30]) => true,
        Some([0, 3, 0, 0..=2]) => start.get(8..13) == Some(b"user\0"),
        _ => false,
    }
}

/// Recognises a CONNECT packet: its type, a remaining length of one or two bytes, and the protocol's name.
fn is_mqtt(start: &[u8]) -> bool {
    let name = Some(&b"\0\x04MQTT"[..]);
    start.first() == Some(&0x10) && (start.get(2..8) == name || start.get(3..9) == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::APIS;
    use crate::protocol::kafka::ApiKey;

    #[test]
    fn common_protocols_are_named() {
        for (start, word) in [
            (&b"SSH-2.0-OpenSSH_9.2p1\r\n"[..], "SSH"),
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "PROXY"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "PROXY"),
            (b"AMQP\0\0\x09\x01", "AMQP"),
            (b"EHLO there\r\n", "SMTP"),
            (b"*1\r\n$4\r\nPING\r\n", "Redis"),
            (b"*12\r\n$4\r\nMGET\r\n", "Redis"),
            (b"PING\r\n", "Redis"),
            (b"ruok", "ZooKeeper"),
            (b"mntr\n", "ZooKeeper"),
            (
                b"\0\0\0\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x75\x30",
                "ZooKeeper",
            ),
            (b"\0\0\0\x08\x04\xd2\x16\x2f", "PostgreSQL"),
            (b"\0\0\0\x21\0\x03\0\0user\0me\0", "PostgreSQL"),
            (b"\x10\x0d\0\x04MQTT\x04\x02", "MQTT"),
            (b"\x10\x80\x01\0\x04MQTT\x04\x02", "MQTT"),
        ] {
            let name = recognise(start);
            assert!(name.is_some_and(|name| name.contains(word)), "{start:?}");
        }
    }

    #[test]
    fn unknown_and_incomplete_beginnings_are_not_named() {
        for start in [
            &b""[..],
            b"SSH",
            b"*",
            b"*x\r\n",
            b"\0\0\0\x08",
            b"\0\0\0\x2d\0\0\0\0",
            b"hello, world",
        ] {
            assert_eq!(recognise(start), None, "{start:?}");
        }
    }

    #[test]
    fn no_kafka_request_is_taken_for_another_protocol() {
        for api in APIS {
            for version in api.advertised_min.unwrap_or(0)..=*api.versions.end() {
                for length in [8_i32, 44, 45, 61, 1000, 100 << 20] {
                    let mut start = length.to_be_bytes().to_vec();
                    start.extend((api.key as i16).to_be_bytes());
                    start.extend(version.to_be_bytes());
                    // The first correlation id, and a client id.
                    start.extend(0_i32.to_be_bytes());
                    start.extend([0, 4]);
                    start.extend(*b"user");
                    let name = recognise(&start);
                    assert_eq!(name, None, "{} {version}", ApiKey::name(api.key));
                }
            }
        }
    }
}
