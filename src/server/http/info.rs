//! `GET /info`: version, build, addresses and counts of the server.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::{HttpState, json};

/// The part that the rest of the server contributes. Much of it is unknown until recovery is complete.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Facts {
    pub cluster_id: Option<String>,
    pub node_id: Option<i32>,
    pub addresses: Addresses,
    /// Absent until the logs are open.
    pub counts: Option<Counts>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Addresses {
    /// Address on which the server listens for Kafka clients.
    pub kafka: Option<SocketAddr>,
    /// Address returned by Metadata; absent if each client gets the one by which it connected.
    pub advertised: Option<String>,
    pub http: Option<SocketAddr>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    pub topics: usize,
    pub partitions: usize,
    pub consumer_groups: usize,
    pub connections: usize,
}

#[derive(Serialize)]
struct Info {
    name: &'static str,
    version: &'static str,
    commit: &'static str,
    build: Build,
    pid: u32,
    uptime_seconds: f64,
    #[serde(flatten)]
    facts: Facts,
}

#[derive(Serialize)]
struct Build {
    profile: &'static str,
    target: &'static str,
    rustc: &'static str,
    /// Seconds since the Unix epoch.
    time: Option<u64>,
}

pub(super) async fn get(State(state): State<HttpState>) -> Response {
    let info = Info {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("BUILT_COMMIT"),
        build: Build {
            profile: env!("BUILT_PROFILE"),
            target: env!("BUILT_TARGET"),
            rustc: env!("BUILT_RUSTC"),
            time: env!("BUILT_TIME").parse().ok(),
        },
        pid: std::process::id(),
        uptime_seconds: state.health.uptime().as_secs_f64(),
        facts: (state.facts)(),
    };
    json(StatusCode::OK, &info)
}
