//! The whole server on a machine that fails it: disks that are full, slow, broken or hang, too few descriptors, too little
//! memory, a clock that jumps, and clients that want more than there is.
//!
//! Those that need root, for mounts and for `strace`, or Debian's packages `strace` or `faketime`, run when asked for:
//! `cargo test --test faults -- --include-ignored`. What each test found stands on a line `figures:` of its output.

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
