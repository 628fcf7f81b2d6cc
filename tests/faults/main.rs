//! The server on a failing machine: full, slow, failing and hanging disks, too few descriptors, too little memory, a clock
//! that jumps, and clients that request more than the server has.
//!
//! Tests that need root (for mounts and `strace`) or Debian's packages `strace` or `faketime` are ignored by default; run
//! them with `cargo test --test faults -- --include-ignored`. Each test prints its results on a line `figures:`.

#[path = "../support/mod.rs"]
mod support;

mod clock;
mod descriptors;
mod disk;
mod full_disk;
mod load;
mod numbers;
mod readers;
mod recovery;
mod slow_disk;
mod syncing;
mod tampering;

use support::kafka;
