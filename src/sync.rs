//! Names of what threads meet in, for the files that `tests/models` compiles as well.
//!
//! There loom stands behind the names, which tries every order of events and every stale value that the memory model
//! allows. So nothing is defined here, and a file that takes its atomics from here is checked with nothing changed.

pub(crate) use std::sync::atomic;
pub(crate) use std::{hint, thread};

pub(crate) use parking_lot::Mutex;
pub(crate) use tokio::sync::Notify;
