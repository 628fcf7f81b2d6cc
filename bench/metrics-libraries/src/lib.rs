//! The server's metrics as they are, without the server: that area imports no other, so its files build alone, in
//! seconds instead of minutes.

#[path = "../../../src/metrics/mod.rs"]
pub mod metrics;

/// What the area takes from the server's `src/sync.rs`.
mod sync {
    pub(crate) use std::sync::atomic;
    pub(crate) use std::{hint, thread};
}
