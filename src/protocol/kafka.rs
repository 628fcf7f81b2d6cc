//! Request and response frames: length, header, body.
//!
//! ```text
//! request:   length i32 │ api_key i16 │ api_version i16 │ correlation_id i32 │ client_id │ [tags] │ body
//! response:  length i32 │ correlation_id i32 │ [tags] │ body
//! ```
//!
//! The length does not include itself. Headers have tagged fields in the flexible versions of an API, except that an
//! ApiVersions response never has them: a client reads it before it knows which versions it may use (KIP-511).
//! See <https://kafka.apache.org/protocol>.

use bytes::Bytes;

pub use super::api_key::{ApiKey, UnknownApiKey};
pub use super::decoder::{DecodeError, Decoder, Problem, memory_budget};
pub use super::encoder::{EncodeError, Encoder};
pub use super::error_code::ErrorCode;
pub use super::message::{Message, Request};
pub use super::wire::{Nullable, Version, Wire};
use crate::record::Records;

/// Size of a frame's length prefix in bytes.
pub const LENGTH_BYTES: usize = 4;

/// The header of a request. Key and version are not checked and may be unknown.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<String>,
}

/// A response ready for the socket, length prefix included.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResponseFrame {
    /// In wire order, none of them empty.
    pub chunks: Vec<Records>,
    /// Total size of all chunks in bytes.
    pub len: usize,
}

/// Decodes the header at the front of a frame (without its length prefix) and leaves the body in `frame`.
///
/// For an unknown API key only the first three fields are certain. The client id is then decoded if possible, and the
/// rest of the frame has no meaning.
pub fn decode_request_header(frame: &mut Bytes) -> Result<RequestHeader, DecodeError> {
    // The client id has a fixed length prefix in every header version, so that brokers can read it before they know the
    // rest.
    let mut decoder = Decoder::new(frame.clone(), fixed(0));
    let api_key = decoder.i16()?;
    let api_version = decoder.i16()?;
    let correlation_id = decoder.i32()?;
    let client_id = match ApiKey::try_from(api_key) {
        Ok(key) => {
            // Kafka accepts invalid UTF-8 here as well: some clients send a name in Latin-1.
            let client_id = decoder.nullable_string_for_display()?;
            if api_version >= key.flexible_from() {
                decoder.skip_tagged_fields()?;
            }
            client_id
        }
        Err(UnknownApiKey(_)) => decoder.nullable_string_for_display().unwrap_or_default(),
    };
    *frame = frame.slice(frame.len() - decoder.left()..);
    Ok(RequestHeader {
        api_key,
        api_version,
        correlation_id,
        client_id,
    })
}

/// Decodes the body of a request.
///
/// Trailing bytes are ignored, as in Kafka for every API, because some clients send them: librdkafka 2.16 requests the
/// metadata of all topics with three extra bytes.
pub fn decode_request<R: Request>(body: Bytes, version: i16) -> Result<R, DecodeError> {
    let mut decoder = Decoder::new(body, version_of::<R>(version));
    if !R::VERSIONS.contains(&version) {
        return Err(decoder.error(Problem::UnsupportedVersion(version)));
    }
    R::decode(&mut decoder)
}

/// Encodes a whole response frame.
pub fn encode_response<R: Request>(
    correlation_id: i32,
    version: i16,
    response: &R::Response,
) -> Result<ResponseFrame, EncodeError> {
    if !R::VERSIONS.contains(&version) {
        return Err(EncodeError::UnsupportedVersion(version));
    }
    let mut encoder = Encoder::new(version_of::<R>(version));
    encoder.put_i32(0);
    encoder.put_i32(correlation_id);
    if has_response_tags::<R>(version) {
        encoder.put_unsigned_varint(0);
    }
    response.encode(&mut encoder)?;
    let len = encoder.len();
    encoder.set_i32(0, frame_length(len)?);
    Ok(ResponseFrame {
        chunks: encoder.into_chunks(),
        len,
    })
}

