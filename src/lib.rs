//! Streamline: a Kafka-compatible streaming server with metrics, health and dashboards built in.
//!
//! Modules import only those below them:
//! `cli → server → handlers → broker → coordinator → storage, catalog → record`, and `protocol → record`.
//! `metrics`, `config`, `clock`, `fs` and `record` are leaves, with nothing but `sync` below them.
//! `docs/ARCHITECTURE.md` gives an overview.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::disallowed_methods,
        clippy::unwrap_used,
        dead_code
    )
)]

mod broker;
mod catalog;
#[expect(
    clippy::disallowed_methods,
    reason = "clients of a server use the machine's clock and files"
)]
pub mod cli;
pub mod clock;
pub mod config;
mod coordinator;
#[expect(
    clippy::disallowed_methods,
    reason = "the calls of the operating system that everything else reaches through `Fs`"
)]
pub mod fs;
pub mod handlers;
pub mod metrics;
pub mod protocol;
pub mod record;
pub mod server;
pub mod storage;
mod sync;
