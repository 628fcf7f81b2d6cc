//! The server's metrics without the rest of the server: that area imports no other, so its files compile separately, in
//! seconds instead of minutes.

#[path = "../../../src/metrics/mod.rs"]
pub mod metrics;

/// The part of the server's `src/sync.rs` that the area uses.
mod sync {
    pub(crate) use std::sync::atomic;
    pub(crate) use std::{hint, thread};
}
