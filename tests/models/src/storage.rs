//! A partition and its watchers.

mod partition;

pub use self::partition::Partition;