/// Encodes a whole request frame, length prefix included.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    version: i16,
    client_id: Option<&str>,
    request: &R,
) -> Result<Bytes, EncodeError> {
    if !R::VERSIONS.contains(&version) {
        return Err(EncodeError::UnsupportedVersion(version));
    }
    let mut encoder = Encoder::new(version_of::<R>(version));
    encoder.put_i32(0);
    encoder.put_i16(R::KEY as i16);
    encoder.put_i16(version);
    encoder.put_i32(correlation_id);
    match client_id {
        Some(client_id) => {
            let length = i16::try_from(client_id.len())
                .map_err(|_| EncodeError::TooLong(client_id.len()))?;
            encoder.put_i16(length);
            encoder.put_slice(client_id.as_bytes());
        }
        None => encoder.put_i16(-1),
    }
    if encoder.version().flexible {
        encoder.put_unsigned_varint(0);
    }
    request.encode(&mut encoder)?;
    let length = frame_length(encoder.len())?;
    encoder.set_i32(0, length);
    Ok(encoder.into_bytes())
}

/// Decodes a response frame (without its length prefix) into its correlation id and body.
pub fn decode_response<R: Request>(
    frame: Bytes,
    version: i16,
) -> Result<(i32, R::Response), DecodeError> {
    let mut decoder = Decoder::new(frame, version_of::<R>(version));
    if !R::VERSIONS.contains(&version) {
        return Err(decoder.error(Problem::UnsupportedVersion(version)));
    }
    let correlation_id = decoder.i32()?;
    if has_response_tags::<R>(version) {
        decoder.skip_tagged_fields()?;
    }
    let response = R::Response::decode(&mut decoder)?;
    decoder.finish()?;
    Ok((correlation_id, response))
}

/// Returns a version of `R`'s API, marked as flexible or not.
pub fn version_of<R: Request>(version: i16) -> Version {
    Version {
        number: version,
        flexible: version >= R::FLEXIBLE_FROM,
    }
}

fn fixed(number: i16) -> Version {
    Version {
        number,
        flexible: false,
    }
}

fn has_response_tags<R: Request>(version: i16) -> bool {
    version >= R::FLEXIBLE_FROM && R::KEY != ApiKey::ApiVersions
}

