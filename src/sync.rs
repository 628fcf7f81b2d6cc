//! Synchronisation primitives, re-exported for the files that `tests/models` compiles as well.
//!
//! There the same names refer to loom, which explores every interleaving and every stale value that the memory model
//! allows. Nothing is defined here, so a file that imports its atomics from here is checked unchanged.

pub(crate) use std::sync::atomic;
pub(crate) use std::{hint, thread};

pub(crate) use parking_lot::Mutex;
pub(crate) use tokio::sync::Notify;
