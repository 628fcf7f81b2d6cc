//! The Kafka wire protocol: frames, headers and one declaration per API.
//!
//! [`kafka`] is the way in: it turns frames into requests and responses into frames. [`messages`] declares each API
//! in a file of its own, through the macro that `message.rs` explains; `wire.rs` says how each type is encoded, over
//! `decoder.rs` (bounded reads) and `encoder.rs` (record batches pass through uncopied).
//!
//! Invariants: no length from the wire is believed before memory is taken for it; no input panics; what decodes
//! encodes to a message that decodes to the same again. Which versions and APIs are *served* is not known here.

#[macro_use]
mod message;

mod api_key;
mod decoder;
mod encoder;
mod error_code;
pub mod kafka;
pub mod messages;
mod wire;