fn frame_length(with_prefix: usize) -> Result<i32, EncodeError> {
    i32::try_from(with_prefix - LENGTH_BYTES).map_err(|_| EncodeError::TooLong(with_prefix))
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;
    use crate::protocol::messages::fetch::{
        FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData,
    };
    use crate::protocol::messages::{ForApi, for_api, metadata};

    fn joined(frame: &ResponseFrame) -> Vec<u8> {
        let bytes: Vec<u8> = frame
            .chunks
            .iter()
            .flat_map(|chunk| chunk.to_bytes().unwrap())
            .collect();
        assert_eq!(bytes.len(), frame.len);
        bytes
    }

    struct RoundTripOfDefaults;

    impl ForApi for RoundTripOfDefaults {
        type Output = ();

        fn run<R: Request>(self) {
            for version in R::VERSIONS {
                let mut frame =
                    encode_request(7, version, Some("me"), &R::default()).expect("a default fits");
                let length = frame.split_to(LENGTH_BYTES);
                assert_eq!(length.as_ref(), (frame.len() as i32).to_be_bytes());
                let header = decode_request_header(&mut frame).unwrap();
                let expected = RequestHeader {
                    api_key: R::KEY as i16,
                    api_version: version,
                    correlation_id: 7,
                    client_id: Some("me".to_owned()),
                };
                assert_eq!(header, expected);
                let request = decode_request::<R>(frame.clone(), version).unwrap();
                assert_eq!(request, R::default(), "{} {version}", R::NAME);

                let response = encode_response::<R>(9, version, &R::Response::default()).unwrap();
                let mut bytes = Bytes::from(joined(&response));
                bytes.advance(LENGTH_BYTES);
                let (id, response) = decode_response::<R>(bytes.clone(), version).unwrap();
                assert_eq!((id, response), (9, R::Response::default()));

                let longer = |bytes: Bytes| Bytes::from([&bytes[..], &[0]].concat());
                let request = decode_request::<R>(longer(frame), version).unwrap();
                assert_eq!(request, R::default(), "{} {version}", R::NAME);
                let refused = decode_response::<R>(longer(bytes), version).unwrap_err();
                assert_eq!(refused.problem, Problem::TrailingBytes(1), "{}", R::NAME);
            }
            for version in [R::VERSIONS.start() - 1, R::VERSIONS.end() + 1] {
                assert!(decode_request::<R>(Bytes::new(), version).is_err());
                assert!(encode_request(0, version, None, &R::default()).is_err());
                assert!(encode_response::<R>(0, version, &R::Response::default()).is_err());
            }
        }
    }

    #[test]
    fn the_default_of_every_message_round_trips_at_every_version() {
        for &key in ApiKey::ALL {
            for_api(key, RoundTripOfDefaults);
        }
    }

    #[test]
    fn an_unknown_key_still_yields_a_header() {
        let mut frame = Bytes::from_static(b"\x03\xe7\0\x02\0\0\0\x05\0\x01x junk");
        let header = decode_request_header(&mut frame).unwrap();
        assert_eq!((header.api_key, header.api_version), (999, 2));
        assert_eq!(header.client_id.as_deref(), Some("x"));
        let mut frame = Bytes::from_static(b"\x03\xe7\0\x02\0\0\0\x05\x7f\xff");
        assert_eq!(decode_request_header(&mut frame).unwrap().client_id, None);
    }

    #[test]
    fn large_records_are_encoded_without_copying() {
        let records = Bytes::from(vec![7u8; 100_000]);
        let partition = |records: Bytes| PartitionData {
            records: Some(Records::Bytes(records)),
            ..PartitionData::default()
        };
        let response = FetchResponse {
            responses: vec![FetchableTopicResponse {
                topic: "t".to_owned(),
                partitions: vec![
                    partition(records.clone()),
                    partition(Bytes::from_static(b"small")),
                    partition(records.clone()),
                ],
                ..FetchableTopicResponse::default()
            }],
            ..FetchResponse::default()
        };
        for version in FetchRequest::VERSIONS.take_while(|version| *version < 13) {
            let frame = encode_response::<FetchRequest>(1, version, &response).unwrap();
            let shared = frame.chunks.iter().filter(
                |chunk| matches!(chunk, Records::Bytes(bytes) if bytes.as_ptr() == records.as_ptr()),
            );
            assert_eq!(shared.count(), 2);
            let bytes = Bytes::from(joined(&frame)).slice(LENGTH_BYTES..);
            let (_, decoded) = decode_response::<FetchRequest>(bytes, version).unwrap();
            assert_eq!(decoded, response);
        }
    }

    #[test]
    fn nested_error_codes_are_found() {
        let mut response = metadata::MetadataResponse::default();
        assert!(!response.has_error());
        response
            .topics
            .push(metadata::MetadataResponseTopic::default());
        response.topics[0].partitions.push(Default::default());
        assert!(!response.has_error());
        response.topics[0].partitions[0].error_code = ErrorCode::LEADER_NOT_AVAILABLE;
        assert!(response.has_error());
    }

    #[test]
    fn null_is_rejected_at_versions_that_do_not_allow_it() {
        let all = metadata::MetadataRequest {
            topics: None,
            ..Default::default()
        };
        assert_eq!(
            encode_request(0, 0, None, &all),
            Err(EncodeError::NullNotAllowed {
                field: "MetadataRequest.topics",
                version: 0
            })
        );
        let null = Bytes::from_static(&[0xff; 4]);
        let refused = decode_request::<metadata::MetadataRequest>(null, 0);
        assert_eq!(refused.unwrap_err().problem, Problem::UnexpectedNull);
    }

    #[test]
    fn a_request_is_not_encoded_at_a_version_without_its_fields() {
        let request = FetchRequest {
            forgotten_topics_data: vec![Default::default()],
            ..Default::default()
        };
        assert!(encode_request(0, 7, None, &request).is_ok());
        assert_eq!(
            encode_request(0, 6, None, &request),
            Err(EncodeError::FieldUnknown {
                field: "FetchRequest.forgotten_topics_data",
                version: 6
            })
        );
    }
}
