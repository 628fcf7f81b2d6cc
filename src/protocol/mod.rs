//! The Kafka wire protocol: frames, headers and one declaration per API.
//!
//! [`kafka`] is the entry point: it decodes frames into requests and encodes responses into frames. [`messages`] declares
//! each API in a file of its own, with the macro documented in `message.rs`. `wire.rs` defines the encoding of each type,
//! on top of `decoder.rs` (bounded reads) and `encoder.rs` (record batches are passed through without copying).
//!
//! Invariants: every length from the wire is checked before memory is allocated for it; no input causes a panic; a
//! decoded message encodes to bytes that decode to the same message. Which APIs and versions are *served* is not known
//! here.

#[macro_use]
mod message;

mod api_key;
mod decoder;
mod encoder;
mod error_code;
pub mod kafka;
pub mod messages;
mod wire;
