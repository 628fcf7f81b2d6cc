//! InitProducerId.

use std::collections::HashSet;

use streamline::protocol::kafka::{ErrorCode, Request};
use streamline::protocol::messages::init_producer_id::InitProducerIdRequest;

use crate::support::Server;

fn idempotent() -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: None,
        ..InitProducerIdRequest::default()
    }
}

#[test]
fn ids_are_unique_in_every_version_even_after_a_kill() {
    let mut server = Server::start();
    let mut given = HashSet::new();
    for _ in 0..3 {
        let mut client = server.connect();
        for version in InitProducerIdRequest::VERSIONS {
            let identity = client.call(version, &idempotent());
            assert_eq!(
                (identity.error_code, identity.producer_epoch),
                (ErrorCode::NONE, 0)
            );
            assert!(
                given.insert(identity.producer_id),
                "{identity:?} was given before"
            );
        }
        server.kill9();
        server.restart();
    }
}

#[test]
fn a_producer_with_an_id_gets_a_new_one() {
    let server = Server::start();
    let mut client = server.connect();
    let first = client.call(5, &idempotent());
    let request = InitProducerIdRequest {
        producer_id: first.producer_id,
        producer_epoch: first.producer_epoch,
        ..idempotent()
    };
    for version in 3..=5 {
        let next = client.call(version, &request);
        assert_eq!((next.error_code, next.producer_epoch), (ErrorCode::NONE, 0));
        assert_ne!(next.producer_id, first.producer_id);
    }
}

#[test]
fn empty_transactional_ids_and_half_known_identities_are_refused() {
    let server = Server::start();
    let mut client = server.connect();
    for version in InitProducerIdRequest::VERSIONS {
        let refused = client.call(
            version,
            &InitProducerIdRequest {
                transactional_id: Some(String::new()),
                transaction_timeout_ms: 60_000,
                ..InitProducerIdRequest::default()
            },
        );
        assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST);
        assert_eq!((refused.producer_id, refused.producer_epoch), (-1, -1));
    }
    for (producer_id, producer_epoch) in [(5, -1), (-1, 5)] {
        let half_known = InitProducerIdRequest {
            producer_id,
            producer_epoch,
            ..idempotent()
        };
        assert_eq!(
            client.call(5, &half_known).error_code,
            ErrorCode::INVALID_REQUEST
        );
    }
}
