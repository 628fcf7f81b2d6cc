//! A client of the harness's own that costs as little as possible: requests are built once and sent as they are,
//! responses are read and checked for an error in one place, nothing else.

pub mod connection;
pub mod frames;
pub mod latency;
pub mod many;
pub mod pipeline;
pub mod small;

pub use connection::Connection;
