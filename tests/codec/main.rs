//! The protocol's codec against an independent reference (the witness), the `kafka-protocol` crate, and against hostile
//! lengths.
//!
//! Every API, every version, requests and responses. Messages are random; a failure prints the seed, and
//! `CODEC_SEED=<number> cargo test --test codec` repeats it.

use std::fmt::Debug;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages as witness;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request as WitnessRequest};
use streamline::protocol::kafka::{
    ApiKey, EncodeError, LENGTH_BYTES, Message, Request, ResponseFrame, decode_request,
    decode_request_header, decode_response, encode_request, encode_response,
};
use streamline::protocol::messages as ours;

mod debug_tree;
#[macro_use]
mod generate;
mod corpus;
mod hostile;
mod random;

use debug_tree::{Tree, assert_within};
use generate::{Generate, Random, Writer};

/// The items that the declarations import, for their second compilation (see `generate`).
mod protocol {
    pub mod error_code {
        pub struct ErrorCode;

        impl crate::generate::Generate for ErrorCode {
            fn write(w: &mut crate::generate::Writer<'_>) {
                i16::write(w);
            }
        }
    }
}

mod record {
    pub struct Records;

    impl crate::generate::Generate for Records {
        fn write(w: &mut crate::generate::Writer<'_>) {
            bytes::Bytes::write(w);
        }
    }

    impl crate::generate::GenerateNull for Records {
        fn write_null(w: &mut crate::generate::Writer<'_>) {
            <bytes::Bytes as crate::generate::GenerateNull>::write_null(w);
        }
    }
}

/// An operation on every API with all its types.
pub trait ForApi {
    /// `R` is our request type, `W` that of the witness; `Q` and `S` generate random requests and responses.
    fn run<R, Q, S, W>(&mut self)
    where
        R: Request,
        Q: Generate,
        S: Generate,
        W: WitnessRequest<Response: Debug> + Debug;
}

macro_rules! apis {
    ($($module:ident: $request:ident, $response:ident;)*) => {
        pub fn for_every_api(what: &mut impl ForApi) {
            let keys = [$(ours::$module::$request::KEY),*];
            assert_eq!(keys.len(), ApiKey::ALL.len(), "an API is missing from this list");
            $(what.run::<
                ours::$module::$request,
                random::$module::$request,
                random::$module::$response,
                witness::$request,
            >();)*
        }
    };
}

apis! {
    produce: ProduceRequest, ProduceResponse;
    fetch: FetchRequest, FetchResponse;
    list_offsets: ListOffsetsRequest, ListOffsetsResponse;
    metadata: MetadataRequest, MetadataResponse;
    offset_commit: OffsetCommitRequest, OffsetCommitResponse;
    offset_fetch: OffsetFetchRequest, OffsetFetchResponse;
    find_coordinator: FindCoordinatorRequest, FindCoordinatorResponse;
    join_group: JoinGroupRequest, JoinGroupResponse;
    heartbeat: HeartbeatRequest, HeartbeatResponse;
    leave_group: LeaveGroupRequest, LeaveGroupResponse;
    sync_group: SyncGroupRequest, SyncGroupResponse;
    describe_groups: DescribeGroupsRequest, DescribeGroupsResponse;
    list_groups: ListGroupsRequest, ListGroupsResponse;
    sasl_handshake: SaslHandshakeRequest, SaslHandshakeResponse;
    api_versions: ApiVersionsRequest, ApiVersionsResponse;
    create_topics: CreateTopicsRequest, CreateTopicsResponse;
    delete_topics: DeleteTopicsRequest, DeleteTopicsResponse;
    delete_records: DeleteRecordsRequest, DeleteRecordsResponse;
    init_producer_id: InitProducerIdRequest, InitProducerIdResponse;
    offset_for_leader_epoch: OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    describe_configs: DescribeConfigsRequest, DescribeConfigsResponse;
    alter_configs: AlterConfigsRequest, AlterConfigsResponse;
    describe_log_dirs: DescribeLogDirsRequest, DescribeLogDirsResponse;
    create_partitions: CreatePartitionsRequest, CreatePartitionsResponse;
    delete_groups: DeleteGroupsRequest, DeleteGroupsResponse;
    incremental_alter_configs: IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    offset_delete: OffsetDeleteRequest, OffsetDeleteResponse;
    describe_cluster: DescribeClusterRequest, DescribeClusterResponse;
    describe_producers: DescribeProducersRequest, DescribeProducersResponse;
}

