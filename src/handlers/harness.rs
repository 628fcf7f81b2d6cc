//! Support for tests of handlers: a broker with a topic, and requests and responses through their encoding.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::{Session, dispatch};
use crate::broker::{Broker, NewTopic};
use crate::clock::SystemClock;
use crate::config::{Layers, load};
use crate::metrics::Metrics;
use crate::protocol::kafka::{
    LENGTH_BYTES, Request, decode_request_header, decode_response, encode_request,
};
use crate::record::Records;

/// Topic of the broker, with one partition.
pub(super) const TOPIC: &str = "orders";

/// Opens a broker in an empty directory.
pub(super) async fn open(dir: &tempfile::TempDir) -> Arc<Broker> {
    open_on(crate::fs::Fs::new(), dir).await
}

/// Opens a broker in an empty directory of a file system.
pub(super) async fn open_on(fs: crate::fs::Fs, dir: &tempfile::TempDir) -> Arc<Broker> {
    let data_dir = dir.path().display().to_string();
    let settings = load(Layers {
        flags: vec![("data_dir".to_owned(), data_dir)],
        ..Layers::default()
    });
    let broker = Broker::open(
        settings.unwrap(),
        fs,
        Metrics::new(true),
        SystemClock::new(),
        Arc::default(),
    );
    let broker = broker.await.unwrap();
    let topic = NewTopic {
        name: TOPIC.to_owned(),
        partitions: 1,
        configs: BTreeMap::new(),
    };
    broker.create_topic(topic).await.unwrap();
    broker
}

/// Starts the session of a client.
pub(super) fn connect(broker: &Arc<Broker>) -> Arc<Session> {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    Session::new(Arc::clone(broker), "PLAINTEXT".into(), nowhere, nowhere)
}

/// Sends a request and returns its response, and whether it counts as an error.
pub(super) async fn exchange<R: Request>(
    session: &Arc<Session>,
    version: i16,
    request: &R,
) -> (R::Response, bool) {
    let mut body = encode_request::<R>(1, version, None, request)
        .unwrap()
        .slice(LENGTH_BYTES..);
    let header = decode_request_header(&mut body).unwrap();
    let reply = dispatch(session, header, body).await;
    let chunks = reply.frame.unwrap().chunks;
    let bytes: Vec<u8> = chunks
        .iter()
        .flat_map(|chunk| match chunk {
            Records::Bytes(bytes) => bytes.to_vec(),
            Records::File(_) => panic!("the response refers to a file"),
        })
        .collect();
    let frame = Bytes::from(bytes).slice(LENGTH_BYTES..);
    let (_, response) = decode_response::<R>(frame, version).unwrap();
    (response, reply.error)
}
