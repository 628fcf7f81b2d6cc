//! The lean client: it sends pre-built requests and checks only the error codes of responses.

pub mod connection;
pub mod frames;
pub mod latency;
pub mod many;
pub mod pipeline;
pub mod small;

pub use connection::Connection;