/// Returns the seed of this run, from the environment or at random.
fn seed() -> u64 {
    let seed = match std::env::var("CODEC_SEED") {
        Ok(seed) => seed.parse().expect("CODEC_SEED is a number"),
        Err(_) => uuid::Uuid::new_v4().as_u64_pair().0,
    };
    println!("CODEC_SEED={seed}");
    seed
}

/// Generates a random message of type `G` at a version of `R`'s API.
fn random_message<R: Request, G: Generate>(random: &mut Random, version: i16, long: bool) -> Bytes {
    let mut writer = Writer {
        out: Vec::new(),
        random,
        version,
        flexible: version >= R::FLEXIBLE_FROM,
        null_allowed: false,
        long,
    };
    G::write(&mut writer);
    writer.out.into()
}

fn joined(frame: &ResponseFrame) -> Bytes {
    let mut bytes = BytesMut::new();
    for chunk in &frame.chunks {
        bytes.extend_from_slice(&chunk.to_bytes().expect("in memory"));
    }
    assert_eq!(bytes.len(), frame.len);
    bytes.freeze()
}

fn witness_frame<B: Encodable + HeaderVersion>(
    header: &impl Encodable,
    body: &B,
    version: i16,
) -> Bytes {
    let mut bytes = BytesMut::new();
    header
        .encode(&mut bytes, B::header_version(version))
        .expect("the witness encodes a header");
    body.encode(&mut bytes, version)
        .expect("the witness encodes a body");
    bytes.freeze()
}

fn witness_body<B: Decodable>(mut bytes: Bytes, version: i16, what: &str) -> B {
    let body = B::decode(&mut bytes, version)
        .unwrap_or_else(|error| panic!("{what}: the witness rejects it: {error}"));
    assert!(
        bytes.is_empty(),
        "{what}: the witness leaves {} bytes",
        bytes.len()
    );
    body
}

/// Random messages compared per API, version and direction.
const ROUNDS: usize = 40;

struct Compare {
    random: Random,
    messages: usize,
}

impl ForApi for Compare {
    fn run<R, Q, S, W>(&mut self)
    where
        R: Request,
        Q: Generate,
        S: Generate,
        W: WitnessRequest<Response: Debug> + Debug,
    {
        for version in R::VERSIONS {
            for _ in 0..ROUNDS {
                self.request::<R, Q, W>(version);
                self.response::<R, S, W::Response>(version);
                self.messages += 2;
            }
            for _ in 0..ROUNDS / 4 {
                self.at_older_versions::<R, Q, W>(version);
            }
        }
    }
}

impl Compare {
    fn request<R, Q, W>(&mut self, version: i16)
    where
        R: Request,
        Q: Generate,
        W: WitnessRequest + Debug,
    {
        let what = format!("{} version {version}", R::NAME);
        let bytes = random_message::<R, Q>(&mut self.random, version, true);
        let request = decode_request::<R>(bytes.clone(), version)
            .unwrap_or_else(|error| panic!("{what}: {error}: {bytes:?}"));
        let theirs: W = witness_body(bytes, version, &what);
        assert_within(&Tree::of(&request), &Tree::of(&theirs), &what);

        let correlation_id = self.random.next() as i32;
        let client_id = (!self.random.one_in(3)).then_some("a client");
        let header = witness::RequestHeader::default()
            .with_request_api_key(R::KEY as i16)
            .with_request_api_version(version)
            .with_correlation_id(correlation_id)
            .with_client_id(client_id.map(kafka_protocol::protocol::StrBytes::from_static_str));
        let frame = encode_request(correlation_id, version, client_id, &request)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut body = frame.slice(LENGTH_BYTES..);
        assert_eq!(
            frame[..LENGTH_BYTES],
            (body.len() as i32).to_be_bytes(),
            "{what}"
        );
        assert_eq!(body, witness_frame(&header, &theirs, version), "{what}");

        let header = decode_request_header(&mut body).expect("our own header");
        assert_eq!(header.api_key, R::KEY as i16, "{what}");
        assert_eq!(header.correlation_id, correlation_id, "{what}");
        assert_eq!(header.client_id.as_deref(), client_id, "{what}");
        let again = decode_request::<R>(body.clone(), version).expect("our own request");
        assert_eq!(again, request, "{what}");
        witness_body::<W>(body, version, &what);
    }

