//! Request handlers: one file per API family; the table of supported APIs is in `apis.rs`, the types they share in `call.rs`.
//!
//! [`APIS`] is the only list of APIs and versions; ApiVersions, [`dispatch`] and `docs/COMPATIBILITY.md` derive from it.
//! A handler is an async function from a request to a response. It makes its decisions by calls to the components of the
//! `Broker`, and knows nothing of frames, sockets or request metrics. Everything a handler does before it first waits
//! happens in the order in which a connection's requests arrived, since the connection polls each handler once before it
//! reads the next request.

mod api_versions;
mod apis;
mod audit;
mod authorize;
mod call;
mod cluster;
mod configs;
mod delete_records;
mod describe_producers;
mod error;
mod fetch;
mod groups;
#[cfg(test)]
mod harness;
mod init_producer_id;
#[cfg(test)]
mod isolation_tests;
mod leader_epoch;
mod list_offsets;
mod log_dirs;
mod lookup;
mod metadata;
mod offsets;
mod operations;
mod produce;
mod refusal;
mod repetition;
mod sasl_handshake;
mod session;
mod topics;

pub use apis::{APIS, Api, dispatch, waits_for_other_clients};
use call::{Answer, Call, encode, isolation, serve};
pub use call::{CloseReason, Reply};
pub use session::Session;
