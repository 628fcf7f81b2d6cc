//! DescribeCluster: lists the nodes of the cluster, of which there is one.

use super::Call;
use crate::broker::NODE_ID;
use crate::protocol::kafka::ErrorCode;
use crate::protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

/// Endpoint type of brokers.
const BROKERS: i8 = 1;
/// Endpoint type of KRaft controllers, of which there are none.
const CONTROLLERS: i8 = 2;

pub(super) async fn handle(call: Call, request: DescribeClusterRequest) -> DescribeClusterResponse {
    let cluster_id = call.broker.catalog.cluster_id().to_owned();
    let refusal = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MISMATCHED_ENDPOINT_TYPE,
            "this server is a broker and has no separate controllers".to_owned(),
        )),
        other => Some((
            ErrorCode::UNSUPPORTED_ENDPOINT_TYPE,
            format!("unknown endpoint type {other}"),
        )),
    };
    if let Some((error_code, message)) = refusal {
        return DescribeClusterResponse {
            error_code,
            error_message: Some(message),
            cluster_id,
            ..DescribeClusterResponse::default()
        };
    }
    let (host, port) = call.advertised();
    DescribeClusterResponse {
        cluster_id,
        controller_id: NODE_ID,
        brokers: vec![DescribeClusterBroker {
            broker_id: NODE_ID,
            host,
            port: i32::from(port),
            ..DescribeClusterBroker::default()
        }],
        cluster_authorized_operations: call
            .cluster_operations(request.include_cluster_authorized_operations),
        ..DescribeClusterResponse::default()
    }
}