    /// Encodes a message at older versions: fields that they lack are left out or rejected, as by the witness.
    fn at_older_versions<R, Q, W>(&mut self, newer: i16)
    where
        R: Request,
        Q: Generate,
        W: WitnessRequest + Debug,
    {
        let bytes = random_message::<R, Q>(&mut self.random, newer, false);
        let request = decode_request::<R>(bytes.clone(), newer).expect("a valid message");
        let theirs: W = witness_body(bytes, newer, R::NAME);
        for version in *R::VERSIONS.start()..newer {
            let what = format!("{} of version {newer} at version {version}", R::NAME);
            let mut bytes = BytesMut::new();
            let witnessed = theirs.encode(&mut bytes, version);
            let encoded = encode_request(0, version, None, &request);
            match (witnessed, encoded) {
                (Ok(()), Ok(frame)) => assert!(frame.ends_with(&bytes), "{what}"),
                (Err(_), Err(_)) => {}
                // Two cases in which the witness is less strict than Kafka's schemas.
                (Ok(()), Err(EncodeError::NullNotAllowed { .. })) => {}
                (
                    Ok(()),
                    Err(EncodeError::FieldUnknown {
                        field: "FetchRequest.replica_state",
                        ..
                    }),
                ) => {}
                (witnessed, encoded) => {
                    panic!("{what}: {encoded:?}, but the witness says {witnessed:?}")
                }
            }
        }
    }

    fn response<R, S, X>(&mut self, version: i16)
    where
        R: Request,
        S: Generate,
        X: Encodable + Decodable + HeaderVersion + Debug,
    {
        let what = format!("{} version {version}", R::Response::NAME);
        let body = random_message::<R, S>(&mut self.random, version, true);
        let theirs: X = witness_body(body.clone(), version, &what);
        let correlation_id = self.random.next() as i32;
        let header = witness::ResponseHeader::default().with_correlation_id(correlation_id);
        let frame = witness_frame(&header, &theirs, version);
        let (id, response) = decode_response::<R>(frame.clone(), version)
            .unwrap_or_else(|error| panic!("{what}: {error}: {frame:?}"));
        assert_eq!(id, correlation_id, "{what}");
        assert_within(&Tree::of(&response), &Tree::of(&theirs), &what);

        let encoded = encode_response::<R>(correlation_id, version, &response)
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        let mut encoded = joined(&encoded);
        assert_eq!(encoded.get_i32() as usize, frame.len(), "{what}");
        assert_eq!(encoded, frame, "{what}");
    }
}

#[test]
fn every_message_is_decoded_and_encoded_as_by_the_witness() {
    let mut compare = Compare {
        random: Random::new(seed()),
        messages: 0,
    };
    for_every_api(&mut compare);
    println!("{} messages compared", compare.messages);
}

#[test]
fn versions_match_those_of_the_witness() {
    struct Versions;

    impl ForApi for Versions {
        fn run<R, Q, S, W>(&mut self)
        where
            R: Request,
            Q: Generate,
            S: Generate,
            W: WitnessRequest<Response: Debug> + Debug,
        {
            assert_eq!(R::KEY as i16, W::KEY, "{}", R::NAME);
            assert_eq!(
                R::VERSIONS,
                W::VERSIONS.min..=W::VERSIONS.max,
                "{}",
                R::NAME
            );
        }
    }

    for_every_api(&mut Versions);
}

#[test]
fn consumer_assignments_encoded_by_the_witness_are_decoded() {
    use kafka_protocol::messages::consumer_protocol_assignment::TopicPartition;
    use kafka_protocol::protocol::StrBytes;

    let partitions = TopicPartition::default()
        .with_topic(StrBytes::from_static_str("orders").into())
        .with_partitions(vec![1, 2]);
    let theirs = witness::ConsumerProtocolAssignment::default()
        .with_assigned_partitions(vec![partitions])
        .with_user_data(Some(Bytes::from_static(b"opaque")));
    for version in 0..=3i16 {
        let mut bytes = BytesMut::from(&version.to_be_bytes()[..]);
        let encoded = theirs.encode(&mut bytes, version);
        encoded.expect("the witness encodes");
        let assignment =
            ours::consumer_protocol::ConsumerProtocolAssignment::decode_versioned(bytes.freeze())
                .expect("an assignment");
        assert_within(&Tree::of(&assignment), &Tree::of(&theirs), "assignment");
    }
}
