//! Streamline: a Kafka-compatible streaming server with metrics, health and dashboards built in.
//!
//! Modules import only those below them:
//! `cli → server → handlers → broker → coordinator → storage, catalog → record`, and `protocol → record`.
//! `metrics`, `config`, `clock`, `fs` and `record` are leaves, with nothing but `sync` below them.
//! `docs/ARCHITECTURE.md` gives an overview.

mod broker;
mod catalog;
pub mod cli;
pub mod clock;
pub mod config;
mod coordinator;
pub mod fs;
pub mod handlers;
pub mod metrics;
pub mod protocol;
pub mod record;
pub mod server;
pub mod storage;
mod sync;
