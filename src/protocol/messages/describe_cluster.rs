//! DescribeCluster: the cluster's id, brokers and controller (KIP-700).
//!
//! * 1: brokers or controllers
//! * 2: fenced brokers

use crate::protocol::error_code::ErrorCode;

api!(DescribeCluster: DescribeClusterRequest => DescribeClusterResponse, versions 0..=2);

messages! {
    DescribeClusterRequest {
        include_cluster_authorized_operations: bool;
        endpoint_type: i8 = 1, only 1..;
        include_fenced_brokers: bool, only 2..;
    }
}

messages! {
    DescribeClusterResponse {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<String>;
        endpoint_type: i8 = 1, in 1..;
        cluster_id: String;
        controller_id: i32 = -1;
        brokers: Vec<DescribeClusterBroker>;
        cluster_authorized_operations: i32 = i32::MIN;
    }

    DescribeClusterBroker {
        broker_id: i32;
        host: String;
        port: i32;
        rack: Option<String>;
        is_fenced: bool, in 2..;
    }
}
